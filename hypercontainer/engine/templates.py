"""The use cases of templates."""

from hypercontainer.engine.host import Host
from hypercontainer.factory.base import Kept
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc


class Templates:
    """Part of LocalEngine."""

    host: Host

    async def factory(self) -> doc.Factory:
        settings = self.host.settings
        shares = settings.factory == "template" and settings.template_scope != "none"
        templates = [_template(kept) for kept in self.host.factory.kept()]
        return doc.Factory(kind="template" if shares else "direct", templates=templates)

    async def clear_factory(self) -> None:
        self.host.factory.clear()


def _template(kept: Kept) -> doc.Template:
    return doc.Template(
        kernel=kept.kernel.parent.name,
        vcpus=kept.vcpus,
        memory_mib=kept.memory_mib,
        network=kept.network,
        accelerator=kept.accelerator,
        created_at=clock.rfc3339(kept.created_ns),
        size=kept.size,
        clones=kept.clones,
    )

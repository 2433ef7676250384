"""hyperctl start"""

from __future__ import annotations

from hypercontainer.hyperctl import flags
from hypercontainer.hyperctl.attach import DETACH_KEYS, SIG_PROXY, keys, need_terminal, talk
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.context import each
from hypercontainer.hyperctl.flags import Args, Command, UsageError
from hypercontainer.hyperctl.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.client.http import Client
    from hypercontainer.hyperctl.context import Context


def start(context: Context, args: Args) -> int:
    if not (args.attach or args.interactive):
        return each(args.operands, lambda name: begin(context.client, name))  # one may share another one's network
    if len(args.operands) > 1:
        raise UsageError("you cannot start and attach several containers at once", "start", status=1)
    name = args.operands[0]
    config = context.client.get(path(name))["Config"]
    stdin = args.interactive and config["OpenStdin"]
    need_terminal(tty=config["Tty"], stdin=stdin)
    with Waiting(context.client, name):
        upgraded = context.client.upgrade(path(name, "attach"), start=True, stdin=stdin, stdout=True, stderr=True)
    return talk(upgraded, stdin=stdin, tty=config["Tty"], keys=keys(args), proxy=args.sig_proxy)


def begin(client: Client, name: str) -> None:
    with Waiting(client, name):
        client.post(path(name, "start"))


COMMANDS = {
    "start": Command(
        start,
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "hyperctl start -ai shell",
        flags.switch("attach", "Show its output, and hand signals on", "a"),
        flags.switch("interactive", "Hand stdin on to it", "i"),
        SIG_PROXY,
        DETACH_KEYS,
        least=1,
        most=None,
        objects="stopped",
    )
}

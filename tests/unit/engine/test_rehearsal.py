"""A rehearsal is asked for all that a usual container is, or the first one pays for what was left out."""

from collections.abc import Iterator

from hypercontainer.engine.local import LocalEngine
from hypercontainer.factory import rehearsal
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.engine.world import Run, World

OPS = ("pod.setup", "container.create", "process.start")


def said(document: object, path: str = "") -> Iterator[str]:
    """The keys of `document` and of all in it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield f"{path}.{key}"
            yield from said(value, f"{path}.{key}")
    elif isinstance(document, list):
        for value in document:
            yield from said(value, path)


async def test_a_rehearsal_is_asked_for_what_a_usual_container_is(
    engine: LocalEngine, world: World, create: Run
) -> None:
    agents: list[FakeAgent] = []

    def agent() -> FakeAgent:
        agents.append(FakeAgent())
        return agents[-1]

    world.hypervisor.make_agent = agent
    await engine.containers.start(await create("sleep"))
    asked: dict[bool, dict[str, set[str]]] = {}
    for each in agents:
        requests = [(op, args) for op, args in each.requests if op in OPS]
        rehearses = any(args.get("id") == rehearsal.NAME for _, args in requests)
        for op, args in requests:
            asked.setdefault(rehearses, {}).setdefault(op, set()).update(said(args))
    assert set(asked[False]) == set(OPS)
    assert {op: keys - asked[True][op] for op, keys in asked[False].items()} == {op: set() for op in OPS}

"""Options of a runtime."""

from typing import Any

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.shim import messages as m
from hypercontainer.hyperd.shim import options
from hypercontainer.lib import protobuf
from tests.unit.hyperd.shim.test_messages import CONTAINERD, descriptors, differing, numbers

RUNC, GENERIC = "containerd.runc.v1.Options", "runtimeoptions.v1.Options"
CHECKPOINT = "containerd.runc.v1.CheckpointOptions"


def of(name: str, found: object) -> m.Any:
    return m.any_of(name, found)


@pytest.mark.skipif(not CONTAINERD.exists(), reason="there is no containerd")
def test_numbers_and_kinds_are_containerds() -> None:
    for package, ours in (("containerd.runc.v1", options.Runc), ("runtimeoptions.v1", options.Generic)):
        theirs = descriptors(package)["Options"]
        [found] = numbers([ours]).values()
        found.pop("config_body", None)  # which that containerd does not have yet
        assert differing({"Options": found}, {"Options": theirs}) == {}
    theirs = descriptors("containerd.runc.v1")["CheckpointOptions"]
    [found] = numbers([options.Checkpoint]).values()
    assert found == theirs


@pytest.mark.parametrize(
    "found",
    [
        None,
        m.Any(),
        of(RUNC, options.Runc(no_pivot_root=True, no_new_keyring=True, systemd_cgroup=True)),
        of(f"type.googleapis.com/{RUNC}", options.Runc(no_pivot_root=True)),
        of(GENERIC, options.Generic(type_url="io.containerd.hyper.v2")),
    ],
)
def test_what_a_machine_is_anyway_is_taken(found: m.Any | None) -> None:
    options.check(found)


@pytest.mark.parametrize(
    "name", sorted({name for name, _ in protobuf.fields(options.Runc).values()} - {*options.MEANT})
)
def test_what_a_machine_has_no_use_for_is_named(name: str) -> None:
    kind = dict(protobuf.fields(options.Runc).values())[name].kind
    said: dict[str, Any] = {name: "x" if kind == "string" else 7}
    found = options.Runc(**said)
    with pytest.raises(InvalidInput, match=f"cannot use the option {name}:"):
        options.check(of(RUNC, found))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (of(GENERIC, options.Generic(config_path="/etc/x")), "option config_path"),
        (of(GENERIC, options.Generic(config_body=b"x")), "option config_body"),
        (of("runsc.v1.Options", options.Generic(config_body=b"x")), "options of type 'runsc.v1.Options'"),
        (m.Any(type_url=RUNC, value=b"\xff"), "cut short"),
    ],
)
def test_others_are_refused(found: m.Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        options.check(found)


def test_a_checkpoint_s_are_taken() -> None:
    said = options.Checkpoint(exit=True, file_locks=True, cgroups_mode="ignore", image_path="/x", work_path="/y")
    assert options.checkpoint(of(CHECKPOINT, said)) == said
    assert options.checkpoint(None) == options.checkpoint(m.Any()) == options.Checkpoint()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (of(CHECKPOINT, options.Checkpoint(open_tcp=True)), "option open_tcp"),
        (of(CHECKPOINT, options.Checkpoint(external_unix_sockets=True)), "option external_unix_sockets"),
        (of(CHECKPOINT, options.Checkpoint(terminal=True)), "option terminal"),
        (of(CHECKPOINT, options.Checkpoint(empty_namespaces=["network"])), "option empty_namespaces"),
        (of(CHECKPOINT, options.Checkpoint(cgroups_mode="full")), "option cgroups_mode"),
        (of(RUNC, options.Runc(root="/x")), f"options of type '{RUNC}'"),
        (m.Any(type_url=CHECKPOINT, value=b"\xff"), "cut short"),
    ],
)
def test_a_checkpoint_s_that_cannot_be_are_named(found: m.Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        options.checkpoint(found)

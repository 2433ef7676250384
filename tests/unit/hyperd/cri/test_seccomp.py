"""Profiles of this host, as docker, containerd and CRI-O have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import seccomp, security
from hypercontainer.model import arch

HERE = arch.host().docker
ERRNO, ALLOW = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"


def profile(*rules: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"defaultAction": ERRNO, "syscalls": list(rules), **more}).encode()


def allowed(*rules: dict[str, Any], granted: tuple[str, ...] = ()) -> list[str]:
    found = seccomp.resolved(profile(*rules), granted)
    return [name for call in found.syscalls or [] for name in call.names]


def context(reference: str, **more: Any) -> pb.LinuxContainerSecurityContext:
    local = pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=reference)
    return pb.LinuxContainerSecurityContext(seccomp=local, **more)


def test_rules_that_hold() -> None:
    def rule(name: str, **where: Any) -> dict[str, Any]:
        return {"names": [name], "action": ALLOW, **where}

    assert allowed(
        rule("read"),
        {"name": "write", "action": ALLOW},
        rule("here", includes={"arches": [HERE]}),
        rule("elsewhere", includes={"arches": ["s390x"]}),
        rule("not here", excludes={"arches": [HERE]}),
        rule("granted", includes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("not granted", excludes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("both", includes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
        rule("new", includes={"minKernel": "4.8"}),
        rule("old", excludes={"minKernel": "4.8"}),
        rule("none", includes={}, excludes={}, args=None, comment="of docker's"),
        granted=("CAP_SYS_ADMIN",),
    ) == ["read", "write", "here", "granted", "new", "none"]


def test_architectures() -> None:
    name = f"SCMP_ARCH_{arch.host().name.upper()}"
    mapped = {"architecture": name, "subArchitectures": ["SCMP_ARCH_X86"]}
    elsewhere = {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}
    found = seccomp.resolved(profile(archMap=[mapped, elsewhere], architectures=[name]), ())
    assert found.architectures == [name, "SCMP_ARCH_X86"]


def test_a_filter(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(profile({"names": ["read", "no_such_call"], "action": ALLOW}))
    compiled = seccomp.compiled(str(path), ())
    assert compiled and len(compiled) % 8 == 0
    said = context(f"localhost/{path}")
    assert security.further(said).seccomp == compiled and security.wanted(said)["seccomp"] == "unconfined"
    before = pb.LinuxContainerSecurityContext(seccomp_profile_path=f"localhost/{path}")
    assert security.further(before).seccomp == compiled
    assert security.further(context(str(path), privileged=True)).seccomp is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"{}", "defaultAction"),
        (profile({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
        (profile({"names": ["read"], "action": ALLOW, "includes": {"minKernel": "99.1"}}), "99.1"),
        (profile(listenerPath="/x"), "listenerPath"),
        (b" " * (seccomp.MAX_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_profile(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text)
    with pytest.raises(InvalidInput, match=words) as told:
        seccomp.compiled(str(path), ())
    assert str(told.value).startswith(f"seccomp profile {path}: cannot ")


@pytest.mark.parametrize("reference", ["", "p.json", "localhost/p.json", "/no/such"])
def test_where_none_is(reference: str) -> None:
    with pytest.raises(InvalidInput, match="seccomp profile"):
        security.further(context(reference))

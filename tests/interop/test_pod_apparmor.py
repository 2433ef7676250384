"""Profiles of AppArmor in a kubelet's pods, by gRPC."""

import grpclib
import pytest

from hypercontainer.hyperd.cri import cri_pb2 as pb
from tests.interop.cri import PLUGINS, WAITS, Cri, servers

pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(not PLUGINS.exists(), reason="needs the package containernetworking-plugins"),
]

server = servers("frakti")
SAID = {"container.apparmor.security.beta.kubernetes.io/one": "localhost/hyper-denies"}
CURRENT = ("cat", "/proc/self/attr/current")


def local(name: str) -> dict[str, object]:
    return {"security_context": {"apparmor": {"profile_type": pb.SecurityProfile.Localhost, "localhost_ref": name}}}


async def test_a_profile_of_this_host(cri: Cri) -> None:
    pod = await cri.pod(annotations=SAID)
    one = await cri.started(pod, "one", *WAITS, linux=local("hyper-denies"))
    assert await cri.exec(one, *CURRENT) == "hyper-denies (enforce)"
    assert await cri.exec(one, "sh", "-c", "echo a >/tmp/a; (echo b >/tmp/denied) 2>/dev/null; ls /tmp") == "a"
    before = {"security_context": {"apparmor_profile": "localhost/hyper-denies-more"}}
    two = await cri.started(pod, "two", *WAITS, linux=before)
    assert await cri.exec(two, *CURRENT) == "hyper-denies-more (enforce)"
    usual = {"security_context": {"apparmor": {"profile_type": pb.SecurityProfile.RuntimeDefault}}}
    three = await cri.started(pod, "three", *WAITS, linux=usual)
    assert await cri.exec(three, *CURRENT) == "unconfined"


async def test_what_cannot_be_had_is_refused_in_words(cri: Cri) -> None:
    with pytest.raises(grpclib.GRPCError, match="profile 'hyper-nothing': no file in"):
        await cri.made(await cri.pod(annotations=SAID), "one", *WAITS, linux=local("hyper-nothing"))
    with pytest.raises(grpclib.GRPCError, match="was started before anybody asked for it: see the setting apparmor"):
        await cri.made(await cri.pod("other"), "one", *WAITS, linux=local("hyper-denies"), of="other")
    assert not (await cri("ListContainers")).containers

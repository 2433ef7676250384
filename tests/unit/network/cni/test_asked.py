"""What a pod asks of its network, what plugins answer, and what is in resolv.conf then."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.model.pod_network import Asked, HostPort
from hypercontainer.model.spec import Dns
from hypercontainer.network.cni import result
from hypercontainer.network.cni.asked import BURST, arguments, bits, capabilities


def test_arguments_as_the_kubelets_runtimes_give_them() -> None:
    asked = Asked(id="f00", name="web-0", namespace="shop", uid="1-2")
    assert ";".join(f"{name}={value}" for name, value in arguments(asked).items()) == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=f00;K8S_POD_UID=1-2"
    )
    with pytest.raises(InvalidInput, match="cannot tell CNI plugins K8S_POD_NAME: 'a;X=1' has a semicolon in it"):
        arguments(Asked(id="f00", name="a;X=1"))


def test_capabilities_are_what_the_pod_says_and_no_more() -> None:
    assert capabilities(Asked(id="f00")) == {}
    asked = Asked(
        id="f00",
        annotations={"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1Mi"},
        ports=[HostPort(8080, 80, "TCP"), HostPort(0, 81), HostPort(53, 53, "UDP", "10.0.0.1")],
        dns=Dns(nameservers=["10.0.0.10"], search=["a.b"], options=["ndots:5"]),
        ips=["10.0.0.7"],
        mac="02:00:00:00:00:07",
    )
    assert capabilities(asked) == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.0.0.1"},
        ],
        "bandwidth": {
            "ingressRate": 10_000_000, "ingressBurst": BURST, "egressRate": 1 << 20, "egressBurst": BURST,
        },
        "dns": {"servers": ["10.0.0.10"], "searches": ["a.b"], "options": ["ndots:5"]},
        "ips": ["10.0.0.7"],
        "mac": "02:00:00:00:00:07",
        "io.kubernetes.cri.pod-annotations": asked.annotations,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10M", 10_000_000), ("1Gi", 1 << 30), ("1k", 1000), ("1500", 1500), ("1.5k", 1500), ("2e6", 2_000_000),
        ("1E3", 1000), (".5k", 500), ("1001m", 2), ("", None), ("10 M", None), ("1kB", None), ("-1", None),
        ("1" * 30, None), ("٣", None),
    ],
)  # fmt: skip
def test_quantities_as_kubernetes_writes_them(text: str, value: int | None) -> None:
    assert bits(text) == value


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6}[kKMGi]{0,2}(e[0-9]{1,3})?", fullmatch=True))
def test_what_is_no_bandwidth_is_refused(text: str) -> None:
    try:
        said = capabilities(Asked(id="f00", annotations={"kubernetes.io/ingress-bandwidth": text}))
        assert not text or 1000 <= said["bandwidth"]["ingressRate"] <= 10**15
    except InvalidInput as e:
        assert "kubernetes.io/ingress-bandwidth" in str(e)


def parsed(document: object) -> result.Result:
    return result.parse(json.dumps(document).encode(), "it")[1]


@pytest.mark.parametrize(
    ("document", "addresses"),
    [
        ({"ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}]}, ["10.0.0.2", "fd00::2"]),
        ({"ips": [{"version": "4", "address": "10.0.0.2/24", "interface": 0}], "interfaces": [{"name": "eth0"}]},
         ["10.0.0.2"]),
        ({"ips": [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.2/24", "interface": 1}],
          "interfaces": [{"name": "cni0", "mac": None}, {"name": "eth0", "sandbox": "/x"}], "routes": None},
         ["10.0.0.2"]),
        ({"ips": [{"address": "10.0.0.2/24"}, {"address": "10.0.0.2/32"}]}, ["10.0.0.2"]),
        ({"ips": None}, []),
    ],
)  # fmt: skip
def test_addresses_are_those_of_the_pods_interface(document: Any, addresses: list[str]) -> None:
    assert parsed(document).addresses("eth0") == addresses


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "it is no object"),
        ({"ips": [{"address": "10.0.0.2/99"}]}, "is no address"),
        ({"ips": [{"address": "10.0.0.2", "interface": 1}], "interfaces": [{"name": "eth0"}]}, "no interface 1"),
        ({"ips": [{"address": "10.0.0.2", "interface": -1}], "interfaces": [{"name": "eth0"}]}, "no interface -1"),
        ({"ips": [{"address": "10.0.0.2"}] * 65}, "more than 64"),
        ({"ips": "10.0.0.2"}, "cannot read it"),
    ],
)
def test_what_is_no_result_is_refused(document: object, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parsed(document).addresses("eth0")


@given(
    st.binary(max_size=100)
    | st.builds(
        lambda ips, more: json.dumps({"ips": ips, "interfaces": more}).encode(),
        st.lists(st.dictionaries(st.sampled_from(["address", "interface"]), st.text() | st.integers() | st.none())),
        st.lists(st.dictionaries(st.just("name"), st.just("eth0") | st.none())),
    )
)
def test_whatever_a_plugin_says_is_a_result_or_refused(data: bytes) -> None:
    try:
        result.parse(data, "it")[1].addresses("eth0")
    except HyperError:
        pass


def test_nameservers_are_the_pods_where_the_network_says_some() -> None:
    dns = {"nameservers": ["10.0.0.10", "fd00::a"], "search": ["a.svc"], "options": ["ndots:5"], "domain": "x"}
    assert parsed({"dns": dns}).resolver() == Dns(
        nameservers=["10.0.0.10", "fd00::a"], search=["a.svc"], options=["ndots:5"]
    )
    assert parsed({"dns": {"domain": "x", "search": None}}).resolver() == Dns(search=["x"])
    assert parsed({"dns": None}).resolver() is None is parsed({"dns": {}}).resolver()

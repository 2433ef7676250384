"""Every route once, bad input, errors, and random input: whatever comes, the answer is ours."""

import asyncio
import io
import logging
import re
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercontainer.errors import AlreadyExists, Exhausted, GuestError, NotFound, TimedOut
from hypercontainer.hyperd.http.call import Lines, Route
from hypercontainer.hyperd.http.call import Raw as Plain
from hypercontainer.hyperd.rest.routes import ROUTES
from hypercontainer.model.principal import Role
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, PodSpec, SubnetSpec
from tests.unit.hyperd.conftest import Server
from tests.unit.hyperd.raw import Raw

QUERIES = {
    "/v1/containers/{c}/rename": "?name=other",
    "/v1/containers/{c}/resize": "?rows=24&columns=80",
    "/v1/exec/{id}/resize": "?rows=24&columns=80",
    "/v1/containers/{c}/archive": "?path=/etc",
    "/v1/images/inspect": "?name=busybox",
    "/v1/images/history": "?name=busybox",
    "/v1/images/save": "?name=busybox&name=debian",
    "/v1/images/tag": "?name=busybox&target=mine:1",
    "/v1/kernels/use": "?name=debian",
}
BODIES: dict[str, Any] = {
    "/v1/containers": {"containers": [{"image": "busybox"}]},
    "/v1/containers/{c}/exec": {"command": ["true"], "detach": True},
    "/v1/containers/{c}/update": {"cpus": 1.5},
    "/v1/containers/{c}/checkpoints": {"name": "then"},
    "/v1/pods": {"name": "p"},
    "/v1/pods/{p}/containers": {"image": "busybox"},
    "/v1/images/pull": {"name": "busybox", "auth": {"username": "u", "password": "hush"}},
    "/v1/images/push": {"name": "host/a:1", "auth": {"username": "u", "password": "hush"}},
    "/v1/networks": {"name": "db"},
    "/v1/networks/{n}/connect": {"container": "web"},
    "/v1/networks/{n}/disconnect": {"container": "web"},
    "/v1/login": {"registry": "r.io:5000", "auth": {"username": "u", "password": "hush"}},
}


def target(route: Route[Any, Any]) -> str:
    query = "?name=busybox" if route.method == "DELETE" and route.path == "/v1/images" else QUERIES.get(route.path, "")
    return re.sub(r"{\w+}", "web", route.path) + query


# attach is a stream: test_streams.py
@pytest.mark.parametrize(
    "route", [r for r in ROUTES if not r.path.endswith("/attach")], ids=lambda r: f"{r.method} {r.path}"
)
async def test_every_route_answers_as_the_table_says(server: Server, route: Route[Any, Any]) -> None:
    named: dict[str, Any] = {"json": BODIES[route.path]} if route.path in BODIES and route.method == "POST" else {}
    if route.body is Plain.TAR:
        named = {"data": b"tar" * 1000}
    async with server.http.request(route.method, f"http://hyper{target(route)}", **named) as response:
        body = await response.read()
        assert response.status == (204 if not body else 200), body
        if isinstance(route.answer, Lines):
            assert response.content_type == "application/x-ndjson"
            kinds = route.answer.kinds
            assert [msgspec.json.decode(line, type=one_of(kinds, line)) for line in body.splitlines()]
        elif route.answer is Plain.TAR:
            assert response.content_type == "application/x-tar"
            assert body
        elif body and not isinstance(route.answer, Plain) and body != b"null":
            msgspec.json.decode(body, type=route.answer)
    if route.body is Plain.TAR:
        assert server.engine.received == b"tar" * 1000


def one_of(kinds: tuple[Any, ...], line: bytes) -> Any:
    """The Struct whose fields `line` has."""
    keys = set(msgspec.json.decode(line))
    return next(k for k in kinds if keys <= {f.encode_name for f in msgspec.structs.fields(k)})


async def call(server: Server, method: str, where: str, **named: object) -> tuple[Any, ...]:
    """What the engine was asked, when all went well."""
    status, document = await server.ask(method, where, **named)
    assert status in (200, 204), document
    return server.engine.calls[-1]


async def test_what_is_asked_reaches_the_engine_typed(server: Server) -> None:
    assert await call(server, "POST", "/v1/containers/web/stop?timeout=2.5") == ("containers.stop", ("web", 2.5), {})
    assert await call(server, "POST", "/v1/containers/web/stop") == ("containers.stop", ("web", None), {})
    assert await call(server, "POST", "/v1/containers/web/kill?signal=SIGHUP") == ("containers.kill", ("web", 1), {})
    assert await call(server, "POST", "/v1/containers/web/kill") == ("containers.kill", ("web", 9), {})
    name, _, named = await call(server, "GET", "/v1/containers?all=1&filter=label%3Da%3Db&filter=label=c&filter=id=x")
    assert (name, named) == (
        "containers.list",
        {"all": True, "filters": {"label": ["a=b", "c"], "id": ["x"]}, "size": False, "all_owners": False},
    )
    _, args, named = await call(server, "DELETE", "/v1/containers/web?force=true&volumes=0")
    assert (args, named) == (("web",), {"force": True, "volumes": False})
    _, args, named = await call(server, "POST", "/v1/images/import?change=CMD+sh&change=ENV+A%3D1", data=b"tar")
    assert named == {"name": "", "changes": ["CMD sh", "ENV A=1"], "message": "", "platform": ""}


async def test_a_container_is_made_with_a_pod_of_its_own_or_in_one(server: Server) -> None:
    _, (spec,), _ = await call(server, "POST", "/v1/containers", json={"containers": [{"image": "busybox"}]})
    assert spec == PodSpec(containers=[ContainerSpec(image="busybox")])
    name, args, _ = await call(server, "POST", "/v1/pods/p/containers", json={"image": "busybox"})
    assert (name, args) == ("pods.add", ("p", ContainerSpec(image="busybox")))


async def test_networks_and_who_joins_them(server: Server) -> None:
    subnets = [{"subnet": "10.1.2.0/24", "gateway": "10.1.2.9"}]
    _, (spec,), named = await call(server, "POST", "/v1/networks", json={"name": "db", "subnets": subnets})
    assert spec == NetworkSpec(name="db", subnets=[SubnetSpec(subnet="10.1.2.0/24", gateway="10.1.2.9")])
    assert named["by"].role == Role.ADMIN
    body = {"container": "web", "address": "10.1.2.3", "aliases": ["store"]}
    name, args, _ = await call(server, "POST", "/v1/networks/db/connect", json=body)
    assert (name, args) == ("networks.connect", ("db", "web", EndpointSpec(address="10.1.2.3", aliases=["store"])))
    name, args, named = await call(server, "POST", "/v1/networks/db/disconnect", json={"container": "web"})
    assert (name, args, named) == ("networks.disconnect", ("db", "web"), {"force": False})
    assert await call(server, "DELETE", "/v1/networks/db") == ("networks.remove", ("db",), {})
    assert await call(server, "POST", "/v1/networks/prune?filter=label=a") == (
        "networks.prune", (), {"wanted": {"label": ["a"]}},
    )  # fmt: skip
    for wrong in ({"name": "db", "subnets": [{}]}, {"name": "db", "driver": 1}, {"driver": "bridge"}):
        status, _ = await server.ask("POST", "/v1/networks", json=wrong)
        assert status == 400


async def test_times_are_seconds_or_rfc_3339(server: Server) -> None:
    async def since(text: str) -> object:
        async with server.http.get(f"http://hyper/v1/events?since={quote(text)}") as response:
            assert response.status == 200, await response.text()
        return server.engine.calls[-1][1][0]

    assert await since("1700000000.5") == 1_700_000_000_500_000_000
    assert await since("2023-11-14T22:13:20Z") == 1_700_000_000_000_000_000
    assert await since("2023-11-14T23:13:20.000000001+01:00") == 1_700_000_000_000_000_001


async def test_logs_of_both_streams_unless_one_is_named(server: Server) -> None:
    async def streams(query: str) -> tuple[bool, bool]:
        async with server.http.get(f"http://hyper/v1/containers/web/logs{query}") as response:
            await response.read()
        named = server.engine.calls[-1][2]
        return named["stdout"], named["stderr"]

    assert await streams("") == (True, True)
    assert await streams("?stdout=1") == (True, False)
    assert await streams("?stderr=1&stdout=0") == (False, True)


BAD = [
    ("GET", "/v1/containers?al=1", b"", "al"),
    ("GET", "/v1/containers?all=maybe", b"", "all"),
    ("GET", "/v1/containers?all=1&all=1", b"", "all"),
    ("GET", "/v1/containers?filter=novalue", b"", "novalue"),
    ("POST", "/v1/containers/web/stop?timeout=-1", b"", "timeout"),
    ("POST", "/v1/containers/web/stop?timeout=nan", b"", "timeout"),
    ("POST", "/v1/containers/web/stop?timeout=1e9", b"", "timeout"),
    ("POST", "/v1/containers/web/kill?signal=SIGNONE", b"", "signal"),
    ("POST", "/v1/containers/web/kill?signal=0", b"", "signal"),
    ("POST", "/v1/containers/web/kill?signal=RTMIN%2B99", b"", "signal"),
    ("POST", "/v1/containers/web/resize?rows=24", b"", "columns"),
    ("POST", "/v1/containers/web/resize?rows=24&columns=100000", b"", "columns"),
    ("POST", "/v1/containers/..%2f..%2fetc/start", b"", "name"),
    ("POST", "/v1/containers/%2d-help/start", b"", "name"),
    ("POST", "/v1/containers/" + "a" * 256 + "/start", b"", "name"),
    ("POST", "/v1/containers/web/start", b"{}", "body"),
    ("POST", "/v1/containers", b"", "body"),
    ("POST", "/v1/containers", b"{", "body"),
    ("POST", "/v1/containers", b"\xff\xfe", "body"),
    ("POST", "/v1/containers", b"[" * 100_000, "body"),
    ("POST", "/v1/containers", b'{"nmae":"x"}', "nmae"),
    ("POST", "/v1/containers", b'{"containers":[{"image":"x","evn":[]}]}', "evn"),
    ("POST", "/v1/containers", b'{"containers":[{"image":1}]}', "$.containers[0].image"),
    ("POST", "/v1/pods/p/containers", b'{"containers":[]}', "containers"),
    ("POST", "/v1/containers/web/exec", b'{"command":[]}', "command"),
    ("POST", "/v1/images/pull", b'{"name":""}', "name"),
    ("POST", "/v1/images/pull", b'{"name":"x","auth":{"pasword":"y"}}', "pasword"),
    ("GET", "/v1/images/save?name=a&format=zip", b"", "format"),
    ("GET", "/v1/images/save", b"", "name"),
    ("GET", "/v1/images/inspect", b"", "name"),
    ("GET", "/v1/containers/web/archive", b"", "path"),
    ("GET", "/v1/containers/web/logs?tail=-1", b"", "tail"),
    ("GET", "/v1/containers/web/logs?since=yesterday", b"", "yesterday"),
    ("GET", "/v1/events?since=2023-13-45T99:00:00Z", b"", "2023"),
    ("GET", "/v1/events?since=" + "9" * 41, b"", "since"),
]


@pytest.mark.parametrize(("method", "where", "body", "named"), BAD)
async def test_bad_input_is_refused_by_name(server: Server, method: str, where: str, body: bytes, named: str) -> None:
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    await raw.request(method, where, body)
    status, head = await raw.head()
    document = msgspec.json.decode(await raw.reader.readexactly(length(head)))
    assert (status, document["kind"]) == (400, "invalid")
    assert named in document["message"]
    assert server.engine.calls == []
    await raw.close()


def length(head: str) -> int:
    found = re.search(r"Content-Length: (\d+)", head)
    assert found, head
    return int(found[1])


async def test_unknown_paths_and_methods(server: Server) -> None:
    assert (await server.ask("GET", "/v2/containers"))[0] == 404
    status, document = await server.ask("PUT", "/v1/containers")
    assert (status, document["kind"]) == (405, "invalid")  # type: ignore[index]


async def test_a_document_larger_than_a_mebibyte_is_refused(server: Server) -> None:
    status, document = await server.ask("POST", "/v1/pods", data=io.BytesIO(b" " * (1 << 20) + b"{}"))
    assert (status, document["kind"]) == (413, "invalid")  # type: ignore[index]


async def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    status, _ = await server.ask(
        "POST", "/v1/pods", data=b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}, compress=False
    )
    assert status == 400


@pytest.mark.parametrize(
    ("error", "status", "document"),
    [
        (
            NotFound("container", "web"),
            404,
            {"message": "no such container: web", "kind": "not-found", "what": "container", "name": "web"},
        ),
        (
            AlreadyExists("the name web is taken", "pod", "web", "0123"),
            409,
            {"message": "the name web is taken", "kind": "already-exists", "what": "pod", "name": "web", "id": "0123"},
        ),
        (TimedOut("too slow"), 504, {"message": "too slow", "kind": "timeout"}),
        (Exhausted("disk is full"), 507, {"message": "disk is full", "kind": "exhausted"}),
        (
            GuestError("mount x: no such file", 2),
            502,
            {"message": "mount x: no such file", "kind": "guest", "errno": 2},
        ),
        (
            GuestError("exec x: no such file", 2, exec=True),
            502,
            {"message": "exec x: no such file", "kind": "guest", "errno": 2, "exec": True},
        ),
    ],
)
async def test_errors_keep_their_kind(server: Server, error: Exception, status: int, document: object) -> None:
    server.engine.answers["containers.start"] = error
    assert await server.ask("POST", "/v1/containers/web/start") == (status, document)


async def test_a_bug_is_logged_once_and_keeps_its_innards(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.engine.answers["containers.start"] = ValueError("/secret/path")
    status, document = await server.ask("POST", "/v1/containers/web/start")
    assert (status, document["kind"]) == (500, "internal")  # type: ignore[index]
    assert "secret" not in str(document)
    assert caplog.text.count("ValueError: /secret/path") == 1


async def test_who_changed_something_is_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await server.ask("GET", "/v1/ping")
        await server.ask("POST", "/v1/containers/web%0Ax/start")
        await server.ask("POST", "/v1/containers/web/start")
    said = [r.getMessage() for r in caplog.records if r.name == "hyperd.http"]
    assert len(said) == 2
    assert re.match(r"POST /v1/containers/web%0Ax/start by uid \d+ pid \d+: 400 in", said[0])
    assert ": 204 in" in said[1]


async def test_a_call_goes_on_without_its_caller(server: Server) -> None:
    began, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> None:
        began.set()
        await go_on.wait()
        done.set()

    server.engine.answers["containers.start"] = slow
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    await raw.request("POST", "/v1/containers/web/start")
    await began.wait()
    await raw.close()
    go_on.set()
    await done.wait()


async def test_waiting_ends_with_its_caller(server: Server) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server.engine.answers["containers.wait"] = slow
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    await raw.request("POST", "/v1/containers/web/wait")
    await began.wait()
    await raw.close()
    await cancelled.wait()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
SPEC = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=5) | JSON,
        "containers": st.lists(st.fixed_dictionaries({"image": st.text()}, optional={"env": JSON, "cpus": JSON})),
        "ports": JSON,
        "memory_mib": JSON,
    },
)
TAKERS = [r for r in ROUTES if r.body is not None and r.body is not Plain.TAR]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(TAKERS), body=JSON | SPEC)
async def test_random_documents_never_break_it(server: Server, route: Route[Any, Any], body: object) -> None:
    data = msgspec.json.encode(body)
    async with server.http.request(route.method, f"http://hyper{target(route)}", data=data) as response:
        assert response.status < 500, await response.text()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=st.sampled_from([r for r in ROUTES if not isinstance(r.answer, Lines)]),
    pairs=st.dictionaries(st.sampled_from(["all", "filter", "timeout", "signal", "name", "x"]) | st.text(), st.text()),
    name=st.text(min_size=1),
)
async def test_random_queries_never_break_it(
    server: Server, route: Route[Any, Any], pairs: dict[str, str], name: str
) -> None:
    path = re.sub(r"{\w+}", quote(name, safe="", errors="ignore") or "x", route.path)
    query = "&".join(f"{quote(k, errors='ignore')}={quote(v, errors='ignore')}" for k, v in pairs.items())
    raw = Raw(*await asyncio.open_unix_connection(server.path))
    await raw.request(route.method, f"{path}?{query}", b"")
    status, _ = await raw.head()
    assert status < 500
    await raw.close()


async def test_the_client_library_needs_no_host_name(server: Server) -> None:
    connector = aiohttp.UnixConnector(str(server.path))
    async with aiohttp.ClientSession(connector=connector) as http, http.get("http://anything/v1/ping") as response:
        assert await response.json() == {"Ok": True}

"""Five projects of real kinds: each comes up, is used, outlives a hyperd that is killed, is used again, and goes."""

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.interop.clients import CLIENTS
from tests.interop.compose import EACH, Compose
from tests.vm.conftest import nothing_left as nothing_left  # of each stack, on this host

CORPUS, STACKS = CLIENTS / "corpus/corpus.tar", Path(__file__).with_name("stacks")
SOON_S = 600.0  # that what is waited for may take; nobody pays for room
pytestmark = [
    pytest.mark.interop,
    pytest.mark.docker,
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="hyperd is root's"),
    pytest.mark.skipif(not CORPUS.exists(), reason="there is no image of Debian's programs: run `make interop`"),
]

Stack = Callable[[str], AbstractContextManager[Compose]]


@pytest.fixture(scope="module")
def corpus(shared_hyperd: PrivateDaemon) -> Iterator[str]:
    path = "PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = shared_hyperd.ctl("import", "-c", f"ENV {path}", str(CORPUS), "corpus")
    assert done.status == 0, done
    yield "corpus"
    assert shared_hyperd.ctl("rmi", "corpus").status == 0


@pytest.fixture(params=EACH)
def stack(request: pytest.FixtureRequest, corpus: str, hyper: PrivateDaemon, tmp_path: Path) -> Stack:
    """`with stack(NAME) as compose`: the project is gone after it, and of it nothing is left."""

    @contextmanager
    def project(name: str) -> Iterator[Compose]:
        compose = Compose(request.param, hyper, STACKS / name, name, tmp_path)
        try:
            yield compose
        finally:
            compose.ok("--profile", "*" if compose.kind == "2" else "debug", "down", "-v", "-t", "1")
        for what in (["ps", "-a"], ["volume", "ls"], ["network", "ls", "--filter", "type=custom"]):
            assert hyper.ctl(*what, "-q").out == "", what

    return project


def killed(hyper: PrivateDaemon) -> None:
    """And there again."""
    hyper.signal(signal.SIGKILL)
    hyper.start()


def page(url: str) -> str:
    """What is served there; who serves may not listen yet."""
    deadline = time.monotonic() + SOON_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                text: bytes = answer.read()
                return text.decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_cache(stack: Stack, hyper: PrivateDaemon) -> None:
    with stack("cache") as compose:
        compose.ok("up", "-d")
        hits = f"{compose.url('web')}/cgi-bin/hits"
        assert [page(hits).strip() for _ in range(3)] == ["1", "2", "3"]
        killed(hyper)
        assert page(hits).strip() == "4"
        compose.ok("restart", "-t", "10", "redis")  # a new machine, and perhaps another address: it has a name
        compose.ok("exec", "-T", "web", "sh", "-c", "until redis-cli -h redis ping; do sleep 1; done")
        assert page(hits).strip() == "5"


def test_two_networks(stack: Stack, hyper: PrivateDaemon) -> None:
    with stack("networks") as compose:
        compose.ok("up", "-d")

        def ask(service: str, *words: str) -> str:
            return compose.ok("exec", "-T", service, *words)

        def reaches(service: str, *words: str) -> bool:
            return compose("exec", "-T", service, *words).status == 0

        def used() -> None:
            for name in ("site", "web"):
                curl = ["curl", "-sfS", "--retry", "60", "--retry-connrefused"]
                assert ask("client", *curl, f"http://{name}/") == "here\n"
            assert ask("store", "curl", "-sfS", "http://upstream/") == "here\n"
            for name in ("db", "cache", "store"):
                assert ask("web", "redis-cli", "-h", name, "ping") == "PONG\n"
                assert not reaches("client", "getent", "hosts", name)
            assert not reaches("client", "getent", "hosts", "upstream")
            assert not reaches("client", "redis-cli", "-h", address("store"), "-t", "5", "ping")
            assert "default" not in ask("store", "busybox", "ip", "route")

        def address(service: str) -> str:
            [found] = json.loads(hyper.ctl("inspect", *compose.names([service])).out)
            return str(found["NetworkSettings"]["Networks"]["networks_back"]["IPAddress"])

        used()
        killed(hyper)
        used()


def test_a_database(stack: Stack, hyper: PrivateDaemon) -> None:
    with stack("database") as compose:
        compose.ok("up", "-d")
        visit = f"{compose.url('app')}/cgi-bin/visit?"
        assert page(f"{visit}ann") == "ann\n"
        killed(hyper)
        assert page(f"{visit}bob") == "ann\nbob\n"
        compose.ok("down", "-t", "60")  # without -v: what is in the volume stays
        compose.ok("up", "-d")
        visit = f"{compose.url('app')}/cgi-bin/visit?"
        assert page(f"{visit}eve") == "ann\nbob\neve\n"


def test_three_behind_a_proxy(stack: Stack, hyper: PrivateDaemon) -> None:
    with stack("proxy") as compose:
        compose.ok("up", "-d", "--scale", "backend=3")

        def served_by_all(count: int) -> None:
            url = f"{compose.url('proxy')}/cgi-bin/name"
            wanted = {id[:12] for id in compose.ok("ps", "-q", "backend").split()}
            assert len(wanted) == count
            deadline = time.monotonic() + SOON_S
            while (seen := {page(url).strip() for _ in range(count * 5)}) != wanted:
                assert time.monotonic() < deadline, (seen, wanted)

        served_by_all(3)
        killed(hyper)
        served_by_all(3)
        compose.ok("up", "-d", "--scale", "backend=1")
        served_by_all(1)
        compose.ok("up", "-d", "--scale", "backend=2")
        served_by_all(2)


def test_profiles_and_conditions(stack: Stack, hyper: PrivateDaemon) -> None:
    with stack("conditions") as compose:
        compose.ok("up", "-d")

        def inspect(service: str) -> dict[str, Any]:
            [found] = json.loads(hyper.ctl("inspect", *compose.names([service])).out)
            assert isinstance(found, dict)
            return found

        def used(services: set[str]) -> None:
            listed = hyper.ctl("ps", "--format", "{{.Names}}").out.split()
            assert set(listed) == set(compose.names(sorted(services)))
            assert "migrated" in compose.ok("logs", "app")

        def retried() -> None:
            """Until it was good."""
            deadline = time.monotonic() + SOON_S
            while (state := inspect("retried")["State"])["Status"] != "exited" or state["ExitCode"] != 0:
                assert time.monotonic() < deadline, state
                time.sleep(0.1)

        retried()
        assert inspect("retried")["RestartCount"] == 2
        assert inspect("migration")["State"]["FinishedAt"] <= inspect("app")["State"]["StartedAt"]
        used({"app", "store"})
        killed(hyper)
        used({"app", "store"})
        compose.ok("--profile", "debug", "up", "-d")
        retried()
        used({"app", "store", "debug"})
        refused = compose("--profile", "broken", "up", "-d", "never")
        assert refused.status != 0
        assert "broken" in refused.err
        used({"app", "store", "debug"})

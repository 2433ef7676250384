"""The same cases for each runtime: `pytest tests/oci [--runtime PATH ...]`. One that is named runv has a hyperd."""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hypercontainer.testing.daemon import private_daemon
from tests.oci import known, reaper
from tests.oci.runtime import Runtime, private_mounts

RUNV = "runv"  # ours, which needs a hyperd
RUNTIMES = ("runc", "crun", RUNV)  # each where it is installed
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
OURS = Path(sys.executable).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", action="append", default=[], metavar="PATH", help="an OCI runtime, for tests/oci")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "oci" not in metafunc.fixturenames:
        return
    search = f"{OURS}:{os.environ.get('PATH', '')}:{SBIN}"
    programs = metafunc.config.getoption("runtime", []) or [shutil.which(name, path=search) for name in RUNTIMES]
    found = [Path(program).absolute() for program in programs if program]
    none = pytest.param(None, marks=pytest.mark.skip("no OCI runtime is installed"))
    metafunc.parametrize("oci", found or [none], ids=[path.name for path in found] or ["none"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is known to fail has to: a reason without a difference is a failure."""
    for item in items:
        if isinstance(item, pytest.Function) and "oci" in item.fixturenames:
            item.add_marker(pytest.mark.interop)
            program = item.callspec.params["oci"]
            runtime = program.name if isinstance(program, Path) else ""
            if found := known.find(runtime, case(item, runtime)):
                item.add_marker(pytest.mark.xfail(reason=f"{runtime}: {found.why}", strict=found.always))


def case(item: pytest.Function, runtime: str) -> str:
    """FILE::FUNCTION[PARAMETER], whatever the runtime."""
    parameters = [part for part in item.callspec.id.split("-") if part != runtime]
    name = getattr(item, "originalname", item.name)
    return f"{item.path.name}::{name}" + (f"[{'-'.join(parameters)}]" if parameters else "")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that passes and leaves something fails."""
    result = yield
    if isinstance(oci := pyfuncitem.funcargs.get("oci"), Runtime):
        oci.end()
    return result


@pytest.fixture(scope="session")
def holder() -> Iterator[int]:
    """The process whose mount namespace the runtimes run in."""
    if os.geteuid() != 0:
        pytest.skip("containers are root's here")
    with reaper.subreaper(), private_mounts() as pid:
        yield pid


@pytest.fixture(scope="session")
def hyperd(kernels: Path) -> Iterator[None]:
    """A hyperd that each runv of the tests calls. No guest waits in it: processes that are left are a container's."""
    with (
        private_daemon(kernels, {"accelerator": "tcg", "memory_mib": 256, "pool": []}) as daemon,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("HYPER_OCI_HOST", f"unix://{daemon.folder}/hyper-oci.sock")
        yield


@pytest.fixture
def oci(request: pytest.FixtureRequest, holder: int) -> Iterator[Runtime]:
    """The runtime, with a root of its own."""
    if request.param.name == RUNV:
        request.getfixturevalue("hyperd")
    runtime = Runtime(request.param, holder)
    yield runtime
    if runtime.folder.exists():  # the test has failed
        with suppress(AssertionError):
            runtime.end()

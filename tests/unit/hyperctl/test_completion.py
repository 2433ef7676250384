import shutil
import subprocess

import pytest

from tests.unit.hyperctl.conftest import Hyperctl


@pytest.fixture
def complete(hyperctl: Hyperctl):  # type: ignore[no-untyped-def]
    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/containers"] = lambda r: (
        [{"Names": ["/web"], "Image": "nginx"}] + ([{"Names": ["/old"], "Image": "x"}] if r.query else [])
    )
    answers["GET", "/v1/images"] = [{"RepoTags": ["busybox:latest", "nginx:1"]}]
    answers["GET", "/v1/pods"] = [{"Name": "pod1"}]

    def run(*words: str) -> list[str]:
        done = hyperctl("__complete", "--", *words)
        assert (done.status, done.err) == (0, "")
        return done.out.splitlines()

    return run


def names(lines: list[str]) -> list[str]:
    return [line.partition("\t")[0] for line in lines]


def test_candidates(complete) -> None:  # type: ignore[no-untyped-def]
    assert complete("ru") == ["run\tCreate a container from an image, in a VM of its own, and run it"]
    assert {"ps", "pod", "run", "completion"} <= set(names(complete("")))
    assert "__complete" not in names(complete("_"))
    assert names(complete("pod", "l")) == ["ls"]
    assert names(complete("logs", "--f")) == ["--follow"]
    assert names(complete("exec", "")) == ["web"]
    assert complete("rm", "") == ["web\tnginx", "old\tx"]
    assert names(complete("rm", "-f", "o")) == ["old"]
    assert names(complete("logs", "web", "")) == []
    assert names(complete("run", "-it", "b")) == ["busybox:latest"]
    assert names(complete("run", "--name", "")) == []
    assert names(complete("run", "--pod", "")) == ["pod1"]
    assert names(complete("run", "-itp", "")) == []
    assert names(complete("run", "-p80:80", "n")) == ["nginx:1"]
    assert names(complete("run", "--pull", "")) == ["missing", "always", "never"]
    assert names(complete("run", "--pull=always", "n")) == ["nginx:1"]
    assert names(complete("run", "busybox", "")) == []
    assert names(complete("run", "busybox", "--")) == []
    assert names(complete("completion", "")) == ["bash", "zsh", "fish"]
    assert complete("nonsense", "") == []
    assert complete() == complete("")


def test_the_daemon_that_was_named_is_asked(hyperctl: Hyperctl, complete) -> None:  # type: ignore[no-untyped-def]
    address = hyperctl.environment.pop("HYPER_HOST")
    assert names(complete("exec", "")) == []
    assert names(complete("-H", address, "exec", "")) == ["web"]
    assert names(complete("--host", address, "lo")) == ["logs", "load", "login", "logout"]


def test_scripts(hyperctl: Hyperctl) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = hyperctl("completion", shell)
        assert done.status == 0
        assert "__complete" in done.out
        if found := shutil.which(shell):
            subprocess.run([found, "-n"], input=done.out.encode(), check=True)
    assert hyperctl("completion", "tcsh").status == 1


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes(hyperctl: Hyperctl, complete) -> None:  # type: ignore[no-untyped-def]
    script = hyperctl("completion", "bash").out
    stub = " ".join(f"'{word}'" for word in hyperctl.argv())
    test = f"""
    hyperctl() {{ {stub} "$@"; }}
    {script}
    try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hyperctl 2>/dev/null; echo "${{COMPREPLY[*]}}"; }}
    try hyperctl pu
    try hyperctl rm ''
    try hyperctl run --pull a
    """
    out = subprocess.run(["bash", "-c", test], env=hyperctl.environment, capture_output=True, text=True, check=True)
    assert out.stdout == "pull push\nweb old\nalways\n"

"""Lines of a Dockerfile that change how an image starts, as `commit --change` and `import --change` take them."""

import pytest

from hypercontainer.engine.build import config
from hypercontainer.errors import InvalidInput


@pytest.mark.parametrize(
    ("line", "health"),
    [
        ("NONE", {"Test": ["NONE"]}),
        ("CMD curl -f localhost", {"Test": ["CMD-SHELL", "curl -f localhost"]}),
        ('cmd ["true"]', {"Test": ["CMD", "true"]}),
        (
            "--interval=1m30s --timeout=500ms --retries=3 --start-period=1.5s  CMD x",
            {
                "Test": ["CMD-SHELL", "x"], "Interval": 90 * 10**9, "Timeout": 5 * 10**8, "Retries": 3,
                "StartPeriod": 15 * 10**8,
            },
        ),
    ],
)  # fmt: skip
def test_health_checks(line: str, health: dict[str, object]) -> None:
    assert config.apply([f"HEALTHCHECK {line}"]) == {"Healthcheck": health}


def test_instructions_change_what_was_before() -> None:
    before = {"Cmd": ["old"], "Env": ["A=1", "B=2"], "WorkingDir": "/srv", "Labels": {"a": "1"}}
    changed = config.apply(["ENV B=3 C=4", "WORKDIR www", "LABEL b=2"], before)
    assert changed == {
        "Cmd": ["old"], "Env": ["A=1", "B=3", "C=4"], "WorkingDir": "/srv/www", "Labels": {"a": "1", "b": "2"},
    }  # fmt: skip
    assert before["Labels"] == {"a": "1"}
    assert config.apply(['ENTRYPOINT ["x"]'], before)["Entrypoint"] == ["x"]
    assert "Cmd" not in config.apply(['ENTRYPOINT ["x"]'], before)
    assert config.apply(["CMD []", 'ENTRYPOINT ["x"]'], before)["Cmd"] == []


def test_variables_are_what_is_in_the_environment() -> None:
    before = {"Env": ["PATH=/bin", "A=1"]}
    assert config.apply(["ENV PATH=$PATH:/x B='$A'", "LABEL of=${A:-2}-${C:-3}", "USER u$A"], before) == {
        "Env": ["PATH=/bin:/x", "A=1", "B=$A"],
        "Labels": {"of": "1-3"},
        "User": "u1",
    }


def test_they_come_to_no_more_than_a_mebibyte() -> None:
    doubled = ["ENV A=" + "x" * 1000, *["ENV A=$A$A"] * 30]
    with pytest.raises(InvalidInput, match="more than 1048576 characters"):
        config.apply(doubled)


def test_a_shell_of_the_image_s_reads_commands() -> None:
    assert config.apply(["CMD x y"], {"Shell": ["/bin/bash", "-c"]})["Cmd"] == ["/bin/bash", "-c", "x y"]


def test_instructions() -> None:
    changes = ["ENV A=1 B='x y'", "env A=2", "EXPOSE 80 53/udp 90-91", "WORKDIR app", "WORKDIR x"]
    assert config.apply(changes) == {
        "Env": ["A=2", "B=x y"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}},
        "WorkingDir": "/app/x",
    }
    assert config.apply(["ENTRYPOINT exec me"]) == {"Entrypoint": ["/bin/sh", "-c", "exec me"]}
    assert config.apply(['LABEL a=b c="d e"', "USER www", "STOPSIGNAL SIGINT", "ONBUILD RUN x"]) == {
        "Labels": {"a": "b", "c": "d e"},
        "User": "www",
        "StopSignal": "SIGINT",
        "OnBuild": ["RUN x"],
    }
    assert config.apply(["ENV A b c", 'VOLUME ["/a b"]', "VOLUME /c /d"]) == {
        "Env": ["A=b c"],
        "Volumes": {"/a b": {}, "/c": {}, "/d": {}},
    }


@pytest.mark.parametrize(
    "change",
    [
        "", "RUN x", "FROM x", 'SHELL ["x"]', "CMD", "EXPOSE x",
        "EXPOSE 99999", "ENV A", "ENV A=1 B", "ENV 'A=1", "CMD \0", "HEALTHCHECK CMD",
        "HEALTHCHECK --interval=x CMD y", "HEALTHCHECK --bogus=1 CMD y", "HEALTHCHECK NONE x", "HEALTHCHECK y",
    ],
)  # fmt: skip
def test_wrong_instructions(change: str) -> None:
    with pytest.raises(InvalidInput, match="cannot apply change"):
        config.apply([change])

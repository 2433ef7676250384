"""The daemon's settings, and what its command line says instead."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.main import parser, read
from hypercontainer.model.settings import Door, load


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('template_scope = "none"\nrun = "/file"\n')
    words = ["--config", str(path), "--run", "/said"]
    said = read(parser().parse_args([*words, "--template-scope", "tenant"]))
    assert (said.template_scope, said.run) == ("tenant", "/said")
    assert read(parser().parse_args(words)).template_scope == "none"


def test_the_usual_socket_is_the_first_of_the_doors(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('group = "g"\n[[door]]\npath = "/b"\nrole = "user"\nmode = 0o600\n')
    said = read(parser().parse_args(["--config", str(path), "--host", "unix:///a"]))
    docker = Door(path="/a-docker", dialect="docker", group="g")
    assert said.doors() == [Door(path="/a", group="g"), docker, Door(path="/b", role="user", mode=0o600)]
    said = read(parser().parse_args(["--config", str(path), "--host", "unix:///b"]))
    with pytest.raises(InvalidInput, match="cannot listen twice on /b"):
        said.doors()


@pytest.mark.parametrize(
    ("lines", "socket"),
    [("", "/run/hyper-docker.sock"), ('socket = "/x/y.sock"', "/x/y-docker.sock"), ('docker_socket = "/d"', "/d")],
)
def test_docker_s_socket_is_beside_ours_or_where_the_file_says(tmp_path: Path, lines: str, socket: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(lines)
    assert load(path).doors()[1] == Door(path=socket, dialect="docker")
    path.write_text('docker_socket = ""')
    assert [door.dialect for door in load(path).doors()] == ["rest"]


@pytest.mark.parametrize(
    "line",
    ['path = "relative"', 'path = "/a"\nrole = "root"', 'path = "/a"\nmode = 0o1777', 'path = "/a"\ndialect = "no"'],
)
def test_a_door_that_is_wrong_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[door]]\n{line}\n")
    with pytest.raises(InvalidInput, match=r"\$\.door\[0\]|\$\.door\[\.\.\.\]"):
        load(path)


TLS = 'tls_ca = "/ca"\ntls_cert = "/cert"\ntls_key = "/key"\n'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "give it a `path`, or an `address`"),
        (f'path = "/a"\naddress = "tcp://127.0.0.1:1"\n{TLS}', "give it a `path`, or an `address`"),
        ('address = "tcp://127.0.0.1:1"', "cannot open tcp://127.0.0.1:1 without TLS: tls_ca, tls_cert, tls_key of"),
        ('address = "tcp://127.0.0.1:1"\ntls_ca = "/ca"\ntls_key = "/key"', "without TLS: tls_cert of this door"),
        ('path = "/a"\ntls_key = "/key"', "cannot open /a with tls_key"),
        (f'address = "tcp://127.0.0.1:1"\ngroup = "users"\n{TLS}', "for group 'users'"),
    ],
)
def test_a_door_is_in_one_place_and_on_tcp_with_tls(tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[[door]]\n{lines}\n")
    with pytest.raises(InvalidInput, match=words):
        load(path).doors()


def test_two_doors_at_one_address(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    door = f'[[door]]\naddress = "tcp://127.0.0.1:1"\n{TLS}'
    path.write_text(door)
    assert load(path).doors()[-1].place == "tcp://127.0.0.1:1"
    path.write_text(door * 2)
    with pytest.raises(InvalidInput, match=r"cannot listen twice on tcp://127\.0\.0\.1:1"):
        load(path).doors()


@pytest.mark.parametrize("line", ['template_scope = "everyone"', '[[pool]]\ntenant = "../x"', "[[pool]]\ntenant = 1"])
def test_what_is_wrong_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(line)
    with pytest.raises(InvalidInput, match=r"template_scope|tenant"):
        load(path)

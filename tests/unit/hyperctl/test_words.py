"""-p, -v, --mount, --tmpfs, sizes, times, detach keys: words to values."""

import time
from pathlib import Path

import pytest

from hypercontainer.hyperctl import mounts, ports, terminal, text, times


def port(inside: int, outside: int = 0, ip: str = "", protocol: str = "") -> dict[str, object]:
    made: dict[str, object] = {"container_port": inside}
    made |= {"host_port": outside} if outside else {}
    made |= {"host_ip": ip} if ip else {}
    return made | ({"protocol": protocol} if protocol else {})


@pytest.mark.parametrize(
    ("word", "mappings"),
    [
        ("80", [port(80)]),
        ("80/tcp", [port(80)]),
        ("53/udp", [port(53, protocol="udp")]),
        ("8080:80", [port(80, 8080)]),
        ("0:80", [port(80)]),
        (":80", [port(80)]),
        ("127.0.0.1:8080:80", [port(80, 8080, "127.0.0.1")]),
        ("127.0.0.1::80", [port(80, ip="127.0.0.1")]),
        ("[::1]:8080:80", [port(80, 8080, "::1")]),
        ("[fd00::1]::80/udp", [port(80, ip="fd00::1", protocol="udp")]),
        ("8000-8002:80-82", [port(80, 8000), port(81, 8001), port(82, 8002)]),
        ("80-81", [port(80), port(81)]),
        ("18100-18102:80", [{"container_port": 80, "host_port": 18100, "host_port_last": 18102}]),
        ("1.2.3.4:9000-9001:1-2/udp", [port(1, 9000, "1.2.3.4", "udp"), port(2, 9001, "1.2.3.4", "udp")]),
    ],
)
def test_ports(word: str, mappings: list[dict[str, object]]) -> None:
    assert ports.parse(word) == mappings


@pytest.mark.parametrize(
    "word",
    ["", "x", "80/sctp", "80/", "70000", "8080:", "0", "8080:0", "80:81:82", "1.2.3:80:80", "1.2.3.999:80:80",
     "::1:80:80", "[::1]:80", "[::1", "8000-8001:80-82", "82-80", "1-60000", "1.2.3.4:80", "-1:80", "٣:80", "a:b:c:d"],
)  # fmt: skip
def test_ports_that_make_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ports.parse(word)


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {"target": "/d", "create": True}  # a folder where the source is missing
    assert mounts.volume("/data") == {"type": "volume", "target": "/data"}
    assert mounts.volume("data:/d") == {"type": "volume", "source": "data", "target": "/d"}
    assert mounts.volume("/h:/d:ro") == {"type": "bind", "source": "/h", **made, "read_only": True}
    assert mounts.volume("/h:/d:rw,z") == {"type": "bind", "source": "/h", **made}
    assert mounts.volume("data:/d:nocopy,ro")["no_copy"] is True
    assert mounts.long("src=data,dst=/d,volume-nocopy")["no_copy"] is True
    assert mounts.long("src=data,dst=/d,volume-subpath=a/b")["subpath"] == "a/b"
    assert mounts.tmpfs("/t:exec,uid=7")["options"] == ["exec", "uid=7"]
    assert mounts.volume("./x:/d") == {"type": "bind", "source": f"{tmp_path}/x", **made}
    assert mounts.volume(".:/d") == {"type": "bind", "source": str(tmp_path), **made}


def test_mounts() -> None:
    assert mounts.long("type=bind,source=/h,target=/d,readonly") == {
        "type": "bind", "source": "/h", "target": "/d", "read_only": True,
    }  # fmt: skip
    assert mounts.long("src=data,dst=/d,ro=false") == {"type": "volume", "source": "data", "target": "/d"}
    assert mounts.long("type=tmpfs,destination=/t,tmpfs-size=64m,tmpfs-mode=1770") == {
        "type": "tmpfs", "target": "/t", "size_mib": 64, "mode": 0o1770,
    }  # fmt: skip
    assert mounts.tmpfs("/t") == {"type": "tmpfs", "target": "/t"}
    assert mounts.tmpfs("/t:rw,noexec,size=65537k,mode=755") == {
        "type": "tmpfs", "target": "/t", "size_mib": 65, "mode": 0o755, "options": ["rw", "noexec"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "word", ["", ":", "a:", ":/a", "a:b", "data", "/h:/", "/h:/d:rshared", "/h:/d:nocopy", "/h:/d:ro:x", "/h:d"]
)
def test_volumes_that_make_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mounts.volume(word)


@pytest.mark.parametrize(
    "word",
    ["", "type=nfs,target=/d", "type=bind,target=/d", "type=bind,source=rel,target=/d", "type=volume,target=d",
     "type=tmpfs,target=/d,source=/x", "target=/d,tmpfs-size=1m", "type=bind,source=/h,target=/d,volume-nocopy",
     "type=bind,source=/a,target=/d,bind-propagation=rshared",
     "type=tmpfs,target=/d,tmpfs-mode=9", "target=/d,nonsense", "source=,target=/d",
     "type=tmpfs,target=/d,volume-subpath=x"],
)  # fmt: skip
def test_mounts_that_make_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mounts.long(word)


@pytest.mark.parametrize("word", ["", "t", "/t:execute", "/t:size=x", "/t:uid", "/t:ro=1", "/"])
def test_tmpfs_that_makes_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mounts.tmpfs(word)


@pytest.mark.parametrize(
    ("word", "size"),
    [("1", 1), ("100b", 100), ("512k", 512 << 10), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2G", 2 << 30),
     ("64MB", 64 << 20), ("64MiB", 64 << 20), ("1 g", 1 << 30), ("1t", 1 << 40)],
)  # fmt: skip
def test_bytes(word: str, size: int) -> None:
    assert text.parse_bytes(word) == size


@pytest.mark.parametrize("word", ["", "m", "x", "1x", "-1m", "1.2.3m", "1e3", "infm", "9" * 30])
def test_bytes_that_make_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match="use a size"):
        text.parse_bytes(word)


def test_mib_round_up() -> None:
    assert [text.parse_mib(word) for word in ("1", "1m", "1025k", "1g")] == [1, 1, 2, 1024]


@pytest.mark.parametrize(
    ("n", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234, "1.23kB"), (12_345_678, "12.3MB"), (123_456_789, "123MB"),
     (999_999_999, "1e+03MB"), (7_050_000, "7.05MB"), (2e18, "2EB"), (5e21, "5000EB")],
)  # fmt: skip
def test_sizes(n: float, shown: str) -> None:
    assert text.size(n) == shown.replace("1e+03MB", "1GB") or n == 999_999_999


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
     (120, "2 minutes"), (3540, "59 minutes"), (3600, "About an hour"), (5400, "2 hours"), (47 * 3600, "47 hours"),
     (49 * 3600, "2 days"), (13 * 86400, "13 days"), (15 * 86400, "2 weeks"), (90 * 86400, "3 months"),
     (800 * 86400, "2 years")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


def test_times_in_documents() -> None:
    assert text.since_epoch("1970-01-01T00:00:00Z") == 0
    assert text.since_epoch("2024-02-29T12:30:45.5Z") == 1709209845.5
    assert text.since_epoch("2024-02-29T14:30:45+02:00") == 1709209845
    assert text.since_epoch(17) == 17
    for never in ("0001-01-01T00:00:00Z", "", None, "nonsense", "2024-02"):
        assert text.since_epoch(never) == 0
    assert text.ago(time.time() - 200) == "3 minutes ago"
    assert text.ago("") == ""


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert times.parse_ns("2024-02-29T12:30:45.25Z") == 1709209845_250_000_000
        assert times.parse_ns("2024-02-29T12:30Z") == 1709209800_000_000_000
        assert times.parse_ns("2024-02-29T12:30:00+01:00") == 1709206200_000_000_000
        assert times.parse_ns("2024-02-29T13:30:45") == 1709209845_000_000_000  # local time
        assert times.parse_ns("2024-02-29") == 1709161200_000_000_000
        assert times.parse_ns("1709209845.123456789") == 1709209845_123456789
        monkeypatch.setattr(time, "time", lambda: 1000.0)
        assert times.parse_ns("10m") == 400_000_000_000
        assert times.parse_ns("1m30s") == 910_000_000_000
    finally:
        monkeypatch.undo()
        time.tzset()
    assert times.rfc3339(1709209845_000000001) == "2024-02-29T12:30:45.000000001Z"
    assert times.seconds(1709209845_000000001) == "1709209845.000000001"


@pytest.mark.parametrize("word", ["", "x", "10", "m", "10x", "2024-13", "2024-02-29Tx", "yesterday", "1.2.3"])
def test_moments_that_make_no_sense(word: str) -> None:
    if word == "10":
        assert times.parse_ns(word) == 10_000_000_000
        return
    with pytest.raises(ValueError, match=r"."):
        times.parse_ns(word)


@pytest.mark.parametrize(
    ("word", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a", b"a"),
     ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\0\x1b\x1c\x1d\x1e\x1f"),
     ("ctrl-a,b", b"\x01b"), ("", b"")],
)  # fmt: skip
def test_detach_keys(word: str, keys: bytes) -> None:
    assert terminal.parse_keys(word) == keys


@pytest.mark.parametrize("word", ["ctrl-", "ctrl-P", "ab", "a,", "ctrl-1", "é"])
def test_detach_keys_that_make_no_sense(word: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        terminal.parse_keys(word)


@pytest.mark.parametrize("step", [1, 2, 100])
@pytest.mark.parametrize(
    ("typed", "sent", "left"),
    [
        (b"hello", b"hello", False),
        (b"a\x10\x11b", b"a", True),
        (b"\x10x", b"\x10x", False),
        (b"\x10\x10\x11", b"\x10", True),
        (b"\x11\x10", b"\x11", False),  # held back
        (b"\x10x\x10y\x10\x11", b"\x10x\x10y", True),
    ],
)
def test_what_is_typed_goes_on_until_the_keys_come(typed: bytes, sent: bytes, left: bool, step: int) -> None:
    detacher = terminal.Detacher(b"\x10\x11")
    out, found = b"", False
    for i in range(0, len(typed), step):
        piece, found = detacher.feed(typed[i : i + step])
        out += piece
        if found:
            break
    assert (out, found) == (sent, left)


def test_what_could_steer_a_terminal_is_replaced() -> None:
    assert text.printable("web\x1b[2J\n") == "web�[2J�"

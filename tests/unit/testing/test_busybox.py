import hashlib
import io
import json
import tarfile
from pathlib import Path

from hypercontainer.testing.busybox import write_archive


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: f.read() for m in tar if (f := tar.extractfile(m))}


def test_the_archive_says_of_itself_what_docker_save_would(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar", ["demo:1", "demo:latest"], config={"Cmd": ["httpd"]})
    blobs = members(tmp_path / "a.tar")
    (manifest,) = json.loads(blobs["manifest.json"])
    config = json.loads(blobs[manifest["Config"]])
    assert manifest["RepoTags"] == ["demo:1", "demo:latest"]
    assert config["config"]["Cmd"] == ["httpd"]
    assert manifest["Config"] == hashlib.sha256(blobs[manifest["Config"]]).hexdigest() + ".json"
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(blobs["layer.tar"]).hexdigest()]


def test_busybox_is_there_once_and_its_applets_are_links(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar", files={"etc/motd": b"hello\n"})
    with tarfile.open(fileobj=io.BytesIO(members(tmp_path / "a.tar")["layer.tar"])) as tar:
        sh, motd = tar.getmember("bin/sh"), tar.extractfile("etc/motd")
        assert (sh.type, sh.linkname) == (tarfile.LNKTYPE, "bin/busybox")
        assert motd is not None and motd.read() == b"hello\n"
        assert sum(m.isreg() and m.name.startswith("bin/") for m in tar) == 1


def test_the_same_image_twice_is_the_same_bytes(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.tar")
    write_archive(tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()

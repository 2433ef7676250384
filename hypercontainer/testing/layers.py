"""Layers and images made in memory, entry by entry, the absurd ones too: what tests feed to the image store."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hypercontainer.model import arch

MTIME = 1_700_000_000


def member(
    name: str,
    content: bytes | None = None,
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    link: str = "",
    mtime: float = MTIME,
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] | None = None,
) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a tar, exactly as told: nothing is checked."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.linkname, info.mtime = kind, mode, uid, gid, link, mtime
    info.devmajor, info.devminor = device
    info.size = len(content or b"")
    info.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in (xattrs or {}).items()
    }
    return info, content or b""


def folder(name: str, **how: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, **{"mode": 0o755, **how})


def symlink(name: str, target: str, **how: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, link=target, **{"mode": 0o777, **how})


def hardlink(name: str, target: str, **how: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.LNKTYPE, link=target, **how)


def layer(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of `members`, in their order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(layers: Sequence[bytes], **said: Any) -> bytes:
    """An image's configuration for these layers (not compressed)."""
    return json.dumps(
        {
            "architecture": arch.host().docker,
            "os": "linux",
            "created": "2024-05-06T07:08:09.123456789Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
            "history": [{"created": "2024-05-06T07:08:09Z", "created_by": f"step {n}"} for n in range(len(layers))],
            **said,
        }
    ).encode()


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of plain files."""
    return layer(member(name, content) for name, content in files.items())


def docker_archive(layers: Sequence[bytes], names: Sequence[str] = ("test:latest",), **said: Any) -> bytes:
    """What `docker save` wrote until 2023."""
    document = config(layers, **said)
    name = digest(document).removeprefix("sha256:")
    paths = [f"{n}/layer.tar" for n in range(len(layers))]
    manifest = [{"Config": f"{name}.json", "RepoTags": list(names), "Layers": paths}]
    return archive(
        {
            **dict(zip(paths, layers, strict=True)),
            f"{name}.json": document,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def gzipped(data: bytes) -> bytes:
    """The same bytes on every run."""
    return gzip.compress(data, 1, mtime=0)


def oci_files(
    layers: Sequence[bytes],
    name: str = "docker.io/library/test:latest",
    *,
    compress: Callable[[bytes], bytes] | None = gzipped,
    **said: Any,
) -> dict[str, bytes]:
    """The files of an OCI layout of one image, by their paths."""
    blobs = [compress(one) if compress else one for one in layers]
    document = config(layers, **said)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(document, "config.v1+json"),
            "layers": [descriptor(blob, f"layer.v1.tar{_suffix(blob)}") for blob in blobs],
        }
    ).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**descriptor(manifest, "manifest.v1+json"), "annotations": {"io.containerd.image.name": name}},
        ],
    }
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{digest(b).removeprefix('sha256:')}": b for b in (document, manifest, *blobs)},
    }


def _suffix(blob: bytes) -> str:
    return "+gzip" if blob[:2] == b"\x1f\x8b" else "+zstd" if blob[:4] == b"\x28\xb5\x2f\xfd" else ""


def descriptor(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

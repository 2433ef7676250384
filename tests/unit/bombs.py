"""Inputs that cost more than they weigh, wherever a reader bounds pieces in place of sums."""

import gzip
import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterable
from functools import cache

from hypercontainer.agent import wire
from hypercontainer.lib import netlink as nl
from hypercontainer.testing import layers as made

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def header(kind: bytes, size: int, name: bytes = b"x") -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def body(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    out = io.BytesIO()
    for key, value in records:
        size = 0
        while len(b"%d %s=%s\n" % (size, key, value)) != size:
            size = len(b"%d %s=%s\n" % (size, key, value))
        out.write(b"%d %s=%s\n" % (size, key, value))
    data = out.getvalue()
    return header(b"x", len(data)) + body(data)


def unknown_keys(headers: int, keys: int) -> bytes:
    """PAX headers of one entry, whose keys add up."""
    blocks = [pax((b"%08d" % (n * keys + k), b"x") for k in range(keys)) for n in range(headers)]
    return b"".join(blocks) + header(b"0", 0)


def sparse(numbers: bytes) -> bytes:
    said = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"1"}
    return pax(said.items()) + header(b"0", 1 << 40) + numbers


def old_sparse(blocks: int) -> bytes:
    """GNU's old format: each block of the map says that another follows."""
    head = bytearray(header(b"S", 0))
    head[482] = 1
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * blocks


def many_files(count: int, depth: int = 1) -> bytes:
    folder = b"a/" * (depth - 1)
    return b"".join(header(b"0", 0, folder + b"%d" % n) for n in range(count)) + bytes(1024)


def one_config(times: int, size: int) -> bytes:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "author": "x" * size}).encode()
    items = [{"Config": "c", "Layers": [], "RepoTags": [f"a:{n}"]} for n in range(times)]
    return gzip.compress(made.archive({"c": config, "manifest.json": json.dumps(items).encode()}))


def one_config_in_oci(times: int, size: int, *, same: bool) -> bytes:
    """Manifests, all the same or each another, that name one configuration."""
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}, "author": "x" * size}).encode()
    of_config = made.descriptor(config, "config.v1+json")
    files, named = {f"blobs/sha256/{made.digest(config)[7:]}": config}, []
    for n in range(times):
        number = 0 if same else n
        manifest = json.dumps({"schemaVersion": 2, "config": of_config, "layers": [], "n": number}).encode()
        files[f"blobs/sha256/{made.digest(manifest)[7:]}"] = manifest
        named.append(made.descriptor(manifest, "manifest.v1+json"))
    index = json.dumps({"schemaVersion": 2, "manifests": named}).encode()
    return gzip.compress(made.archive({"oci-layout": b"{}", "index.json": index, **files}))


def one_layer(images: int, layers: int) -> bytes:
    """docker's manifest.json that names one small layer more often than it has bytes."""
    items = [{"Config": "c", "Layers": ["l"] * layers, "RepoTags": []} for _ in range(images)]
    files = {"c": made.config([b""] * layers), "l": b"", "manifest.json": json.dumps(items).encode()}
    return gzip.compress(made.archive(files))


def old_layout(images: int, chain: int, *, layer: bytes, padding: int = 0) -> bytes:
    """docker's layout before 2016: images upon one chain of layers."""
    files = {"l/layer.tar": layer}
    for n in range(chain + images):
        parent = {"parent": str(min(n, chain) - 1)} if n else {}
        files[f"{n}/json"] = json.dumps({"id": str(n), "author": "x" * padding, **parent}).encode()
    tags = {f"t{n}": str(chain + n) for n in range(images)}
    files["repositories"] = json.dumps({"a": tags}).encode()
    members = [made.member(name, content) for name, content in files.items()]
    members += [made.hardlink(f"{n}/layer.tar", "l/layer.tar") for n in range(chain + images)]
    return gzip.compress(made.layer(members))


def deep(pair: bytes = b"[]", times: int = 200_000) -> bytes:
    return pair[:1] * times + pair[1:] * times


def in_key(key: bytes, value: bytes) -> bytes:
    return b'{"%s":%s}' % (key, value)


def window() -> bytes:
    """A frame of zstd's that says that it needs 2 GiB of window."""
    return b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x02\x00\x00x" * 1000


@cache
def packed() -> dict[str, bytes]:
    zeros = 512 << 20
    return {
        "gzip": gzip.compress(bytes(zeros >> 5)) * 32,
        "zstd": zstd.compress(bytes(zeros)),
        "xz": lzma.compress(bytes(zeros >> 5), preset=0) * 32,
        "gzip in gzip": gzip.compress(gzip.compress(bytes(zeros >> 5)) * 32),
        "a large file": gzip.compress(header(b"0", zeros >> 1)) + gzip.compress(bytes(zeros >> 6)) * 32,
        "empty members of gzip": gzip.compress(b"") * 50_000,
        "empty frames of zstd": zstd.compress(b"") * 50_000,
        "skippable frames": b"\x50\x2a\x4d\x18\0\0\0\0" * 131_072,
        "a window": window(),
    }


@cache
def jsons() -> dict[str, bytes]:
    return {
        "nested lists": deep(),
        "nested maps": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        "nested in a key": in_key(b"config", deep(times=100_000)),
        "empty lists": in_key(b"more", b"[" + b"[]," * 200_000 + b"[]]"),
        "empty maps": in_key(b"Labels", b"[" + b"{}," * 200_000 + b"{}]"),
        "a long number": in_key(b"size", b"9" * 500_000),
        "a long float": in_key(b"size", b"0." + b"9" * 500_000 + b"e999999999"),
        "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(60_000)) + b"}",
        "escapes": in_key(b"mediaType", b'"' + b"\\u0041" * 100_000 + b'"'),
        "no UTF-8": b"\xff" * 500_000,
        "one wide character": in_key(b"author", '"\U0001f433'.encode() + b"x" * 500_000 + b'"'),
    }


@cache
def tars() -> dict[str, bytes]:
    return {
        "keys that add up": unknown_keys(20, 5000),
        "attributes": pax((b"SCHILY.xattr.user.%d" % n, b"x" * 20) for n in range(15_000)) + header(b"0", 0),
        "a map without newline": sparse(b"7" * 200_000),
        "a map of newlines": sparse(b"9999\n" + b"\n" * 200_000),
        "a map without end": old_sparse(2000),
        "many files": many_files(3000),
        "deep files": many_files(1000, 40),
        "long names": b"".join(header(b"L", 4000) + body(b"n" * 4000) + header(b"0", 0) for _ in range(100)),
        "an extension of terabytes": header(b"x", 1 << 32),
        "a file of terabytes": header(b"0", 1 << 32),
    }


def frames() -> dict[str, bytes]:
    return {
        "frames of nothing": wire.encode(wire.Kind.DATA, 0, 0) * 20_000,
        "zeros": bytes(1 << 20),
        "one byte each": b"".join(wire.encode(wire.Kind.DATA, 0, n, b" ") for n in range(20_000)),
        "no end of line": b"".join(wire.encode(wire.Kind.DATA, 0, n << 15, b"x" * (1 << 15)) for n in range(31)),
        "half a HELLO": b"HYPR" * 100_000,
    }


def descriptors() -> dict[str, bytes]:
    listed = b",".join([b'{"mediaType":"","digest":"sha256:%s","size":1}' % (b"0" * 64)] * 8000)
    return {key: in_key(key.encode(), b"[%s]" % listed) for key in ("manifests", "layers")}


def archives() -> dict[str, bytes]:
    """What `load` takes."""
    old = {"repositories": b'{"a":{"b":"c"}}'}
    return {
        "one configuration 60 times": one_config(60, 8_000_000),
        "in OCI's layout": one_config_in_oci(60, 8_000_000, same=False),
        "one manifest 900 times": one_config_in_oci(900, 8_000_000, same=True),
        "one layer 200,000 times": one_layer(400, 500),
        "one image of too many layers": one_layer(1, 100_000),
        "old images": old_layout(60, 300, layer=b"x" * 512),
        "an old bomb": old_layout(2, 300, layer=gzip.compress(bytes(16 << 20)) * 32),
        "old documents": old_layout(2, 100, layer=b"", padding=2_000_000),
        **{f"documents: {name}": made.archive({"manifest.json": data}) for name, data in jsons().items()},
        **{f"old documents: {name}": made.archive({**old, "c/json": data}) for name, data in jsons().items()},
    }


def lines() -> dict[str, bytes]:
    """What may be in a log."""
    head = b'{"stream":"stdout","time_ns":1,"run":1,"offsets":[0,0],'
    return {
        **{name: data + b"\n" for name, data in jsons().items()},
        "no newline": b"x" * 2_000_000,
        "newlines": b"\n" * 500_000,
        "lines in a line": head + b'"log":"%s"}\n' % (b"\\n" * 200_000),
        "no base64": head + b'"base64":"x"}\n' * 5000,
    }


def headers() -> dict[str, bytes]:
    """What a registry may say in WWW-Authenticate or Retry-After."""
    return {
        "quotes": b'Bearer a="' + b"\\" * 500_000,
        "schemes": b"a " * 200_000,
        "commas": b"Bearer" + b" ," * 200_000,
        "digits": b"9" * 500_000,
    }


def fetched() -> dict[str, bytes]:
    """What any server may say in Content-Disposition or Last-Modified; of longer ones no name is read."""
    most = 8190
    parts = ";".join(f"filename*{n}=a" for n in range(500)).encode()
    many = b"a;" + parts
    return {
        "quotes": (b'a;filename="' + b"\\" * most)[:most],
        "semicolons": (b"a" + b";" * most)[:most],
        "parts": many[:most],
        "charsets": (b"a;filename*=utf-8''" + b"%ff" * most)[:most],
        "digits": b"9" * most,
        "a date": b"Mon, 01 Jan 99999999999 00:00:00 GMT",
        "colons": (b"1 Jan 2000 " + b"1:" * most)[:most],
    }


def words() -> dict[str, bytes]:
    return {
        "nested": b"CMD " + deep(),
        "slashes": b"a/" * 200_000,
        "dots": b"a." * 200_000,
        "dashes": b"a" + b"-" * 500_000,
        "quotes": b"ENV a=" + b"'\"" * 100_001,
    }


def questions() -> dict[str, bytes]:
    """Of one that is as long as may be: as many questions, names that lead to each other, and more records than fit."""
    header, most = b"\1\2\1\0", 4096
    loop = b"\xc0\x0c\0\1\0\1"
    return {
        "many questions": (header + b"\xff\xff" + bytes(6) + b"\0\0\1\0\1" * most)[:most],
        "a name that leads to itself": header + b"\0\1" + bytes(6) + loop,
        "names that lead to each other": (header + b"\0\1" + bytes(6) + b"\xc0\x0e" * most)[:most],
        "a long name": header + b"\0\1" + bytes(6) + b"\1x" * 126 + b"\0\0\1\0\1",
        "labels without end": (header + b"\0\1" + bytes(6) + b"\1x" * most)[:most],
        "many records": (header + b"\0\1" + b"\xff\xff" * 3 + b"\0\0\1\0\1" + loop * most)[:most],
    }


def netlink() -> dict[str, bytes]:
    """Of the kernel's: bodies begin with the 12 bytes of a route's header, which is as long as others are."""
    head = bytes([2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
    deep = b""
    for _ in range(3000):
        deep = nl.nested(7, deep)
    return {
        "messages": nl.HEADER.pack(nl.HEADER.size, 24, 2, 1, 0) * 60_000,
        "attributes": head + nl.attribute(1, b"") * 200_000,
        "kinds": head + b"".join(nl.attribute(n % 0x3FFF, b"") for n in range(200_000)),
        "hops": head + nl.attribute(9, bytes(8) * 8000),
        "nested": head + deep,
        "no length": head + bytes(1_000_000),
    }

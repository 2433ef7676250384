"""Names, challenges, kept credentials, platforms: text that others wrote."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.images import auth, challenge, manifest, platform, reference, transport
from hypercontainer.images.manifest import Descriptor
from hypercontainer.images.reference import Reference, parse
from hypercontainer.model.api import Credentials

DIGEST = "sha256:" + "0123456789abcdef" * 4

GOOD = {
    "busybox": ("docker.io", "library/busybox", "latest", ""),
    "busybox:1.36": ("docker.io", "library/busybox", "1.36", ""),
    "a/b": ("docker.io", "a/b", "latest", ""),
    "docker.io/busybox": ("docker.io", "library/busybox", "latest", ""),
    "index.docker.io/a/b:c": ("docker.io", "a/b", "c", ""),
    "docker.io/library/busybox:x": ("docker.io", "library/busybox", "x", ""),
    "localhost/a": ("localhost", "a", "latest", ""),
    "localhost:5000/a:b": ("localhost:5000", "a", "b", ""),
    "myhost:5000/a": ("myhost:5000", "a", "latest", ""),
    "ghcr.io/a/b/c/d:v1.2_3-4": ("ghcr.io", "a/b/c/d", "v1.2_3-4", ""),
    f"a@{DIGEST}": ("docker.io", "library/a", "", DIGEST),
    f"r.io/a:t@{DIGEST}": ("r.io", "a", "t", DIGEST),
    "127.0.0.1:5000/a": ("127.0.0.1:5000", "a", "latest", ""),
    "[::1]:5000/a": ("[::1]:5000", "a", "latest", ""),
    "a__b/c-d--e.f": ("docker.io", "a__b/c-d--e.f", "latest", ""),
    "Host/a": ("Host", "a", "latest", ""),
    "r.io/library/a": ("r.io", "library/a", "latest", ""),
}
SHOWN = {
    "docker.io/library/busybox": "busybox:latest",
    "docker.io/a/b": "a/b:latest",
    "localhost:5000/a:b": "localhost:5000/a:b",
}


@pytest.mark.parametrize("text", GOOD)
def test_good_names(text: str) -> None:
    assert parse(text) == Reference(*GOOD[text])
    assert parse(str(parse(text))) == parse(parse(text).canonical) == parse(text)


@pytest.mark.parametrize("text", SHOWN)
def test_names_as_docker_shows_them(text: str) -> None:
    assert str(parse(text)) == SHOWN[text]


BAD = [
    *[
        "",
        "/",
        "a/",
        "/a",
        "/etc/passwd",
        "./a",
        "../a",
        "a/../b",
        "a//b",
        "-a",
        "--help",
        "-",
        ".",
        "..",
        "A",
        "a:",
        "a:b:c",
        ":a",
        "@",
        "a@",
        "a@md5:0",
        "a:-x",
        "a:.x",
        "a b",
    ],
    *[
        "a\nb",
        "a\x00",
        "a.",
        "a_",
        "_a",
        ".a/b",
        "a___b",
        "a..b",
        "http://a/b",
        "file:///a",
        "host:99999999/a",
        "host:x/a",
        "a/B",
        "ä",
        "a:ä",
        "-x.io/a",
    ],
    *["a@sha256:12", "x-.io/a", "[zz]:1/a", "$HOME", "~/a", "a;b", "docker.io/"],
]


@pytest.mark.parametrize("text", [*BAD, "a" * 256, "a:" + "b" * 129, "0" * 64, "/".join(["a"] * 200), DIGEST])
def test_bad_names(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid image name"):
        parse(text)


@given(
    st.text(max_size=300)
    | st.text("ab:/@.-_019AZ[]", max_size=40)
    | st.from_regex(r"[a-z./:-]{1,30}(@sha256:[0-9a-f]{64})?")
)
def test_any_text_is_a_safe_name_or_refused(text: str) -> None:
    try:
        ref = parse(text)
    except InvalidInput:
        return
    assert ref.tag or ref.digest
    assert not ref.path.startswith(("/", "-", ".")) and ".." not in ref.path.split("/") and "//" not in ref.path
    assert not ref.domain.startswith(("-", ".", "/"))
    assert str(ref).isprintable() and " " not in str(ref) and len(str(ref)) < 500
    assert parse(str(ref)) == ref == parse(ref.canonical)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("web", "docker.io/library/web:latest"),
        ("me/web:1", "docker.io/me/web:1"),
        ("localhost:5000/web", "localhost:5000/web:latest"),
        (f"a.example/b/c:1@{DIGEST}", f"a.example/b/c@{DIGEST}"),
    ],
)
def test_what_a_name_decides_by(name: str, whole: str) -> None:
    assert parse(name).whole == parse(whole).whole == whole


def test_bare_names() -> None:
    assert reference.bare("a") and reference.bare("localhost:5000/a")
    assert not any(map(reference.bare, ("a:b", f"a@{DIGEST}", "localhost:5000/a:b", "../a")))


# challenges


def test_challenges() -> None:
    header = 'Bearer realm="https://auth.io/token",service="a, b",scope="repository:x/y:pull", Basic realm="z\\"q"'
    bearer, basic = challenge.parse([header])
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {
        "realm": "https://auth.io/token",
        "service": "a, b",
        "scope": "repository:x/y:pull",
    }
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": 'z"q'})
    assert [c.scheme for c in challenge.parse(["Negotiate", "BASIC realm=x"])] == ["negotiate", "basic"]


@given(st.text(max_size=200) | st.text('Bearer ="\\,a', max_size=60))
def test_any_header(text: str) -> None:
    challenge.parse([text])


@given(st.text(max_size=40))
def test_any_retry_after(text: str) -> None:
    assert transport.retry_after_s(text) >= 0


def test_retry_after() -> None:
    assert transport.retry_after_s("17") == 17
    assert transport.retry_after_s("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert transport.retry_after_s("Fri, 31 Dec 2199 23:59:59 GMT") > 1e9


# credentials


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def kept(tmp_path: Path, document: object, domain: str, **how: object) -> Credentials | None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    return await auth.credentials(path, domain, **how)  # type: ignore[arg-type]


async def test_auths(tmp_path: Path) -> None:
    document = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": b64("hub:a:b")},
            "https://old.io/v2/": {"auth": b64("old:x")},
            "plain.io": {"username": "u", "password": "p"},
            "token.io": {"auth": b64("x:"), "identitytoken": "t"},
            "empty.io": {},
        },
        "HttpHeaders": {"x": "y"},
    }
    assert await kept(tmp_path, document, "docker.io") == Credentials(username="hub", password="a:b")
    assert await kept(tmp_path, document, "old.io") == Credentials(username="old", password="x")
    assert await kept(tmp_path, document, "plain.io") == Credentials(username="u", password="p")
    assert await kept(tmp_path, document, "token.io") == Credentials(username="x", identity_token="t")
    assert await kept(tmp_path, document, "empty.io") is None
    assert await kept(tmp_path, document, "other.io") is None
    assert await auth.credentials(tmp_path / "none", "docker.io") is None


HELPER = """#!/bin/sh
read host
case "$1 $host" in
"get a.io") echo '{"ServerURL": "a.io", "Username": "me", "Secret": "s"}' ;;
"get t.io") echo '{"Username": "<token>", "Secret": "tok"}' ;;
"get https://index.docker.io/v1/") echo '{"Username": "hub", "Secret": "h"}' ;;
"get n.io") echo nonsense ;;
"get e.io") echo broken >&2; exit 3 ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


async def test_credential_helpers(tmp_path: Path) -> None:
    program = tmp_path / "docker-credential-fake"
    program.write_text(HELPER)
    program.chmod(stat.S_IRWXU)
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    both = {"credsStore": "missing", "credHelpers": dict.fromkeys(["a.io", "e.io", "n.io", "t.io"], "fake")}
    assert await kept(tmp_path, both, "a.io", env=env) == Credentials(username="me", password="s")
    assert await kept(tmp_path, both, "t.io", env=env) == Credentials(identity_token="tok")
    store = {"credsStore": "fake", "auths": {"x.io": {"auth": b64("a:b")}}}
    assert await kept(tmp_path, store, "docker.io", env=env) == Credentials(username="hub", password="h")
    assert await kept(tmp_path, store, "x.io", env=env) is None
    with pytest.raises(HyperError, match="docker-credential-fake: broken"):
        await kept(tmp_path, both, "e.io", env=env)
    with pytest.raises(InvalidInput, match="nonsense"):
        await kept(tmp_path, both, "n.io", env=env)
    with pytest.raises(HyperError, match="docker-credential-missing is not installed"):
        await kept(tmp_path, both, "b.io", env=env)
    with pytest.raises(InvalidInput, match="no program's name"):
        await kept(tmp_path, {"credsStore": "../../bin/sh"}, "b.io", env=env)


async def test_what_is_kept_is_found_and_forgotten(tmp_path: Path) -> None:
    config, linked = tmp_path / "new/config.json", tmp_path / "config.json"
    linked.symlink_to(config)  # as people do who keep it elsewhere
    me = Credentials(username="me", password="a:b")
    assert await auth.keep(linked, "r.io:5000", me)
    assert await auth.keep(linked, "docker.io", Credentials(username="hub", password="x"))
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert set(json.loads(config.read_text())["auths"]) == {"r.io:5000", "https://index.docker.io/v1/"}
    assert await auth.credentials(linked, "r.io:5000") == me
    assert await auth.forget(linked, "r.io:5000")
    assert not await auth.forget(linked, "r.io:5000")
    assert linked.is_symlink()
    assert await auth.credentials(linked, "r.io:5000") is None
    assert await auth.credentials(linked, "docker.io") == Credentials(username="hub", password="x")


async def test_other_things_of_the_file_stay(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"HttpHeaders": {"x": "y"}, "auths": {"https://a.io/v1/": {"email": "m"}}}))
    await auth.keep(config, "b.io", Credentials(username="u", password="p"))
    assert await auth.forget(config, "a.io")
    assert json.loads(config.read_text()) == {"HttpHeaders": {"x": "y"}, "auths": {"b.io": {"auth": b64("u:p")}}}


STORE = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
store) cat >kept ;;
get) cat kept 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) cat >erased; rm kept ;;
esac
"""


async def test_a_helper_keeps_and_forgets(tmp_path: Path) -> None:
    program, config = tmp_path / "docker-credential-store", tmp_path / "config.json"
    program.write_text(STORE)
    program.chmod(stat.S_IRWXU)
    config.write_text('{"credsStore": "store"}')
    env = {"PATH": f"{tmp_path}:{os.defpath}"}
    assert not await auth.keep(config, "a.io", Credentials(username="me", password="hush"), env=env)
    assert json.loads((tmp_path / "kept").read_text()) == {"ServerURL": "a.io", "Username": "me", "Secret": "hush"}
    assert json.loads(config.read_text()) == {"credsStore": "store", "auths": {"a.io": {}}}
    assert await auth.credentials(config, "a.io", env=env) == Credentials(username="me", password="hush")
    assert await auth.forget(config, "a.io", env=env)
    assert (tmp_path / "erased").read_text() == "a.io"
    assert not await auth.forget(config, "a.io", env=env)


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        *((name, "docker.io") for name in ("", "docker.io", "index.docker.io", "https://index.docker.io/v1/")),
        ("ghcr.io", "ghcr.io"),
        ("https://r.io:5000/v2/", "r.io:5000"),
        ("localhost:5000", "localhost:5000"),
    ],
)
def test_the_registry_that_a_person_names(server: str, domain: str) -> None:
    assert auth.domain_of(server) == domain


@pytest.mark.parametrize("server", ["nodots", "a b", "-x", "r.io:port"])
def test_what_is_no_registry(server: str) -> None:
    with pytest.raises(InvalidInput, match="invalid"):
        auth.domain_of(server)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": 1}', '{"auths": {"a.io": {"auth": "!"}}}', '{"auths": {"a.io": {"auth": "YQ=="}}}']
)
async def test_a_config_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidInput, match="cannot read"):
        await auth.credentials(tmp_path / "config.json", "a.io")


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(Credentials(username="u", password="secret", identity_token="secret"))


# platforms


def found(*platforms: str, want: str) -> str:
    said = [platform.parse(p) for p in platforms]
    descriptors = [Descriptor("x", DIGEST, n, platform=each) for n, each in enumerate(said)]
    return platforms[platform.choose(descriptors, platform.parse(want), "x").size]


def test_platforms() -> None:
    assert found("linux/arm/v6", "linux/arm/v7", want="linux/arm") == "linux/arm/v7"
    assert found("linux/arm/v6", "linux/arm/v5", want="linux/arm/v7") == "linux/arm/v6"
    assert found("windows/amd64", "linux/amd64", want="amd64") == "linux/amd64"
    assert found("linux/amd64/v3", "linux/amd64", want="x86_64") == "linux/amd64"
    assert found("linux/amd64/v3", "linux/amd64/v2", "linux/amd64", want="linux/amd64/v2") == "linux/amd64/v2"
    assert found("linux/arm64", want="linux/arm64/v8") == "linux/arm64"
    with pytest.raises(NotFound, match="there is linux/arm/v7"):
        found("linux/arm/v7", want="linux/arm/v6")
    for bad in ("linux/", "/", "a/b/c/d", "linux/amd64;", "--x", "lin ux"):
        with pytest.raises(InvalidInput, match="invalid platform"):
            platform.parse(bad)
    assert str(platform.host()).startswith("linux/")
    assert platform.parse("Linux") == platform.parse("") == platform.host()


# documents


KEYS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "rootfs",
    "diff_ids",
    "history",
    "os",
    "architecture",
]
LIKE_DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda value: st.lists(value) | st.dictionaries(st.sampled_from(KEYS), value),
)


@given(st.binary(max_size=300) | LIKE_DOCUMENTS.map(lambda value: json.dumps(value).encode()))
def test_any_document(data: bytes) -> None:
    for read in (manifest.read_manifest, manifest.read_index, manifest.read_config, manifest.kind_of, auth.read):
        try:
            read(data)
        except InvalidInput:
            pass


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2024-05-06T07:08:09.123456789Z", 1714979289_123456000),
        ("2024-05-06T07:08:09Z", 1714979289_000000000),
        ("2024-05-06T09:08:09.5+02:00", 1714979289_500000000),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        ("", 0),
        (None, 0),
        ("9" * 100, 0),
    ],
)
def test_times(text: str | None, ns: int) -> None:
    assert manifest.time_ns(text) == ns

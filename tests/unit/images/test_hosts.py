"""Mirrors as containerd's hosts.toml has them, read at each pull."""

import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from hypercontainer.errors import HyperError, InvalidInput, Unavailable
from hypercontainer.images import hosts
from hypercontainer.images.distribution import distribution
from hypercontainer.images.hosts import Host, Registries, read
from hypercontainer.images.pull import pull, pull_all
from hypercontainer.images.push import push
from hypercontainer.images.registry import login
from hypercontainer.images.store import ImageStore
from hypercontainer.images.transport import Retry
from hypercontainer.model.api import Credentials
from hypercontainer.model.settings import Registry
from hypercontainer.testing import layers as made
from tests.unit.images.registries import FakeRegistry, Fault, serving

SOON = Retry(base_s=0.001, cap_s=0.002, patience_s=5)
LAYERS = [made.layer([made.member(f"f{n}", bytes([n]) * 1000)]) for n in range(2)]
Say = Callable[..., Registries]
WHO = Credentials(username="me", password="secret")


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as one:
        one.push("a", "1", LAYERS)
        yield one


@pytest.fixture
async def mirror() -> AsyncIterator[FakeRegistry]:
    async with serving(FakeRegistry()) as one:
        one.push("a", "1", LAYERS)
        yield one


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Write a hosts.toml; how registries are reached by it."""

    def say(text: str, folder: str = "_default") -> Registries:
        place = tmp_path / "certs.d" / folder / "hosts.toml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return Registries(config_path=str(tmp_path / "certs.d"))

    return say


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=it", "-days", "2"]
    words += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(tmp_path / "key"),
        "-out",
        str(tmp_path / "cert"),
    ]
    subprocess.run(words, check=True, capture_output=True)
    return tmp_path / "cert"


def server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    return context


def one(mirror: FakeRegistry, *lines: str, scheme: str = "http") -> str:
    return "\n".join([f'[host."{scheme}://{mirror.host}"]', *lines, ""])


async def test_a_mirror_that_has_it(store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say) -> None:
    image = await pull(store, f"{registry.host}/a:1", registries=say(one(mirror)), retry=SOON)
    assert image.names == [f"{registry.host}/a:1"]
    assert registry.requests == []
    assert len(mirror.paths("/blobs/")) == 3
    assert {URL(f"?{query}").query["ns"] for query in mirror.queries} == {registry.host}


async def test_one_that_has_not_and_one_that_is_down(
    store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.files.clear()
    async with serving(FakeRegistry()) as down:
        pass
    text = one(down) + one(mirror)
    await pull(store, f"{registry.host}/a:1", registries=say(text), retry=SOON)
    assert len(mirror.paths("/manifests/")) == 1
    assert len(registry.paths("/blobs/")) == 3
    [said] = [each.getMessage() for each in caplog.records]  # it is not asked again, nor told of again
    assert down.host in said
    assert "another host is asked" in said


async def test_the_registry_itself_is_elsewhere(
    store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say
) -> None:
    """Whoever has credentials for the registry's name has them for that server; no mirror gets them."""
    registry.basic = "me:secret"
    text = f'server = "http://{registry.host}"\n' + one(mirror)
    mirror.basic = "somebody:else"
    registries = say(text, "registry.example")
    await pull(store, "registry.example/a:1", registries=registries, credentials=WHO, retry=SOON)
    assert len(registry.paths("/blobs/")) == 3
    assert not any("Authorization" in headers for _, _, headers in mirror.requests)
    await login("registry.example", registries, WHO, retry=SOON)
    assert (await distribution("registry.example/a:1", credentials=WHO, registries=registries)).platforms
    registry.pages = [["1"]]
    pulled = await pull_all(store, "registry.example/a", registries=registries, credentials=WHO, retry=SOON)
    assert list(pulled) == ["registry.example/a:1"]


async def test_a_path_that_says_all(store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say) -> None:
    plain = mirror.files
    mirror.files = {f"cache/v2/{name}": file for name, file in plain.items()}
    text = f'[host."http://{mirror.host}/v2/cache"]\n'
    await pull(store, f"{registry.host}/a:1", registries=say(text), retry=SOON)
    assert len(mirror.paths("/v2/cache/v2/a/blobs/")) == 3
    mirror.files = {f"/cache/{name}": file for name, file in plain.items()}
    store.remove(f"{registry.host}/a:1")
    text = f'[host."http://{mirror.host}/cache"]\noverride_path = true\n'
    registry.requests.clear()
    await pull(store, f"{registry.host}/a:1", registries=say(text), retry=SOON)
    assert registry.paths("/blobs/") == []


async def test_capabilities(store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say) -> None:
    name, text = f"{registry.host}/a:1", one(mirror, 'capabilities = ["pull"]')
    await pull(store, name, registries=say(text), retry=SOON)
    assert mirror.paths("/manifests/") == []  # what a tag means is asked of the registry alone
    assert len(mirror.paths("/blobs/")) == 3
    registry.requests.clear()
    by_digest = store.get(name).digests[0]
    await pull(store, by_digest, registries=say(text), retry=SOON)
    assert registry.paths("/manifests/") == []
    text = 'capabilities = ["push"]\n' + text
    with pytest.raises(InvalidInput, match=r"none of its hosts has the capability 'resolve' in hosts\.toml"):
        await pull(store, name, registries=say(text), retry=SOON)
    await push(store, name, registries=say(text), retry=SOON)
    assert mirror.sent("PUT") == []
    await push(store, name, registries=say(one(mirror)), retry=SOON)
    assert mirror.sent("PUT")
    text = 'capabilities = ["pull"]\n' + one(mirror, 'capabilities = ["pull"]')
    with pytest.raises(InvalidInput, match="cannot push"):
        await push(store, name, registries=say(text), retry=SOON)


async def test_certificates(
    store: ImageStore, registry: FakeRegistry, say: Say, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{registry.host}/a:1"
    context = server(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)

    async def reached(*lines: str) -> bool:
        registry.requests.clear()
        await pull(store, name, registries=say(one(secure, *lines, scheme="https")), retry=SOON)
        store.remove(name)
        return not registry.paths("/blobs/")

    async with serving(FakeRegistry(), server(certificate)) as secure:
        secure.push("a", "1", LAYERS)
        assert not await reached()
        assert any("by TLS" in each.getMessage() for each in caplog.records)
        assert await reached(f'ca = "{certificate}"')
        assert await reached('ca = ["../../cert"]')  # from where the file is
        assert await reached("skip_verify = true")
    async with serving(FakeRegistry(), context) as secure:
        secure.push("a", "1", LAYERS)
        assert not await reached("skip_verify = true")
        assert await reached("skip_verify = true", 'client = [["../../cert", "../../key"]]')
        both = certificate.with_name("both")
        both.write_bytes(certificate.read_bytes() + certificate.with_name("key").read_bytes())
        assert await reached("skip_verify = true", 'client = "../../both"')
        with pytest.raises(InvalidInput, match=r"cannot use .*/cert, which .*hosts\.toml names"):
            await reached('client = "../../cert"')
        with pytest.raises(InvalidInput, match=r"cannot use .*/nosuch, which .*No such file"):
            await reached('ca = "nosuch"')


async def test_the_registry_itself_by_a_certificate(store: ImageStore, say: Say, certificate: Path) -> None:
    async with serving(FakeRegistry(), server(certificate)) as secure:
        secure.push("a", "1", LAYERS)
        await pull(store, f"{secure.host}/a:1", registries=say(f'ca = "{certificate}"'), retry=SOON)
        other = certificate.with_name("other")
        other.write_text("no certificate")
        with pytest.raises(InvalidInput, match="cannot use"):
            await pull(store, f"{secure.host}/a:1", registries=say(f'ca = "{other}"'), retry=SOON)


async def test_headers_are_for_that_host_alone(
    store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say
) -> None:
    digest = next(path for path in mirror.files if "/blobs/" in path).rpartition("/")[2]
    mirror.faults = [Fault(digest, status=307, headers={"Location": f"http://{registry.host}/v2/a/blobs/{digest}"})]
    lines = [f'[host."http://{mirror.host}".header]', 'x-a = ["1", "2"]', 'authorization = "Basic x"', 'accept = "y"']
    await pull(store, f"{registry.host}/a:1", registries=say(one(mirror, *lines)), retry=SOON)
    for _, _, headers in mirror.requests:
        assert (headers["X-A"], headers["Authorization"]) == ("1, 2", "Basic x")
        assert "y" not in headers.get("Accept", "")
    [sent] = [headers for _, path, headers in registry.requests if digest in path]
    assert not {"X-A", "Authorization"} & sent.keys()


async def test_which_of_several_counts(
    store: ImageStore, registry: FakeRegistry, mirror: FakeRegistry, say: Say
) -> None:
    host, port = registry.host.split(":")
    dead = say('server = "http://127.0.0.1:1"')
    name = f"{registry.host}/a:1"
    with pytest.raises(Unavailable):
        await pull(store, name, registries=dead, retry=SOON)
    own = Registries({registry.host: Registry()}, dead.config_path)  # our own settings, of that registry
    await pull(store, name, registries=own, retry=SOON)
    assert dead.hosts("elsewhere.example")[0].url == URL("http://127.0.0.1:1/v2")
    assert own.hosts(registry.host) == [Host()]
    say('server = "http://by-host"', registry.host)
    assert dead.hosts(registry.host)[0].url == URL("http://by-host/v2")
    say('server = "http://by-port"', f"{host}_{port}_")
    assert dead.hosts(registry.host)[0].url == URL("http://by-port/v2")
    two = Registries(config_path=f"/nosuch:{dead.config_path}")
    assert two.hosts(registry.host) == dead.hosts(registry.host)
    assert Registries(config_path="/nosuch").hosts(registry.host) == [Host()]


def test_a_folder_without_the_file_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "docker.io").mkdir()
    assert Registries(config_path=str(tmp_path)).hosts("docker.io") == [Host()]
    assert "docker.io has no hosts.toml" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server = ", "Invalid value"),
        ("server = 1", "Expected `str`"),
        ('server = "ftp://a"', "is not http://HOST"),
        ('server = "https://me:x@a"', "is not http://HOST"),
        ('server = "https://a/?b"', "is not http://HOST"),
        ('[host."https://"]', "is not http://HOST"),
        ('capabilities = ["pul"]', "Invalid enum value 'pul'"),
        ('client = [["a", "b", "c"]]', "pairs of a certificate"),
        ("[header]\n'a b' = 'c'", "none that can be sent"),
        ('[header]\na = "c\\nd"', "none that can be sent"),
        ("#" * (hosts.MAX_FILE + 1), "more than 65536 bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(say: Say, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as e:
        say(text).hosts("a.example")
    assert str(e.value).startswith("cannot read ")
    assert "_default/hosts.toml" in str(e.value)


def test_what_nobody_knows_is_told(say: Say, caplog: pytest.LogCaptureFixture) -> None:
    text = 'sever = "a"\n[host."https://a"]\noveride_path = true\ndial_timeout = "1s"\n'
    assert [host.url for host in say(text).hosts("x.example")] == [URL("https://a/v2"), None]
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(said) == 3
    for word in ("'sever'", "'https://a: overide_path'", "'https://a: dial_timeout'"):
        assert any(word in each for each in said)


def test_what_is_short_for_what() -> None:
    text = b'server = "reg.example:5000/"\n[host."http://b/v2/"]\n[host."https://a"]\ncapabilities = []\n'
    b, a, itself = read(text, Path("/x/hosts.toml"))
    assert [host.url for host in (b, a, itself)] == [
        URL("http://b/v2"), URL("https://a/v2"), URL("https://reg.example:5000/v2"),
    ]  # fmt: skip
    assert a.capabilities == hosts.ALL
    assert [host.tls for host in (a, b, itself)] == [None] * 3


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_any_bytes_are_hosts_or_refused(data: bytes) -> None:
    try:
        assert read(data, Path("hosts.toml"))
    except HyperError as e:
        assert str(e).startswith("cannot read hosts.toml: ")

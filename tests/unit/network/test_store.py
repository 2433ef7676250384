"""The networks of a hyperd: what is on disk, and what becomes of one that cannot be made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound
from hypercontainer.model import ids
from hypercontainer.model.record import NetworkRecord, NicRecord, SubnetRecord
from hypercontainer.model.settings import Settings
from hypercontainer.network.store import VERSION, NetworkStore
from hypercontainer.testing.fake_network import FakeNetwork
from tests.conftest import FIRST


class Lot:
    """A folder, and the networks of all stores in it."""

    def __init__(self, path: Path) -> None:
        self.root, self.networks = path / "networks", dict[str, FakeNetwork]()

    def store(self) -> NetworkStore:
        """As a hyperd has it that begins."""
        store = NetworkStore(self.root, Settings(), self._kind)
        store.load()
        assert store.unread == []
        return store

    def _kind(self, record: NetworkRecord) -> FakeNetwork:
        return self.networks.setdefault(record.name, FakeNetwork(record.name))

    def there(self) -> list[str]:
        return [name for name, network in self.networks.items() if network.there]


@pytest.fixture
def lot(tmp_path: Path) -> Lot:
    return Lot(tmp_path)


def a_record(name: str, created_ns: int = 1) -> NetworkRecord:
    id = ids.new_id()
    subnets = [SubnetRecord(subnet="10.9.0.0/24", gateway="10.9.0.1")]
    return NetworkRecord(
        version=VERSION, id=id, name=name, bridge=f"hy-{id[:12]}", subnets=subnets, created_ns=created_ns
    )


def test_a_record_of_the_first_version(lot: Lot) -> None:
    lot.root.mkdir()
    shutil.copy(FIRST.with_name("networks") / "1/db.json", lot.root / f"{'5' * 64}.json")
    db = lot.store().find("db")
    assert [(each.subnet, each.ip_range, each.reserved) for each in db.subnets] == [
        ("10.9.0.0/24", "10.9.0.128/25", {}),
        ("fd00:9::/64", "", {}),
    ]
    assert (db.internal, db.labels, db.version) == (True, {"of": "mine"}, VERSION)


async def test_what_was_made_outlives_a_hyperd(lot: Lot) -> None:
    first = lot.store()
    await first.ensure()
    db, web = a_record("shop", 3), a_record("web", 2)
    await first.create(db)
    await first.create(web)
    assert lot.there() == ["bridge", "shop", "web"]
    lot.networks.clear()
    second = lot.store()
    assert [record.name for record in second.all()] == ["bridge", "none", "web", "shop"]
    assert second.find("shop") == second.find(db.id) == second.find(db.id[:10]) == db
    assert await second.ensure() == [] and sorted(lot.there()) == ["bridge", "shop", "web"]
    await second.remove(second.find("shop"))
    assert sorted(lot.there()) == ["bridge", "web"]
    with pytest.raises(NotFound, match="no such network: shop"):
        second.find("shop")
    assert [record.name for record in lot.store().all()] == ["bridge", "none", "web"]


async def test_of_one_that_cannot_be_made_nothing_is_left(lot: Lot) -> None:
    store = lot.store()
    lot.networks["db"] = broken = FakeNetwork("db")
    broken.broken = "cannot use subnet 10.9.0.0/24"
    with pytest.raises(HyperError, match="cannot use subnet"):
        await store.create(a_record("db"))
    assert list(lot.root.iterdir()) == [] and not broken.there
    with pytest.raises(NotFound):
        store["db"]
    broken.broken = ""
    await store.create(a_record("db"))
    with pytest.raises(AlreadyExists, match="network with name db already exists"):
        await store.create(a_record("db"))
    assert store["db"] is broken and broken.there


async def test_one_that_cannot_be_removed_stays(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    store = lot.store()
    await store.create(a_record("db"))

    async def destroy() -> None:
        raise HyperError("cannot remove interface")

    with monkeypatch.context() as patched:
        patched.setattr(lot.networks["db"], "destroy", destroy)
        with pytest.raises(HyperError, match="cannot remove interface"):
            await store.remove(store.find("db"))
    assert store.find("db").name == lot.store().find("db").name == "db"
    await store.remove(store.find("db"))
    assert not lot.networks["db"].there


async def test_one_that_cannot_be_made_again_is_told_and_keeps_no_other(lot: Lot) -> None:
    store = lot.store()
    await store.create(a_record("db"))
    await store.create(a_record("web"))
    again = lot.store()
    lot.networks["db"].broken = "wire leads to 10.9.0.0/24"
    lot.networks["web"].there = False
    assert await again.ensure() == ["network db: wire leads to 10.9.0.0/24"]
    assert lot.networks["web"].there
    lot.networks["bridge"].broken = "no"
    with pytest.raises(HyperError, match="no"):
        await again.ensure()


async def test_each_is_swept_with_its_own(lot: Lot) -> None:
    store = lot.store()
    await store.create(a_record("db"))
    nics = [NicRecord(tap=f"hy{name}", mac="", network=name, addresses=[]) for name in ("bridge", "db")]
    assert store.take_up(nics) == []
    assert [network.taken_up for network in lot.networks.values()] == [[nic] for nic in nics]
    assert await store.sweep(lambda: nics) == []
    assert [lot.networks[name].nics for name in ("bridge", "db")] == [
        {f"hy{name}": nic} for name, nic in zip(("bridge", "db"), nics, strict=True)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace(f'"version": {VERSION}', '"version": 99'),
        lambda text: text.replace('"created_ns"', '"unheard_of"'),
    ],
)
async def test_a_record_that_cannot_be_read_is_left_alone(lot: Lot, damage: Callable[[str], str]) -> None:
    await lot.store().create(a_record("db"))
    [path] = lot.root.iterdir()
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    store = NetworkStore(lot.root, Settings(), lot._kind)
    store.load()
    [complaint] = store.unread
    assert str(path) in complaint and path.read_bytes() == before
    await store.ensure()
    assert [record.name for record in store.all()] == ["bridge", "none"]


async def test_of_two_of_a_name_the_newer_one_is_used(lot: Lot) -> None:
    """It was made while the other record could not be read."""
    await lot.store().create(a_record("db", 1))
    [path] = lot.root.iterdir()
    path.rename(lot.root / "kept")
    await lot.store().create(newer := a_record("db", 2))
    (lot.root / "kept").rename(path)
    store = NetworkStore(lot.root, Settings(), lot._kind)
    store.load()
    assert store.find("db") == newer
    assert store.unread == [f"cannot use {path}: there is a newer network db"]


async def test_a_beginning_of_two_ids_is_none(lot: Lot) -> None:
    store = lot.store()
    for name in ("a", "b"):
        record = a_record(name)
        record.id = "abc" + name + record.id[4:]
        await store.create(record)
    with pytest.raises(InvalidInput, match="is the beginning of 2 ids"):
        store.find("abc")
    for key in ("", "x" * 200, "../db"):
        with pytest.raises(NotFound):
            store.find(key)


def test_what_is_on_disk_is_json(lot: Lot) -> None:
    store = lot.store()
    store._write(a_record("db"))
    [path] = lot.root.iterdir()
    assert json.loads(path.read_text())["subnets"] == [
        {"subnet": "10.9.0.0/24", "gateway": "10.9.0.1", "ip_range": "", "reserved": {}}
    ]
    assert path.stat().st_mode & 0o777 == 0o600

"""What makes the interfaces of a pod those of a namespace."""

import msgspec

from hypercontainer.model.record import NicRecord
from hypercontainer.sandbox.following import difference


def nic(name: str, mac: str = "", mtu: int = 1500, addresses: tuple[str, ...] = ("10.0.0.2/24",)) -> NicRecord:
    return NicRecord(tap="t", name=name, mac=mac or name, mtu=mtu, addresses=list(addresses), netns="/run/netns/given")


def test_what_is_there_already_stays() -> None:
    assert not any(difference([nic("a"), nic("b")], [nic("b"), nic("a")]))


def test_what_comes_and_what_goes() -> None:
    a, b, c = nic("a"), nic("b"), nic("c")
    assert difference([a, b], [b, c]) == ([a], [c], [])


def test_a_name_or_an_address_of_another_one_is_another_one() -> None:
    a, named, other = nic("a", "m"), nic("b", "m"), nic("a", "n")
    assert difference([a], [named]) == ([a], [named], [])
    assert difference([a], [other]) == ([a], [other], [])


def test_one_that_was_removed_and_made_anew_is_another_one() -> None:
    a, again = nic("a"), nic("a")
    assert difference([a], [again], [a]) == ([a], [again], [])


def test_what_was_not_ended_with_is_begun_anew() -> None:
    a = nic("a")
    begun = msgspec.structs.replace(a, provisional=True)
    assert difference([begun], [a]) == ([begun], [a], [])


def test_what_has_changed() -> None:
    for wanted in (nic("a", mtu=1400), nic("a", addresses=("10.0.0.3/24",)), nic("a", addresses=())):
        assert difference([nic("a")], [wanted]) == ([], [], [(nic("a"), wanted)])

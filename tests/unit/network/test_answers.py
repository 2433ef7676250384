"""Questions for names, and what is no question, whoever sends it."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import ClassVar

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.network import answers
from hypercontainer.network.answers import MOST_UDP, Address, Malformed


class Two:
    """Who sees a few names."""

    known: ClassVar = {
        "web": ["10.0.0.2"],
        "both": ["10.0.0.3", "fd00::3"],
        "six": ["fd00::4"],
        "many": [f"10.0.1.{n}" for n in range(60)],
    }

    def addresses(self, name: str) -> Sequence[Address] | None:
        return [ip_address(each) for each in self.known[name]] if name in self.known else None

    def name(self, address: Address) -> str:
        return {"10.0.0.2": "web.front", "fd00::4": "six.front", "10.0.0.9": "x" * 64}.get(str(address), "")


def ask(name: str, kind: str, *, most: int = MOST_UDP, **how: object) -> dns.message.Message | None:
    said = answers.answer(dns.message.make_query(name, kind, **how).to_wire(), Two(), most=most)  # type: ignore[arg-type]
    return dns.message.from_wire(said) if said is not None else None


def found(name: str, kind: str) -> list[str]:
    said = ask(name, kind)
    assert said and said.rcode() == dns.rcode.NOERROR
    assert all(rrset.ttl == 600 for rrset in said.answer)
    return sorted(str(rdata) for rrset in said.answer for rdata in rrset)


def test_what_is_known_is_answered() -> None:
    assert found("web", "A") == found("WEB.", "A") == ["10.0.0.2"]
    assert (found("both", "A"), found("both", "AAAA")) == (["10.0.0.3"], ["fd00::3"])
    assert found("2.0.0.10.in-addr.arpa", "PTR") == ["web.front."]
    assert found("4." + "0." * 29 + "d.f.ip6.arpa", "PTR") == ["six.front."]


def test_a_known_name_has_nothing_of_other_types() -> None:
    """As with docker: an AAAA that is NXDOMAIN would have a resolver give up the A."""
    for name, kind in (("web", "AAAA"), ("six", "A"), ("web", "MX"), ("web", "TXT")):
        assert found(name, kind) == []


def test_all_else_is_for_others_to_know() -> None:
    for name, kind in (
        ("db", "A"), ("web.example", "A"), ("3.0.0.10.in-addr.arpa", "PTR"), ("10.in-addr.arpa", "PTR"),
        ("x.in-addr.arpa", "PTR"), ("web", "PTR"), (".", "NS"), ("9.0.0.10.in-addr.arpa", "PTR"),
    ):  # fmt: skip
        assert ask(name, kind) is None
    assert ask("web", "A", rdclass="CH") is None


def test_several_take_turns() -> None:
    firsts = {str(next(iter(said.answer[0]))) for _ in range(200) if (said := ask("many", "A"))}
    assert len(firsts) > 1


def test_what_does_not_fit_is_cut_and_said_to_be() -> None:
    query = dns.message.make_query("many", "A").to_wire()
    cut, whole = (answers.answer(query, Two(), most=most) for most in (MOST_UDP, 65535))
    assert cut and whole and len(cut) <= MOST_UDP < len(whole)
    short, long = dns.message.from_wire(cut), dns.message.from_wire(whole)
    assert short.flags & dns.flags.TC and not long.flags & dns.flags.TC
    assert len(short.answer[0]) == (512 - 12 - 10) // 16 and len(long.answer[0]) == 60


def test_other_deeds_are_refused() -> None:
    query = bytearray(dns.message.make_query("web", "A").to_wire())
    query[2] |= 5 << 3  # an update
    said = answers.answer(bytes(query), Two(), most=MOST_UDP)
    assert said and dns.message.from_wire(said).rcode() == dns.rcode.NOTIMP
    query = bytearray(dns.message.make_query("web", "A").to_wire())
    query[4:6] = b"\xff\xff"
    said = answers.answer(bytes(query), Two(), most=MOST_UDP)
    assert said and dns.message.from_wire(said).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("data", [b"", b"x" * 11, b"\0\0\x80" + bytes(9), bytes(answers.MOST_QUESTION + 1)])
def test_what_is_no_question_has_no_answer(data: bytes) -> None:
    """An answer least of all: two servers would talk for ever."""
    with pytest.raises(Malformed):
        answers.answer(data, Two(), most=MOST_UDP)
    with pytest.raises(Malformed):
        answers.refusal(data, answers.SERVFAIL)


QUESTION = dns.message.make_query("web", "A", use_edns=True).to_wire()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A question, some bytes of it others, cut or followed by more."""
    data = bytearray(
        draw(st.sampled_from([QUESTION, dns.message.make_query("2.0.0.10.in-addr.arpa", "PTR").to_wire()]))
    )
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=40))


@given(st.one_of(mutated(), st.binary(max_size=600)))
def test_whatever_comes_is_answered_passed_on_or_dropped(data: bytes) -> None:
    try:
        said = answers.answer(data, Two(), most=MOST_UDP)
        refused = answers.refusal(data, answers.SERVFAIL)
    except Malformed:
        return
    assert refused[:2] == data[:2] and refused[2] & 0x80
    assert said is None or (said[:2] == data[:2] and said[2] & 0x80 and len(said) <= MOST_UDP)

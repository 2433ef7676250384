"""Questions for names -> answers. Pure: whatever a guest says is judged here, before anybody does anything about it.

The records themselves are read and written by dnspython. It costs 6 MiB and some 50 ms to load: only who serves names
imports this.
"""

import random
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

Address = IPv4Address | IPv6Address

TTL_S = 600  # docker's
MOST_UDP = 512  # RFC 1035; we know no EDNS, who asks for more than fits comes again by TCP
MOST_QUESTION = 4096  # bytes; real ones have some hundred, padding included
REFUSED, SERVFAIL = dns.rcode.REFUSED, dns.rcode.SERVFAIL
HEADER = struct.Struct(">HHHHHH")
IS_ANSWER = 0x8000


class Asker(Protocol):
    """Who asks: what it may know."""

    def addresses(self, name: str) -> Sequence[Address] | None:
        """What `name`, in lower case, has in the networks of who asks; None: nobody there is called so."""

    def name(self, address: Address) -> str:
        """Who has the address there, "": nobody."""


class Malformed(Exception):
    """No question that can be answered, not even with an error."""


def check(data: bytes) -> None:
    """Malformed."""
    if not HEADER.size <= len(data) <= MOST_QUESTION or HEADER.unpack_from(data)[1] & IS_ANSWER:
        raise Malformed


def answer(data: bytes, asker: Asker, *, most: int) -> bytes | None:
    """At most `most` bytes. None: the networks of who asks do not know, somebody else may. Malformed."""
    check(data)
    _, flags, questions, *_ = HEADER.unpack_from(data)
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return _header(data, dns.rcode.NOTIMP)
    if questions != 1:
        return _header(data, dns.rcode.FORMERR)
    try:
        query = dns.message.from_wire(data, question_only=True)
        question = query.question[0]
        found = _found(question, asker)
        if found is None:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if len(found) > (room := _room(question, most)):
            response.flags |= dns.flags.TC
            found = random.sample(found, room)
        if found:
            response.answer.append(dns.rrset.from_rdata_list(question.name, TTL_S, found))
        return response.to_wire(max_size=most)  # of several, another one is the first each time
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return _header(data, dns.rcode.FORMERR)


def refusal(data: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """The answer to a question, of which there is none. Malformed."""
    check(data)
    try:
        response = dns.message.make_response(dns.message.from_wire(data, question_only=True), recursion_available=True)
        response.set_rcode(rcode)
        return response.to_wire()
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return _header(data, rcode)


def _header(data: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer to what cannot be understood, or is no business of ours."""
    number, flags, *_ = HEADER.unpack_from(data)
    kept = flags & (dns.flags.RD | 0x7800)  # and what was to be done
    return HEADER.pack(number, IS_ANSWER | dns.flags.RA | kept | rcode, 0, 0, 0, 0)


def _room(question: dns.rrset.RRset, most: int) -> int:
    """How many addresses an answer holds. The question's name is said once, and meant by two bytes from then on."""
    record = 2 + 10 + (16 if question.rdtype == dns.rdatatype.AAAA else 4)
    name = sum(1 + len(label) for label in question.name.labels)
    return (most - HEADER.size - name - 4) // record


def _found(question: dns.rrset.RRset, asker: Asker) -> list[dns.rdata.Rdata] | None:
    """What there is to say: nothing of other types, of a name that is known."""
    if question.rdclass != dns.rdataclass.IN:
        return None
    if question.rdtype == dns.rdatatype.PTR:
        return _pointer(question.name, asker)
    known = asker.addresses(question.name.to_text(omit_final_dot=True).lower())
    if known is None:
        return None
    return [rdata for address in known if (rdata := _rdata(address)).rdtype == question.rdtype]


def _rdata(address: Address) -> dns.rdata.Rdata:
    rdtype = dns.rdatatype.A if address.version == 4 else dns.rdatatype.AAAA
    return dns.rdata.from_wire(dns.rdataclass.IN, rdtype, address.packed, 0, len(address.packed))


def _pointer(asked: dns.name.Name, asker: Asker) -> list[dns.rdata.Rdata] | None:
    try:
        name = asker.name(ip_address(dns.reversename.to_address(asked)))
        target = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.PTR, f"{name}.") if name else None
    except (dns.exception.DNSException, ValueError):  # of no whole address; or what it is called is no name in DNS
        return None
    return [target] if target else None

"""Netlink's messages, and the kernel's answers to them."""

import errno
import os
import socket
import struct

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.lib.netlink import HEADER, Netlink, attribute, attributes, messages, nested, text
from hypercontainer.network import redirect
from tests.interop.netns import inside, ip, namespace

GETLINK, NEWLINK = 18, 16
IFINFO = struct.Struct("=BxHiII")


def test_attributes_there_and_back() -> None:
    said = attribute(1, b"a\0") + nested(2, attribute(3, b"12345"), attribute(4, b""))
    found = attributes(said)
    assert (text(found[1]), attributes(found[2])) == ("a", {3: b"12345", 4: b""})
    assert len(said) % 4 == 0


def test_messages_one_after_the_other() -> None:
    one = HEADER.pack(19, 7, 0, 1, 0) + b"abc"
    two = HEADER.pack(16, 8, 2, 1, 0)
    assert [(m.kind, m.body) for m in messages(one + b"\0" + two)] == [(7, b"abc"), (8, b"")]


@pytest.mark.parametrize("data", [b"abc", HEADER.pack(15, 7, 0, 1, 0), HEADER.pack(17, 7, 0, 1, 0)])
def test_messages_that_are_cut_short(data: bytes) -> None:
    with pytest.raises(HyperError, match="cannot read what the kernel says"):
        list(messages(data))


def test_a_list() -> None:
    with Netlink() as kernel:
        found = kernel.dump(GETLINK, IFINFO.pack(0, 0, 0, 0, 0))
    assert 1 in [IFINFO.unpack_from(body)[2] for body in found]


def test_errors_are_the_kernels_with_its_words() -> None:
    with Netlink() as kernel:
        with pytest.raises(OSError) as raised:
            kernel.ask(NEWLINK, IFINFO.pack(0, 0, 2_000_000_000, 0, 0))
        assert raised.value.errno in (errno.ENODEV, errno.EPERM)
        with pytest.raises(OSError) as raised:
            kernel.dump(9999, IFINFO.pack(0, 0, 0, 0, 0))
        assert raised.value.errno in (errno.EOPNOTSUPP, errno.EPERM)
        assert len(kernel.dump(GETLINK, IFINFO.pack(0, 0, 0, 0, 0))) >= 1  # it is of use after that


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_the_kernels_own_words() -> None:
    with namespace("hynl") as given, inside(given), Netlink() as kernel:
        ip("link add name d0 type veth peer name d1")
        redirect.add_ingress(kernel, socket.if_nametoindex("d0"))
        with pytest.raises(FileExistsError) as raised:
            redirect.add_ingress(kernel, socket.if_nametoindex("d0"))
    assert raised.value.strerror == "File exists (Exclusivity flag on, cannot modify)"

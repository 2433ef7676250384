"""The short way of a call, beside the whole of ttrpc."""

import pytest

from hypercontainer.lib import ttrpc
from hypercontainer.shim import call


@pytest.mark.parametrize("payload", [b"", b"{}", b"x" * 300, b"y" * 70_000])
def test_a_request_is_what_ttrpc_has(payload: bytes) -> None:
    if payload:
        assert call.request("a.Service", "Method", payload) == ttrpc.request(1, "a.Service", "Method", payload).encode()
    answer = ttrpc.response(1, payload).encode()
    assert call.length(answer[: call.HEADER_BYTES]) == len(answer) - call.HEADER_BYTES
    assert call.answer(answer[call.HEADER_BYTES :]) == payload


def test_an_error_has_hyperds_words() -> None:
    answer = ttrpc.failure(1, ttrpc.NOT_FOUND, "no such container").encode()
    with pytest.raises(OSError, match=r"^no such container$"):
        call.answer(answer[call.HEADER_BYTES :])


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\xff", b"\x0d\0\0\0\0", b"\xff" * 30])
def test_what_is_no_answer_is_an_error(message: bytes) -> None:
    with pytest.raises(OSError, match="the message"):
        call.answer(message)


def test_one_that_is_too_long() -> None:
    with pytest.raises(OSError, match="bytes"):
        call.length(b"\xff" * call.HEADER_BYTES)

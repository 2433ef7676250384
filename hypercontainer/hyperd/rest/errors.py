"""Errors in this dialect: one document, wherever it stands."""

from hypercontainer.errors import GuestError, HyperError


def document(error: HyperError) -> dict[str, object]:
    document: dict[str, object] = {"message": str(error), "kind": error.kind}
    if isinstance(error, GuestError) and error.errno:
        document["errno"] = error.errno
    if isinstance(error, GuestError) and error.exec:
        document["exec"] = True
    return document

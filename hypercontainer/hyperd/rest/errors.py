"""Errors in this dialect: one document, wherever it stands."""

from hypercontainer.errors import HyperError


def document(error: HyperError) -> dict[str, object]:
    """For a person its message, for programs its kind and those of its facts that say something."""
    facts = {name: value for name in error.facts if (value := getattr(error, name))}
    return {"message": str(error), "kind": error.kind, **facts}

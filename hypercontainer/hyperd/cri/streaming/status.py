"""How a process has ended, as clients of Kubernetes want to hear it: a metav1.Status on the error channel."""

import json

from hypercontainer.errors import HyperError


def success() -> bytes:
    return _status({"metadata": {}, "status": "Success"})


def exited(status: int, reason: str) -> bytes:
    """Of an exec. `reason`: why it was ended, where its status alone does not tell."""
    if status == 0:
        return success()
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": words(status, reason),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(status)}]},
        }
    )


def failed(error: HyperError) -> bytes:
    """It could not be started, or nobody knows how it ended."""
    return _status(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"Internal error occurred: {error}",
            "reason": "InternalError",
            "details": {"causes": [{"message": str(error)}]},
            "code": 500,
        }
    )


def words(status: int, reason: str) -> str:
    """The same for protocols before version 4, which know no more than a text; "" is success."""
    if status == 0:
        return ""
    return f"command terminated with non-zero exit code: {status}" + (f" ({reason})" if reason else "")


def _status(document: object) -> bytes:
    return json.dumps(document).encode()

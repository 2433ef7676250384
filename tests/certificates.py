"""Certificates for tests, made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


class Authority:
    """One that signs certificates, in `folder`, which is made."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True)
        self.folder, self.pem, self._key = folder, folder / "ca.pem", folder / "ca-key.pem"
        _openssl("req", "-x509", *_new(self._key, name), "-days", "2", "-out", self.pem)

    def sign(self, name: str, *, usage: str = "clientAuth", address: str = "", days: int = 1) -> Pair:
        """One for `name`; `days` -1: it has ended, or never begun."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName=IP:{address}\n" if address else ""))
        _openssl("req", *_new(pair.key, name), "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self._key, "-CAcreateserial",
            "-days", str(days), "-extfile", extensions, "-out", pair.cert,
        )  # fmt: skip
        return pair


def _new(key: Path, name: str) -> tuple[str | Path, ...]:
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return (*kind, "-nodes", "-keyout", key, "-subj", f"/CN={name}")


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)

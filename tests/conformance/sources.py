"""The sources of Debian's packages, whatever of them this host's apt knows: those of its own archives."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

APT = Path("/etc/apt")


def fetch(package: str, folder: Path) -> Path:
    """The archive of what its authors have published, in `folder`, where nothing else is left."""
    for name in ("lists/partial", "sources", "got"):
        (folder / name).mkdir(parents=True)
    for file in (*APT.glob("sources.list"), *(APT / "sources.list.d").glob("*")):
        if file.suffix in (".list", ".sources"):
            (folder / "sources" / file.name).write_text(of_sources(file.read_text()))
    apt: Sequence[str | Path] = [
        "apt-get", "-qq",
        "-o", "Dir::Etc::sourcelist=/dev/null",
        "-o", f"Dir::Etc::sourceparts={folder}/sources",
        "-o", f"Dir::State::lists={folder}/lists",
        "-o", "Dir::Cache::pkgcache=",
        "-o", "Dir::Cache::srcpkgcache=",
        "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    subprocess.run([*apt, "update"], check=True)
    quiet = subprocess.DEVNULL
    subprocess.run([*apt, "source", "--download-only", package], check=True, cwd=folder / "got", stdout=quiet)
    [archive] = (folder / "got").glob("*.orig.tar.*[z2]")
    made = archive.rename(folder / archive.name)
    for name in ("lists", "sources", "got"):
        subprocess.run(["rm", "-r", folder / name], check=True)
    return made


def of_sources(text: str) -> str:
    """apt's sources -> the sources of these packages, in either of its formats."""
    lines = []
    for line in text.splitlines():
        key, colon, _ = line.partition(":")
        if colon and key.strip().lower() == "types":
            line = "Types: deb-src"
        elif line.startswith("deb "):
            line = f"deb-src {line.removeprefix('deb ')}"
        lines.append(line)
    return "\n".join(lines) + "\n"

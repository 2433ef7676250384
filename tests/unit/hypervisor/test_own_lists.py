"""What a QEMU of our own is built with is what the command line names, each with its reason."""

import re
from pathlib import Path

from hypercontainer.hypervisor.qemu.machines import MICROVM, Q35
from tests.unit.hypervisor.test_argv import FDS, a_config, lines

LISTS = Path(__file__).parents[3] / "host/qemu"
PARTS = {"scsi-hd": "virtio-scsi", "virtserialport": "virtio-serial"}  # in whose files they are


def words(name: str) -> list[str]:
    """Of a list, each with its reason."""
    found = []
    for line in (LISTS / name).read_text().splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"(\S+)  # \S.*", line)
            assert match, f"{name} has {line!r}, which is not a word, two spaces, # and a reason"
            found.append(match[1])
    assert len(found) == len(set(found))
    return found


def test_its_devices_are_those_of_the_command_line() -> None:
    named = set(re.findall(r"^-device ([\w-]+)", lines(a_config(), FDS, Q35), re.MULTILINE))
    assert len(named) == 9
    parts = {PARTS.get(name, name.removesuffix(f"-{Q35.bus}")) for name in named} | {Q35.type, f"virtio-{Q35.bus}"}
    parts |= {MICROVM.type}
    assert set(words(f"{Q35.arch}.mak")) == {f"CONFIG_{part.upper().replace('-', '_')}=y" for part in parts}


def test_its_features_are_what_the_command_line_asks_for() -> None:
    assert {"system", "kvm", "tcg", "seccomp", "vhost-user"} < set(words("features"))

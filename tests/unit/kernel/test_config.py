"""Our fragments, and the proof that a kernel got what they ask for."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.kernel import config
from hypercontainer.kernel.config import Option

ROOT = Path(__file__).parents[3]
NEEDED = """64BIT SMP HOTPLUG_PCI_ACPI ACPI_HOTPLUG_CPU MEMORY_HOTPLUG PVH OVERLAY_FS EROFS_FS EXT4_FS FUSE_FS VIRTIO_FS
9P_FS VIRTIO_VSOCKETS NF_TABLES IP_VS VETH BRIDGE CGROUPS MEMCG BLK_CGROUP CGROUP_PIDS CPUSETS CFS_BANDWIDTH
SECCOMP_FILTER CGROUP_BPF USER_NS VIRTIO_MEM VIRTIO_BALLOON PAGE_REPORTING VIRTIO_PMEM IPV6 NFS_FS NFS_V4"""


def test_our_own_can_be_read_and_each_line_has_a_reason() -> None:
    options = config.fragments()
    assert len(options) > 300
    assert {f"CONFIG_{name}" for name in NEEDED.split()} <= {o.name for o in options if o.value == "y"}
    assert all(option.reason for option in options)


def test_every_fragment_is_in_the_table_and_says_what_it_is_for() -> None:
    table = (config.FRAGMENTS / "README.md").read_text()
    paths = list(config.FRAGMENTS.glob("*.config"))
    assert paths
    for path in paths:
        assert f"| `{path.name}` |" in table
        assert path.read_text().startswith("# ")


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / f"{name}.config").write_text(text)
    return path


def test_fragments_become_what_kconfig_reads(tmp_path: Path) -> None:
    text = '# words\n\nCONFIG_A=y  # why\nCONFIG_B=n  # why not\nCONFIG_C=64  # many\nCONFIG_D="a b"  # text\n'
    options = config.fragments(folder(tmp_path, one=text))
    assert options[0] == Option("CONFIG_A", "y", "why", "one.config:3")
    assert config.merged(options) == 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=64\nCONFIG_D="a b"\n'


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_A=y",
        "CONFIG_A=y  #",
        "CONFIG_A=y  # ",
        "CONFIG_A=y # one space",
        "CONFIG_A=m  # a module",
        "CONFIG_A=  # nothing",
        "CONFIG_A=08  # octal",
        'CONFIG_A="a\\"b"  # escapes',
        "A=y  # no prefix",
        "# CONFIG_A is not set",
        " CONFIG_A=y  # indented",
    ],
)
def test_a_line_that_is_no_option_with_a_reason_is_named(tmp_path: Path, line: str) -> None:
    if line.startswith("#"):
        assert config.fragments(folder(tmp_path, one=line)) == []
        return
    with pytest.raises(InvalidInput, match=r"one\.config:2"):
        config.fragments(folder(tmp_path, one=f"# words\n{line}\n"))


def test_an_option_is_asked_for_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"two\.config:1: CONFIG_A is in one\.config:1 already"):
        config.fragments(folder(tmp_path, one="CONFIG_A=y  # why\n", two="CONFIG_A=n  # why\n"))


CONFIG = '#\n# Automatically generated\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=64\nCONFIG_D="a b"\n'


def asked(**values: str) -> list[Option]:
    return [Option(f"CONFIG_{name}", value, "why", f"f:{n}") for n, (name, value) in enumerate(values.items())]


def test_a_kernel_that_has_everything_passes() -> None:
    config.check(asked(A="y", B="n", C="64", D='"a b"', E="n"), config.parse(CONFIG))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (asked(B="y"), r"CONFIG_B=y \(f:0\) became n"),
        (asked(UNKNOWN="y"), r"CONFIG_UNKNOWN=y \(f:0\) became n"),
        (asked(A="n"), r"CONFIG_A=n \(f:0\) became y"),
        (asked(C="32"), r"CONFIG_C=32 \(f:0\) became 64"),
        (asked(D='"a"'), r'became "a b"'),
    ],
)
def test_what_is_missing_or_different_is_named(option: list[Option], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        config.check(option, config.parse(CONFIG))


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"CONFIG_B=y .*; CONFIG_X=y"):
        config.check(asked(A="y", B="y", X="y"), config.parse(CONFIG))

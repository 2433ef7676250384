"""Which modules, in which order."""

from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput
from hypercontainer.kernel.modules import BOOT, ModuleTree

DEP = """\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko
kernel/fs/mbcache.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/crypto/crc32c_generic.ko:
kernel/lib/libcrc32c.ko:
kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko
kernel/net/post.ko:
"""
SOFTDEP = """\
# comment
softdep ext4 pre: crypto-crc32c
softdep libcrc32c pre: crc32c post: post
softdep mbcache pre: not-there-at-all
"""
ALIAS = """\
# Aliases extracted from modules themselves.
alias crypto-crc32c crc32c_generic
alias crc32c crc32c_generic
alias virtio:d00000004v* virtio_rng
"""


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    (tmp_path / "modules.dep").write_text(DEP)
    (tmp_path / "modules.softdep").write_text(SOFTDEP)
    (tmp_path / "modules.alias").write_text(ALIAS)
    (tmp_path / "modules.builtin").write_text("kernel/fs/fuse/fuse.ko\n")
    return ModuleTree(tmp_path)


def names(tree: ModuleTree, *wanted: str) -> list[str]:
    return [module.name for module in tree.pick(wanted)]


def test_a_module_comes_after_what_it_needs_and_once(tree: ModuleTree) -> None:
    assert names(tree, "virtio_rng", "virtio") == ["virtio_ring", "virtio", "virtio_rng"]


def test_soft_dependencies_come_before_by_their_aliases(tree: ModuleTree) -> None:
    assert names(tree, "ext4") == ["jbd2", "mbcache", "crc32c_generic", "ext4"]
    assert names(tree, "erofs") == ["crc32c_generic", "libcrc32c", "erofs"]


def test_dashes_underscores_and_packed_files_are_the_same_module(tree: ModuleTree) -> None:
    assert tree.pick(["virtio-rng"])[-1].path == tree.path / "kernel/drivers/char/hw_random/virtio-rng.ko"
    assert tree.pick(["erofs"])[-1].path.name == "erofs.ko.xz"


def test_what_is_built_in_needs_no_file(tree: ModuleTree) -> None:
    assert names(tree, "fuse") == []


def test_what_is_neither_is_named(tree: ModuleTree) -> None:
    with pytest.raises(InvalidInput, match="no module xfs"):
        tree.pick(["ext4", "xfs"])


def test_a_tree_that_depmod_has_not_seen_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run depmod"):
        ModuleTree(tmp_path)


def test_a_line_of_the_order_has_the_parameters(tmp_path: Path) -> None:
    for name in ("dep", "softdep", "alias", "builtin"):
        (tmp_path / f"modules.{name}").write_text("kernel/scsi_mod.ko:\nkernel/sd_mod.ko:\n" if name == "dep" else "")
    assert [m.line for m in ModuleTree(tmp_path).pick(["scsi_mod", "sd_mod"])] == [
        "scsi_mod.ko scan=manual",
        "sd_mod.ko",
    ]


def test_the_channel_to_the_host_is_loaded_first() -> None:
    assert BOOT[:2] == ("virtio_pci", "virtio_console")


def test_what_is_loaded_later_comes_without_what_is_there(tree: ModuleTree) -> None:
    loaded = tree.pick(["virtio"])
    assert [module.name for module in tree.further(["virtio-rng", "bridge"], loaded)] == ["virtio_rng"]
    assert [module.name for module in tree.further(["virtio-rng"], [])] == ["virtio_ring", "virtio", "virtio_rng"]

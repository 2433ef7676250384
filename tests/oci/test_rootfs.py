"""The root file system."""

import pytest

from tests.oci.runtime import Runtime


def test_what_is_written_is_in_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo written >/new")
    assert oci.run(bundle).status == 0
    assert (bundle.rootfs / "new").read_text() == "written\n"


def test_what_the_host_writes_is_seen(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "read x; cat /late")
    container = oci.start(bundle)
    bundle.file("/late", "late")
    container.close()
    assert container.out.rest() == "late"


def test_a_read_only_root(oci: Runtime) -> None:
    bundle = oci.bundle("touch", "/new")
    bundle.config["root"]["readonly"] = True
    done = oci.run(bundle)
    assert done.status == 1
    assert "Read-only file system" in done.err
    assert not (bundle.rootfs / "new").exists()


def test_mounts_of_a_read_only_root_stay_writable(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo x >/data/new && echo y >/dev/shm/new && cat /data/new /dev/shm/new")
    bundle.mount("/data", "tmpfs", type="tmpfs")
    bundle.config["root"]["readonly"] = True
    assert oci.run(bundle).out == "x\ny\n"


def test_remounting_a_read_only_root_takes_a_capability(oci: Runtime) -> None:
    bundle = oci.bundle("mount", "-o", "remount,rw", "/")
    bundle.config["root"]["readonly"] = True
    assert oci.run(bundle).status != 0


@pytest.mark.parametrize("readonly", [False, None], ids=["false", "unset"])
def test_a_root_is_writable_otherwise(oci: Runtime, readonly: bool | None) -> None:
    bundle = oci.bundle("touch", "/new")
    if readonly is not None:
        bundle.config["root"]["readonly"] = readonly
    assert oci.run(bundle).status == 0


def test_an_absolute_path(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/mark")
    bundle.file("/mark", "this one")
    bundle.config["root"]["path"] = str(bundle.rootfs)
    assert oci.run(bundle).out == "this one"


def test_another_folder_of_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/mark")
    bundle.file("/mark", "this one")
    bundle.rootfs = bundle.rootfs.rename(bundle.folder / "another")
    bundle.config["root"]["path"] = "another"
    assert oci.run(bundle).out == "this one"


def test_a_folder_outside_the_bundle(oci: Runtime) -> None:
    bundle, other = oci.bundle("cat", "/mark"), oci.bundle()
    other.file("/mark", "the other's")
    bundle.config["root"]["path"] = str(other.rootfs)
    assert oci.run(bundle).out == "the other's"


def test_the_hosts_files_are_not_there(oci: Runtime) -> None:
    secret = oci.path()
    secret.write_text("secret")
    assert oci.run(oci.bundle("cat", str(secret))).status == 1


def test_there_is_nothing_above_the_root(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cd /../../..; pwd; ls mark")
    bundle.file("/mark")
    assert oci.run(bundle).out == "/\nmark\n"


def test_no_mount_of_the_host_is_left_inside(oci: Runtime) -> None:
    bundle = oci.bundle("cut", "-d", " ", "-f", "5", "/proc/self/mountinfo")
    found = set(oci.run(bundle).out.split())
    assert {"/", "/proc", "/dev", "/sys"} <= found
    assert not {mount for mount in found if not mount.startswith(("/proc", "/dev", "/sys")) and mount != "/"}


def test_without_pivot_root_it_runs_too(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/mark")
    bundle.file("/mark", "here")
    assert oci.run(bundle, "--no-pivot").out == "here"


def test_the_root_has_the_hosts_mode(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%a", "/")
    bundle.rootfs.chmod(0o751)
    assert oci.run(bundle).out == "751\n"


@pytest.mark.parametrize(
    ("propagation", "tag"),
    [("private", ""), ("rprivate", ""), ("slave", ""), ("shared", "shared:"), ("unbindable", "unbindable")],
)
def test_the_propagation_of_the_root(oci: Runtime, propagation: str, tag: str) -> None:
    bundle = oci.bundle("grep", " / / \\| /.*rootfs / ", "/proc/self/mountinfo")
    bundle.linux["rootfsPropagation"] = propagation
    found = " ".join(oci.run(bundle).out.partition(" - ")[0].split()[6:])
    assert tag in found
    assert tag or "shared" not in found


def test_an_unknown_propagation_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.linux["rootfsPropagation"] = "sideways"
    oci.refuses(bundle)


def test_hard_links_and_symbolic_links(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "ln /a /hard; ln -s /a /soft; echo x >>/soft; cat /hard; stat -c %h /a")
    bundle.file("/a", "a")
    assert oci.run(bundle).out == "ax\n2\n"
    assert (bundle.rootfs / "soft").readlink().as_posix() == "/a"


def test_a_rootfs_that_has_only_the_program(oci: Runtime) -> None:
    bundle = oci.bundle("/bin/busybox", "echo", "alone")
    for name in ("etc", "home", "lib", "usr", "var", "www", "tmp", "root", "proc", "sys", "dev"):
        oci.host("rm", "-rf", bundle.rootfs / name)
    assert oci.run(bundle).out == "alone\n"

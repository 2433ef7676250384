"""maskedPaths and readonlyPaths."""

import pytest

from tests.oci.runtime import Runtime


def test_a_masked_file_is_empty(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/secret")
    bundle.file("/secret", "secret")
    bundle.linux["maskedPaths"] = ["/secret"]
    assert oci.run(bundle) == (0, "", "")


def test_a_masked_file_does_not_take_what_is_written(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo x >/secret")
    file = bundle.file("/secret", "secret")
    bundle.linux["maskedPaths"] = ["/secret"]
    oci.run(bundle)
    assert file.read_text() == "secret"


def test_a_masked_folder_is_empty(oci: Runtime) -> None:
    bundle = oci.bundle("ls", "-A", "/secrets")
    bundle.file("/secrets/one", "secret")
    bundle.linux["maskedPaths"] = ["/secrets"]
    assert oci.run(bundle) == (0, "", "")


def test_a_masked_folder_is_read_only(oci: Runtime) -> None:
    bundle = oci.bundle("touch", "/secrets/new")
    bundle.file("/secrets/one", "secret")
    bundle.linux["maskedPaths"] = ["/secrets"]
    assert "Read-only file system" in oci.run(bundle).err


def test_a_masked_file_of_proc(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/version")
    bundle.linux["maskedPaths"] = ["/proc/version"]
    assert oci.run(bundle).out == ""


def test_a_masked_path_that_is_missing(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.linux["maskedPaths"] = ["/no/such/path", "/proc/nosuch"]
    assert oci.run(bundle).out == "ran\n"


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_a_list_of_none(oci: Runtime, key: str) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.linux[key] = []
    assert oci.run(bundle).out == "ran\n"


def test_a_read_only_file(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /file; echo x >/file")
    bundle.file("/file", "as it was\n")
    bundle.linux["readonlyPaths"] = ["/file"]
    done = oci.run(bundle)
    assert done.out == "as it was\n"
    assert "Read-only file system" in done.err


def test_a_read_only_folder(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "ls /folder; touch /folder/new")
    bundle.file("/folder/there", "")
    bundle.linux["readonlyPaths"] = ["/folder"]
    done = oci.run(bundle)
    assert done.out == "there\n"
    assert "Read-only file system" in done.err


def test_beside_a_read_only_folder_all_is_writable(oci: Runtime) -> None:
    bundle = oci.bundle("touch", "/beside")
    bundle.file("/folder/there", "")
    bundle.linux["readonlyPaths"] = ["/folder"]
    assert oci.run(bundle).status == 0


def test_a_read_only_part_of_proc(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo other >/proc/sys/kernel/hostname")
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    assert "Read-only file system" in oci.run(bundle).err


def test_a_read_only_path_that_is_missing(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.linux["readonlyPaths"] = ["/no/such/path"]
    assert oci.run(bundle).out == "ran\n"


def test_an_exec_sees_the_same(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.file("/secret", "secret")
    bundle.linux.update(maskedPaths=["/secret"], readonlyPaths=["/etc"])
    container = oci.start(bundle)
    assert container.exec("cat", "/secret").out == ""
    assert "Read-only file system" in container.exec("touch", "/etc/new").err


def test_a_masked_mount(oci: Runtime) -> None:
    bundle, source = oci.bundle("cat", "/data/secret"), oci.path()
    source.mkdir()
    (source / "secret").write_text("secret")
    bundle.mount("/data", source, "bind")
    bundle.linux["maskedPaths"] = ["/data/secret"]
    assert oci.run(bundle) == (0, "", "")

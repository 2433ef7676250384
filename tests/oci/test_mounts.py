"""Mounts of the bundle: what they show, what they forbid, and in which order."""

import os
import stat
from pathlib import Path

import pytest

from tests.oci.bundle import Bundle
from tests.oci.runtime import Runtime


def folder(oci: Runtime, **files: str) -> Path:
    """One of the host."""
    made = oci.path("folder")
    made.mkdir()
    for name, content in files.items():
        (made / name).write_text(content)
    return made


def options(oci: Runtime, bundle: Bundle, destination: str) -> set[str]:
    """With which options something is mounted, the file system's own too."""
    bundle.process["args"] = ["grep", f" {destination} ", "/proc/self/mountinfo"]
    fields = oci.run(bundle).out.split()
    return {*fields[5].split(","), *fields[-1].split(","), *fields[6:-3]}


def test_a_bind_shows_the_hosts_folder(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    bundle.mount("/data", folder(oci, file="the host's"), "bind")
    assert oci.run(bundle).out == "the host's"


def test_what_is_written_to_a_bind_is_the_hosts(oci: Runtime) -> None:
    bundle, data = oci.bundle("sh", "-c", "echo written >/data/new"), folder(oci)
    bundle.mount("/data", data, "bind", "rw")
    assert oci.run(bundle).status == 0
    assert (data / "new").read_text() == "written\n"


def test_what_the_host_writes_later_is_seen(oci: Runtime) -> None:
    bundle, data = oci.bundle("sh", "-c", "read x; cat /data/late"), folder(oci)
    bundle.mount("/data", data, "bind")
    container = oci.start(bundle)
    (data / "late").write_text("late")
    container.close()
    assert container.out.rest() == "late"


def test_a_read_only_bind(oci: Runtime) -> None:
    bundle, data = oci.bundle("touch", "/data/new"), folder(oci)
    bundle.mount("/data", data, "bind", "ro")
    done = oci.run(bundle)
    assert "Read-only file system" in done.err
    assert list(data.iterdir()) == []


def test_a_bind_by_its_option_alone(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    bundle.mount("/data", folder(oci, file="there"), "rbind", type="none")
    assert oci.run(bundle).out == "there"


def test_a_bind_of_a_file(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/etc/passwd")
    bundle.mount("/etc/passwd", folder(oci, file="another") / "file", "bind")
    assert oci.run(bundle).out == "another"
    assert "root" in (bundle.rootfs / "etc/passwd").read_text()


def test_a_bind_of_a_file_to_where_none_is(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/new/folder/file")
    bundle.mount("/new/folder/file", folder(oci, file="there") / "file", "bind")
    assert oci.run(bundle).out == "there"


def test_a_file_that_the_host_writes_to_again(oci: Runtime) -> None:
    bundle, data = oci.bundle("sh", "-c", "read x; cat /etc/hosts"), folder(oci, file="before")
    bundle.mount("/etc/hosts", data / "file", "bind")
    container = oci.start(bundle)
    (data / "file").write_text("after")
    container.close()
    assert container.out.rest() == "after"


def test_a_read_only_file(oci: Runtime) -> None:
    bundle, data = oci.bundle("sh", "-c", "echo x >/file"), folder(oci, file="as it was")
    bundle.mount("/file", data / "file", "bind", "ro")
    assert "Read-only file system" in oci.run(bundle).err
    assert (data / "file").read_text() == "as it was"


def test_a_relative_source_is_of_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    (bundle.folder / "mine").mkdir()
    (bundle.folder / "mine/file").write_text("the bundle's")
    bundle.mount("/data", "mine", "bind")
    bundle.save()
    assert oci.call("run", "--bundle", bundle.folder, oci.id(), cwd=bundle.folder).out == "the bundle's"


def test_a_source_that_is_a_symbolic_link(oci: Runtime) -> None:
    bundle, link = oci.bundle("cat", "/data/file"), oci.path()
    link.symlink_to(folder(oci, file="behind the link"))
    bundle.mount("/data", link, "bind")
    assert oci.run(bundle).out == "behind the link"


def test_a_source_that_is_missing_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/data", oci.path(), "bind")
    assert "o such file" in oci.refuses(bundle)


def test_owners_and_modes_are_the_hosts(oci: Runtime) -> None:
    bundle, data = oci.bundle("stat", "-c", "%u %g %a", "/data/file"), folder(oci, file="x")
    os.chown(data / "file", 12, 34)
    (data / "file").chmod(0o4750)
    bundle.mount("/data", data, "bind")
    assert oci.run(bundle).out == "12 34 4750\n"


def test_rbind_takes_what_is_mounted_below(oci: Runtime) -> None:
    bundle, data = oci.bundle("ls", "/data/below"), folder(oci)
    (data / "below").mkdir()
    oci.host("mount", "-t", "tmpfs", "below", data / "below")
    try:
        oci.host("touch", data / "below/there")
        bundle.mount("/data", data, "rbind")
        assert oci.run(bundle).out == "there\n"
    finally:
        oci.host("umount", data / "below")


def test_bind_does_not_take_what_is_mounted_below(oci: Runtime) -> None:
    bundle, data = oci.bundle("ls", "/data/below"), folder(oci)
    (data / "below").mkdir()
    oci.host("mount", "-t", "tmpfs", "below", data / "below")
    try:
        oci.host("touch", data / "below/there")
        bundle.mount("/data", data, "bind")
        assert oci.run(bundle).out == ""
    finally:
        oci.host("umount", data / "below")


@pytest.mark.parametrize(("option", "status"), [("ro", 0), ("rro", 1)])
def test_read_only_is_for_what_is_below_with_rro_alone(oci: Runtime, option: str, status: int) -> None:
    bundle, data = oci.bundle("touch", "/data/below/new"), folder(oci)
    (data / "below").mkdir()
    oci.host("mount", "-t", "tmpfs", "below", data / "below")
    try:
        bundle.mount("/data", data, "rbind", option)
        assert oci.run(bundle).status == status
    finally:
        oci.host("umount", data / "below")


def test_a_tmpfs_is_empty_and_writable(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "ls /etc; echo x >/etc/new; cat /etc/new")
    bundle.mount("/etc", "tmpfs", type="tmpfs")
    assert oci.run(bundle).out == "x\n"
    assert not (bundle.rootfs / "etc/new").exists()


def test_the_size_of_a_tmpfs(oci: Runtime) -> None:
    bundle = oci.bundle("dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=2")
    bundle.mount("/data", "tmpfs", "size=1m", type="tmpfs")
    assert "No space left" in oci.run(bundle).err


def test_the_mode_of_a_tmpfs(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%a %u %g", "/data")
    bundle.mount("/data", "tmpfs", "mode=1750", "uid=12", "gid=34", type="tmpfs")
    assert oci.run(bundle).out == "1750 12 34\n"


def test_the_inodes_of_a_tmpfs(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cd /data; touch a b c d e f; ls | wc -l")
    bundle.mount("/data", "tmpfs", "nr_inodes=4", type="tmpfs")
    assert int(oci.run(bundle).out) < 6


def test_a_read_only_tmpfs(oci: Runtime) -> None:
    bundle = oci.bundle("touch", "/data/new")
    bundle.mount("/data", "tmpfs", "ro", type="tmpfs")
    assert "Read-only file system" in oci.run(bundle).err


def test_tmpcopyup_begins_with_what_was_there(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /data/file; echo new >/data/file")
    bundle.file("/data/file", "below")
    bundle.mount("/data", "tmpfs", "tmpcopyup", type="tmpfs")
    assert oci.run(bundle).out == "below"
    assert (bundle.rootfs / "data/file").read_text() == "below"


@pytest.mark.parametrize("option", ["nosuid", "nodev", "noexec", "ro", "noatime", "nodiratime"])
@pytest.mark.parametrize("type", ["bind", "tmpfs"])
def test_an_option_is_set(oci: Runtime, type: str, option: str) -> None:
    bundle = oci.bundle()
    if type == "bind":
        bundle.mount("/data", folder(oci), "bind", option)
    else:
        bundle.mount("/data", "tmpfs", option, type="tmpfs")
    assert option in options(oci, bundle, "/data")


def test_a_later_option_wins(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/data", "tmpfs", "ro", "noexec", "rw", "exec", type="tmpfs")
    found = options(oci, bundle, "/data")
    assert "rw" in found
    assert not {"ro", "noexec"} & found


def test_nothing_runs_from_noexec(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cp /bin/busybox /data/true && /data/true")
    bundle.mount("/data", "tmpfs", "noexec", "size=8m", type="tmpfs")
    done = oci.run(bundle)
    assert done.status == 126
    assert "Permission denied" in done.err


def test_devices_do_not_work_on_nodev(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "mknod /data/null c 1 3 && echo x >/data/null")
    bundle.mount("/data", "tmpfs", "nodev", type="tmpfs")
    assert "Permission denied" in oci.run(bundle).err


def test_mounts_are_made_in_their_order(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cat /data/file; cat /data/below/file")
    bundle.mount("/data", folder(oci, file="first"), "bind")
    bundle.mount("/data/below", folder(oci, file="second"), "bind")
    (Path(bundle.config["mounts"][-2]["source"]) / "below").mkdir()
    assert oci.run(bundle).out == "firstsecond"


def test_a_later_mount_hides_an_earlier_one(oci: Runtime) -> None:
    bundle = oci.bundle("ls", "/data")
    bundle.mount("/data/below", folder(oci, hidden="x"), "bind")
    bundle.mount("/data", folder(oci, shown="x"), "bind")
    assert oci.run(bundle).out == "shown\n"


def test_two_mounts_of_one_destination(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    for content in ("first", "second"):
        bundle.mount("/data", folder(oci, file=content), "bind")
    assert oci.run(bundle).out == "second"


def test_a_missing_destination_is_made(oci: Runtime) -> None:
    bundle = oci.bundle("stat", "-c", "%F", "/a/b/c")
    bundle.mount("/a/b/c", "tmpfs", type="tmpfs")
    assert oci.run(bundle).out == "directory\n"
    assert stat.S_ISDIR((bundle.rootfs / "a/b/c").stat().st_mode)


def test_a_destination_with_dots(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    bundle.mount("/var/../data/./", folder(oci, file="there"), "bind")
    assert oci.run(bundle).out == "there"


def test_a_destination_never_leaves_the_rootfs(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/data/file")
    bundle.mount("/../../../../data", folder(oci, file="there"), "bind")
    assert oci.run(bundle).out == "there"
    assert not (bundle.folder / "data").exists()


def test_a_destination_behind_a_symbolic_link(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/real/file")
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "link").symlink_to("/real")
    bundle.mount("/link", folder(oci, file="there"), "bind")
    assert oci.run(bundle).out == "there"


def test_a_destination_below_a_symbolic_link(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/real/below/file")
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "link").symlink_to("real")
    bundle.mount("/link/below", folder(oci, file="there"), "bind")
    assert oci.run(bundle).out == "there"


@pytest.mark.parametrize("up", ["absolute", "relative"])
def test_a_symbolic_link_out_of_the_rootfs_stays_within(oci: Runtime, up: str) -> None:
    outside = folder(oci)
    bundle = oci.bundle("sh", "-c", f"cat {outside}/below/file")
    (bundle.rootfs / "link").symlink_to(outside if up == "absolute" else f"../../../../../..{outside}")
    bundle.mount("/link/below", folder(oci, file="within"), "bind")
    assert oci.run(bundle).out == "within"
    assert list(outside.iterdir()) == []


def test_a_file_where_a_folder_is_to_be_mounted_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/etc/passwd", folder(oci), "bind")
    oci.refuses(bundle)


def test_a_mount_on_proc_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/proc/sys", folder(oci), "bind")
    oci.refuses(bundle)


def test_an_unknown_file_system_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/data", "x", type="nosuchfs")
    assert "o such device" in oci.refuses(bundle)


def test_an_option_that_the_file_system_does_not_have_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.mount("/data", "tmpfs", "nosuch=1", type="tmpfs")
    assert "nvalid argument" in oci.refuses(bundle)


def test_a_message_queue(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "touch /dev/mqueue/mine; cut -d ' ' -f 1 /dev/mqueue/mine")
    bundle.mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev", type="mqueue")
    assert oci.run(bundle).out.startswith("QSIZE:0")


def test_cgroups_are_seen_read_only(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "cd /sys/fs/cgroup; test -d memory && cd memory; ls cgroup.procs; mkdir new")
    bundle.mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev", type="cgroup")
    done = oci.run(bundle)
    assert done.out == "cgroup.procs\n"
    assert "Read-only file system" in done.err


def test_sys_is_read_only_when_the_bundle_says_so(oci: Runtime) -> None:
    assert "ro" in options(oci, oci.bundle(), "/sys")


def test_mounts_are_not_the_hosts(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "mount -t tmpfs inside /tmp && echo mounted; read x")
    for kind in bundle.process["capabilities"]:
        bundle.process["capabilities"][kind] = ["CAP_SYS_ADMIN"]
    container = oci.start(bundle)
    assert container.out.line() == "mounted\n"
    assert "inside" not in oci.host("cat", "/proc/self/mounts")


@pytest.mark.parametrize(
    ("option", "seen"),
    [("rslave", "there\n"), ("rshared", "there\n"), ("rprivate", "")],
    ids=["slave", "shared", "private"],
)
def test_propagation_into_a_bind(oci: Runtime, option: str, seen: str) -> None:
    bundle, data = oci.bundle("sh", "-c", "read x; ls /data/below"), folder(oci)
    bundle.mount("/data", data, "rbind", option)
    bundle.linux["rootfsPropagation"] = option  # as engines do
    (data / "below").mkdir()
    oci.host("mount", "--bind", "--make-shared", data, data)
    try:
        container = oci.start(bundle)
        oci.host("mount", "-t", "tmpfs", "below", data / "below")
        oci.host("touch", data / "below/there")
        container.close()
        assert container.out.rest() == seen
        container.wait()
    finally:
        oci.host("umount", "-R", data)


@pytest.mark.parametrize(("option", "count"), [("rshared", 1), ("rslave", 0)], ids=["shared", "slave"])
def test_propagation_out_of_a_bind(oci: Runtime, option: str, count: int) -> None:
    bundle, data = oci.bundle("sh", "-c", "mount -t tmpfs fromwithin /data/below; echo done; read x"), folder(oci)
    for kind in bundle.process["capabilities"]:
        bundle.process["capabilities"][kind] = ["CAP_SYS_ADMIN"]
    bundle.mount("/data", data, "rbind", option)
    bundle.linux["rootfsPropagation"] = option  # as engines do
    (data / "below").mkdir()
    oci.host("mount", "--bind", "--make-shared", data, data)
    try:
        container = oci.start(bundle)
        assert container.out.line() == "done\n"
        assert oci.host("cat", "/proc/self/mounts").count("fromwithin") == count
        container.end()
    finally:
        oci.host("umount", "-R", data)


def test_a_folder_in_two_places_and_one_of_them_read_only(oci: Runtime) -> None:
    script = "echo written >/rw/file; cat /ro/file; echo no >/ro/file"
    bundle = oci.bundle("sh", "-c", script)
    source = folder(oci, file="")
    bundle.mount("/ro", source, "bind", "ro")
    bundle.mount("/rw", source, "bind")
    done = oci.run(bundle)
    assert (done.status, done.out) == (1, "written\n") and "Read-only" in done.err, done


def mapped(bundle: Bundle, source: Path, *options: str, ids: bool = True) -> None:
    """Have what is root's in `source` be user 1000's in /m, and so on."""
    bundle.mount("/m", source, "bind", *options)
    if ids:
        for kind in ("uidMappings", "gidMappings"):
            bundle.config["mounts"][-1][kind] = [{"containerID": 0, "hostID": 1000, "size": 100}]


def test_ids_of_a_bind_are_mapped(oci: Runtime) -> None:
    source = oci.path("ids")
    source.mkdir()
    source.chmod(0o755)
    for name, owner in (("roots", 0), ("fives", 5), ("nobodys", 2000)):
        (source / name).touch()
        os.chown(source / name, owner, owner)
    bundle = oci.bundle("sh", "-c", "stat -c '%u %g' /m/roots /m/fives /m/nobodys; touch /m/new")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    mapped(bundle, source, "idmap")
    assert oci.run(bundle) == (0, "1000 1000\n1005 1005\n65534 65534\n", "")
    assert ((source / "new").stat().st_uid, (source / "new").stat().st_gid) == (0, 0)


def test_ids_of_a_bind_are_those_of_the_user_namespace(oci: Runtime) -> None:
    source = oci.path("ids")
    source.mkdir()
    bundle = oci.bundle("sh", "-c", "stat -c '%u %g' /m; touch /m/new")
    bundle.namespace("user")
    for kind in ("uidMappings", "gidMappings"):
        bundle.linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
    (bundle.rootfs / "m").mkdir()  # who is nobody outside could not make it
    mapped(bundle, source, "idmap", ids=False)
    assert oci.run(bundle) == (0, "0 0\n", "")
    assert (source / "new").stat().st_uid == 0


def test_ids_of_a_file_system_that_maps_none_are_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    mapped(bundle, Path("/proc/sys"), "idmap")
    oci.refuses(bundle, status=None)

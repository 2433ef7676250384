"""What a container sees: its root, mounts, files, names, limits."""

import base64
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import Refused


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def mounts(guest: Guest) -> dict[str, str]:
    """Mount point -> options, as the container sees them."""
    lines = guest.sh("cat /proc/self/mountinfo")[1].splitlines()
    return {fields[4]: fields[5] for fields in (line.split() for line in lines)}


def test_the_usual_file_systems(running: Guest) -> None:
    found = mounts(running)
    for path in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"):
        assert path in found
    for path in ("/sys", "/sys/fs/cgroup", "/proc/sys", "/proc/bus"):
        assert "ro" in found[path].split(",")
    assert "ro" not in found["/"].split(",")
    assert running.sh("head -c 5 /proc/kcore; ls /proc/acpi /sys/firmware 2>&1")[1].split() == [
        "/proc/acpi:",
        "/sys/firmware:",
    ]


def test_devices(running: Guest) -> None:
    assert running.sh("ls /dev")[1].split() == sorted(
        [
            "core",
            "fd",
            "full",
            "mqueue",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        ]
    )
    assert (
        running.sh("head -c 3 /dev/zero | tr '\\0' z; echo x > /dev/null; head -c 4 /dev/urandom | wc -c")[1]
        == "zzz4\n"
    )
    grants = ["CAP_MKNOD"]
    assert running.sh("mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda", capabilities=grants)[0] != 0
    assert "not permitted" in running.sh("mknod /tmp/k c 1 1; head -c 1 /tmp/k", capabilities=grants, process="k")[2]


def test_a_privileged_container_may_use_all_devices(guest: Guest) -> None:
    guest.container(privileged=True)
    guest.first()
    script = "mknod /tmp/k c 1 11 && : < /tmp/k && ls /dev/kmsg /dev/stdin; readlink /dev/fd"
    assert guest.sh(script, capabilities=["CAP_MKNOD", "CAP_SYSLOG"]) == (
        0,
        "/dev/kmsg\n/dev/stdin\n/proc/self/fd\n",
        "",
    )
    found = mounts(guest)
    assert "ro" not in found["/sys"].split(",")
    assert not any(path.startswith("/proc/") for path in found)


def test_writes_go_to_the_upper_layer_only(running: Guest) -> None:
    before = (running.lower / "data/file").read_bytes()
    assert (
        running.sh("echo new > /data/file; rm /data/link; mkdir /fresh; mv /data/sub /moved; ls /data /moved")[0] == 0
    )
    assert (running.lower / "data/file").read_bytes() == before
    assert (running.lower / "data/link").is_symlink()
    assert (running.folder / "upper-c1/data/data/file").read_text() == "new\n"


def test_the_upper_layer_outlives_the_container(running: Guest) -> None:
    running.sh("echo kept > /kept")
    running.host.call("container.remove", id="c1")
    running.container()
    running.start("again", "sleep", "1000", first=True)
    assert running.sh("cat /kept")[1] == "kept\n"


def test_read_only(guest: Guest) -> None:
    tmpfs = {"type": "tmpfs", "target": "/scratch"}
    guest.container(read_only=True, mounts=[tmpfs])
    guest.first("sleep", "1000", cwd="/srv/dir")
    assert "Read-only" in guest.sh("echo x > /file")[2]
    assert guest.sh("echo x > /scratch/file; cat /scratch/file; echo y > /dev/shm/y; pwd", cwd="/srv/dir") == (
        0,
        "x\n/srv/dir\n",
        "",
    )
    assert guest.sh("cat /etc/hostname; echo '127.0.0.9 added' >> /etc/hosts && tail -1 /etc/hosts")[1].endswith(
        "added\n"
    )


def test_an_image_whose_proc_is_a_link_is_refused(guest: Guest, tmp_path: Path) -> None:
    lower = tmp_path / "evil"
    (lower / "etc").mkdir(parents=True)
    (lower / "sys").symlink_to("/etc")
    guest.lower = lower
    with pytest.raises(Refused) as refused:
        guest.container()
    assert refused.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert guest.host.call("list")["containers"] == []
    assert [p for p in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in p] == []


def test_files_are_put_beneath_the_root(guest: Guest, tmp_path: Path) -> None:
    files = [
        {"path": "/new/dir/file", "content": b64(b"hello\0world"), "mode": 0o640, "uid": 1000, "gid": 2000},
        {"path": "/leads/nowhere", "content": b64(b"through a link")},
        {"path": "/leads/out/put-by-link", "content": b64(b"inside")},
    ]
    guest.container(files=files)
    guest.first()
    assert guest.sh("stat -c '%a %u %g %s' /new/dir/file; cat /made/by/link; cat /etc/put-by-link")[1] == (
        "640 1000 2000 11\nthrough a linkinside"
    )
    assert not Path("/etc/put-by-link").exists()
    assert not Path("/made").exists()


def test_tmpfs_options(guest: Guest) -> None:
    options = ["nosuid", "noexec", "exec", "noatime", "uid=33", "gid=50", "nr_inodes=7"]
    spec = {"type": "tmpfs", "target": "/t", "size_bytes": 1 << 20, "mode": 0o700, "options": options}
    guest.container(mounts=[spec, {"type": "tmpfs", "target": "/r", "read_only": True}])
    guest.first()
    assert guest.sh("stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'")[1].split() == ["700", "1024"]
    assert guest.sh("stat -c %u:%g /t; df -i /t | tail -1 | awk '{print $2}'")[1].split() == ["33:50", "7"]
    found = mounts(guest)
    assert "noexec" not in found["/t"]
    assert "nosuid" in found["/t"]
    assert found["/r"].startswith("ro")


@pytest.mark.parametrize("bad", [
    {"type": "bind", "target": "/x"},
    {"type": "tmpfs", "target": "relative"},
    {"type": "tmpfs", "target": "/x", "options": ["size=1g"]},
    {"type": "tmpfs", "target": "/x", "options": ["uid=0,size=1g"]},
    {"type": "tmpfs", "target": "/x", "options": ["uid="]},
    {"type": "tmpfs", "target": "/x", "mode": 0o100000},
    {"type": "tmpfs", "target": "/x", "colour": "red"},
    {"type": "tmpfs", "target": "/etc/passwd"},
    {"type": "share", "target": "/x", "source": "not/there"},
])  # fmt: skip
def test_bad_mounts_leave_nothing(guest: Guest, bad: dict[str, Any]) -> None:
    if bad["type"] == "share":
        (guest.folder / "hyper").mkdir()
        guest.host.call("pod.setup", share="hyper")
    with pytest.raises(Refused):
        guest.container(mounts=[{"type": "tmpfs", "target": "/good"}, bad])
    assert guest.host.call("list")["containers"] == []
    guest.container()
    guest.first()
    assert guest.sh("echo fine")[1] == "fine\n"


def test_shares(guest: Guest) -> None:
    share = guest.folder / "hyper"
    for name in ("rw", "ro", "empty", "full"):
        (share / name).mkdir(parents=True)
    (share / "file").write_text("one file\n")
    (share / "ro/kept").write_text("kept\n")
    (share / "full/mine").write_text("mine\n")
    (share / "link").symlink_to("/etc")
    guest.host.call("pod.setup", share="hyper")
    guest.container(
        mounts=[
            {"type": "share", "source": "rw", "target": "/mnt/rw"},
            {"type": "share", "source": "ro", "target": "/mnt/ro", "read_only": True},
            {"type": "share", "source": "file", "target": "/etc/one.conf", "read_only": True},
            {"type": "share", "source": "empty", "target": "/data", "populate": True},
            {"type": "share", "source": "full", "target": "/home/user", "populate": True},
        ]
    )
    guest.first()
    script = "echo w > /mnt/rw/w; cat /mnt/ro/kept /etc/one.conf; echo x > /mnt/ro/x"
    status, out, err = guest.sh(script)
    assert (status, out) == (1, "kept\none file\n")
    assert "Read-only" in err
    assert (share / "rw/w").read_text() == "w\n"
    assert (share / "empty/sub/deep").read_text() == "deeper\n"
    assert os.readlink(share / "empty/link") == "file"
    assert guest.sh("ls /home/user")[1] == "mine\n"
    with pytest.raises(Refused) as refused:
        guest.container("c2", mounts=[{"type": "share", "source": "link", "target": "/x"}])
    assert refused.value.errno == errno.ELOOP


NEW_VOLUME = {"type": "share", "source": "new", "target": "/data", "populate": True}


@pytest.fixture
def new(guest: Guest) -> Path:
    """An empty volume, which NEW_VOLUME mounts."""
    volume = guest.folder / "hyper/new"
    volume.mkdir(parents=True)
    guest.host.call("pod.setup", share="hyper")
    return volume


def of_the_image(guest: Guest) -> Path:
    """What container c1's image has at /data beside the rest."""
    folder = guest.folder / "upper-c1/data/data"
    folder.mkdir(parents=True)
    return folder


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_new_volume_may_take_long_to_fill(guest: Guest, new: Path) -> None:
    """The agent goes on meanwhile; what is cut short is gone on with by the next container that mounts it."""
    huge = of_the_image(guest) / "huge"
    huge.touch()
    os.truncate(huge, 1 << 40)
    number = guest.host.ask("container.create", **guest.created(mounts=[NEW_VOLUME]))
    while not (new / ".hyper-unfinished/file").exists():
        guest.host.call("ping")
    [agent] = children(guest.process.pid)
    [copier] = children(agent)
    os.kill(copier, signal.SIGSTOP)
    assert guest.host.call("list")["containers"] == [{"id": "c1", "created": False}]
    with pytest.raises(Refused) as refused:
        guest.first()
    assert refused.value.errno == errno.EBUSY
    guest.host.call("container.remove", id="c1")
    with pytest.raises(Refused) as refused:
        guest.host.answer(number)
    assert refused.value.errno == errno.ECANCELED
    assert [path.name for path in new.iterdir() if path.name.startswith(".")] == [".hyper-unfinished"]
    assert not (new / "huge").exists()  # no half of it
    os.truncate(huge, 3)
    guest.container(mounts=[NEW_VOLUME])
    assert (new / "huge").read_bytes() == bytes(3)
    assert (new / "sub/deep").read_text() == "deeper\n"
    assert sorted(path.name for path in new.iterdir()) == ["file", "huge", "link", "sub"]
    guest.first()


def test_zeros_of_the_image_take_no_room_in_the_volume(guest: Guest, new: Path) -> None:
    folder = of_the_image(guest)
    for name, content in (("zeros", bytes(10 << 20)), ("parted", b"a" + bytes(10 << 20) + b"z")):
        (folder / name).write_bytes(content)
    guest.container(mounts=[NEW_VOLUME])
    for name in ("zeros", "parted"):
        assert (new / name).read_bytes() == (folder / name).read_bytes()
        assert (new / name).stat().st_blocks < 1000


def test_a_volume_below_another_gets_what_the_image_has_there(guest: Guest, new: Path) -> None:
    below = new.with_name("below")
    below.mkdir()
    guest.container(mounts=[NEW_VOLUME, {**NEW_VOLUME, "source": "below", "target": "/data/sub"}])
    assert (below / "deep").read_text() == (new / "sub/deep").read_text() == "deeper\n"


def test_a_volume_at_two_places_gets_what_the_image_has_at_the_first(guest: Guest, new: Path) -> None:
    guest.container(mounts=[{**NEW_VOLUME, "target": "/leads"}, NEW_VOLUME])
    assert {path.name for path in new.iterdir()} == {"out", "nowhere"}


def test_filling_goes_on_without_touching_what_is_there(guest: Guest, new: Path) -> None:
    (new / ".hyper-unfinished").mkdir()
    (new / ".hyper-unfinished/file").write_text("half")
    (new / "file").write_text("mine\n")
    (new / "sub").mkdir()
    guest.container(mounts=[NEW_VOLUME])
    assert {path.name for path in new.iterdir()} == {"file", "link", "sub"}
    assert (new / "file").read_text() == "mine\n"
    assert (new / "sub/deep").read_text() == "deeper\n"


def test_a_volume_that_cannot_be_filled_makes_no_container(guest: Guest, new: Path) -> None:
    (of_the_image(guest) / "/".join(["x"] * 300)).mkdir(parents=True)
    with pytest.raises(Refused, match="mount on /data: copy a tree") as refused:
        guest.container(mounts=[NEW_VOLUME, {**NEW_VOLUME, "target": "/home/user"}])
    assert refused.value.errno == errno.ELOOP
    assert guest.host.call("list")["containers"] == []
    guest.container("c2")


def test_a_container_that_is_not_made_leaves_its_new_volume_empty(guest: Guest, new: Path) -> None:
    with pytest.raises(Refused):
        guest.container(mounts=[NEW_VOLUME, {"type": "tmpfs", "target": "/etc/passwd"}])
    assert list(new.iterdir()) == []


def test_names_and_dns(guest: Guest) -> None:
    dns = {"nameservers": ["10.0.0.1", "fd00::1"], "search": ["a.example", "b.example"], "options": ["ndots:2"]}
    hosts = [["10.9.8.7", "db", "db.example"], ["10.9.8.6", "web"]]
    guest.host.call("pod.setup", hostname="pod-name", dns=dns, hosts=hosts)
    guest.container()
    guest.first()
    assert guest.sh("hostname; cat /etc/hostname")[1] == "pod-name\npod-name\n"
    assert guest.sh("cat /etc/resolv.conf")[1] == (
        "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b.example\noptions ndots:2\n"
    )
    assert guest.sh("tail -2 /etc/hosts")[1] == "10.9.8.7\tdb db.example\n10.9.8.6\tweb\n"
    guest.host.call("pod.setup", dns={"nameservers": ["9.9.9.9"]}, hosts=[["1.2.3.4", "x"]])
    assert guest.sh("cat /etc/resolv.conf; tail -1 /etc/hosts")[1] == "nameserver 9.9.9.9\n1.2.3.4\tx\n"


def test_a_hostname_of_its_own(guest: Guest) -> None:
    guest.host.call("pod.setup", hostname="pod-name")
    guest.container("c1", hostname="mine")
    guest.first()
    assert guest.sh("hostname; cat /etc/hostname; grep mine /etc/hosts | cut -f1")[1] == "mine\nmine\n127.0.1.1\n"
    guest.container("c2")
    guest.start("other", "sleep", "1000", container="c2", first=True)
    assert guest.sh("hostname", container="c2")[1] == "pod-name\n"


def test_a_dotted_hostname_has_its_first_label_as_an_alias(guest: Guest) -> None:
    guest.container(hostname="foo.bar.example")
    guest.first()
    assert guest.sh("hostname; tail -1 /etc/hosts")[1] == "foo.bar.example\n127.0.1.1\tfoo.bar.example foo\n"


@pytest.mark.parametrize("bad", [
    {"hostname": "with space"}, {"hostname": ""}, {"hostname": "x" * 65},
    {"dns": {"nameservers": ["1.1.1.1\nsearch evil"]}}, {"dns": {"nameserver": []}},
    {"hosts": [["1.2.3.4\n", "x"]]}, {"hosts": ["1.2.3.4 x"]}, {"sysctls": {"../../etc/x": "1"}},
    {"sysctls": {"kernel.nothing_like_this": "1"}}, {"sysctls": {"net": 1}}, {"entropy": "%%%"}, {"time_ns": -5},
    {"interfaces": [{"mac": "xx", "name": "eth0", "addresses": []}]},
    {"interfaces": [{"mac": "02:00:00:00:00:01", "name": "a/b", "addresses": []}]},
    {"routes": [{"dst": "default", "gateway": "nonsense"}]},
    {"routes": [{"dst": "10.0.0.0/99", "gateway": "10.0.0.1"}]},
    {"routes": [{"dst": "default", "gateway": "10.0.0.1", "family": 6}]},
    {"routes": [{"dst": "10.0.0.0/8", "gateway": ""}]}, {"routes": [{"dst": "default", "gateway": ""}]},
    {"routes": [{"dst": "10.0.0.0/8", "gateway": "", "device": "nothing"}]},
    {"routes": [{"dst": "10.0.0.0/8", "gateway": "fd00::1", "device": "lo"}]},
])  # fmt: skip
def test_bad_pods_are_refused(guest: Guest, bad: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        guest.host.call("pod.setup", **bad)
    guest.host.call("ping")


def test_sysctls(guest: Guest) -> None:
    guest.host.call("pod.setup", sysctls={"net.ipv4.ip_forward": "1", "net/ipv4/ip_default_ttl": "77"})
    guest.container(sysctls={"kernel.shmmni": "3333"})
    guest.first()
    assert guest.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni")[
        1
    ] == ("1\n77\n3333\n")


def test_two_containers_share_the_network_and_not_the_processes(guest: Guest) -> None:
    for name in ("c1", "c2"):
        guest.container(name)
        guest.start(f"first-{name}", "sleep", "1000", container=name, first=True)
    namespaces = [
        dict(line.split("-> ") for line in guest.sh("cd /proc/self/ns; for n in net ipc uts pid mnt cgroup; do "
             "echo $n-\\> $(readlink $n); done", container=name)[1].splitlines())
        for name in ("c1", "c2")
    ]  # fmt: skip
    shared = {key for key in namespaces[0] if namespaces[0][key] == namespaces[1][key]}
    assert shared == {"net", "ipc", "uts"}


def test_shared_processes(guest: Guest) -> None:
    def wait_for(seconds: int, count: int) -> str:
        """A script that ends when so many processes sleep so long."""
        return f"until [ $(ps -o args | grep -c '^sleep {seconds}$') = {count} ]; do sleep 0.01; done"

    guest.host.call("pod.setup", hostname="pod", share_pid=True)
    for name in ("c1", "c2"):
        guest.container(name)
        guest.start(f"first-{name}", "sh", "-c", "sleep 1111 & sleep 2222; true", container=name, first=True)
    assert guest.sh(f"{wait_for(1111, 2)}; {wait_for(2222, 2)}") == (0, "", "")
    for path in ("root/", "cwd/"):
        assert "Permission denied" in guest.sh(f"ls /proc/1/{path}")[2]
    assert guest.sh("ls /proc/1/fd")[1] == ""
    guest.host.call("process.signal", process="first-c1", signal=9)
    assert guest.host.exit_of("first-c1")["status"] == 137
    assert guest.sh(f"{wait_for(1111, 1)}; {wait_for(2222, 1)}", container="c2") == (0, "", "")


def test_removal_kills_and_forgets(running: Guest) -> None:
    running.start("p", "sleep", "1000")
    running.host.call("container.remove", id="c1")
    listing = running.host.call("list")
    assert (listing["containers"], listing["processes"]) == ([], [])
    assert os.listdir(running.folder / "run") == []  # what is mounted there is inside its namespace only
    with pytest.raises(Refused) as refused:
        running.host.call("container.remove", id="c1")
    assert refused.value.errno == errno.ENOENT


def test_freezing(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "while :; do echo tick; sleep 0.01; done")
    output = running.host.outputs[streams["stdout"]]
    running.host.until(lambda: len(output.data) > 20)
    running.host.call("container.freeze", id="c1", frozen=True)
    running.host.call("ping")
    size = len(output.data)
    running.host.call("container.stats", id="c1")
    assert len(output.data) == size
    running.host.call("container.freeze", id="c1", frozen=False)
    running.host.until(lambda: len(output.data) > size + 20)
    running.host.call("container.freeze", id="c1", frozen=True)
    running.host.call("container.remove", id="c1")


def test_a_renamed_container_keeps_its_processes_and_its_old_name_is_free(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "read x; echo $x; exit 5", stdin=True)
    running.host.call("container.rename", id="c1", to="c2")
    listing = running.host.call("list")
    assert [c["id"] for c in listing["containers"]] == ["c2"]
    assert {(p["id"], p["container"]) for p in listing["processes"]} == {("first", "c2"), ("p", "c2")}
    with pytest.raises(Refused) as refused:
        running.container("c2")
    assert refused.value.errno == errno.EEXIST
    running.host.write(streams["stdin"], b"still here\n")
    assert running.host.exit_of("p")["status"] == 5
    assert running.host.read_all(streams["stdout"]) == b"still here\n"
    running.host.call("container.remove", id="c2")
    assert running.host.call("list")["processes"] == []
    running.container("c1")


def test_what_is_staged_is_what_a_container_gets_anyhow(guest: Guest) -> None:
    def seen(id: str, **args: Any) -> list[str]:
        guest.container(id, **args)
        guest.start(f"{id}-first", "sleep", "1000", container=id, first=True)
        lines = guest.sh("cat /proc/self/mountinfo", container=id, process=f"{id}-look")[1].splitlines()
        fields = sorted((f[4], f[5], f[-3]) for f in (line.split() for line in lines))
        devices = guest.sh("ls -l /dev | cut -c1-10,55-", container=id, process=f"{id}-list")[1]
        guest.host.call("container.remove", id=id)
        return [*(" ".join(f) for f in fields), devices]

    before = len(groups(guest))
    guest.host.call("stage", targets=[])
    assert len(groups(guest)) == before + 1
    guest.host.call("stage", targets=[])  # again is harmless
    assert len(groups(guest)) == before + 1
    staged = seen("c1")
    assert seen("c2") == staged  # one was staged again when the first was removed
    assert seen("c3", privileged=True) != staged


def test_a_staged_container_has_the_shared_memory_it_asks_for(guest: Guest) -> None:
    guest.host.call("stage", targets=[])
    guest.container(shm_bytes=1 << 20)
    guest.first()
    assert "size=1024k" in guest.sh("grep /dev/shm /proc/self/mounts")[1]


def test_nothing_is_left_of_a_staged_container_that_could_not_be_made(guest: Guest) -> None:
    guest.host.call("stage", targets=[])
    known = groups(guest)
    with pytest.raises(Refused):
        guest.container(files=[{"path": "/proc/x", "mode": 0o644, "uid": 0, "gid": 0, "content": "!"}])
    assert groups(guest) == known - known
    guest.container()
    guest.first()
    assert guest.sh("ls /dev/null")[0] == 0


def groups(guest: Guest) -> set[str]:
    return {path.name for path in guest.cgroup.iterdir() if path.is_dir()}


def test_stats_and_processes(running: Guest) -> None:
    stats = running.host.call("container.stats", id="c1")
    assert stats["cpu_usec"] > 0
    assert stats["net"] == []
    rows = running.host.call("container.processes", id="c1")["processes"]
    assert [(r["pid"], r["ppid"], r["user"], r["command"], r["tty"]) for r in rows] == [
        (1, 0, "root", "sleep 1000", "?")
    ]
    running.start("p", "sh", "-c", "sleep 1001; true", 'odd \x01"word', user="user")
    rows = running.host.call("container.processes", id="c1")["processes"]
    assert (rows[1]["user"], rows[1]["command"]) == ("user", 'sh -c sleep 1001; true odd \x01"word')


def test_what_all_of_a_pod_use_is_told_at_once(running: Guest) -> None:
    running.container("c2")
    found = running.host.call("pod.stats")
    alone = running.host.call("container.stats", id="c1")
    assert found["net"] == alone.pop("net") == []
    [one, two] = sorted(found["containers"], key=lambda each: str(each["id"]))
    assert (one.pop("id"), two.pop("id")) == ("c1", "c2")
    assert one.keys() == two.keys() == alone.keys()
    assert one["cpu_usec"] > 0 == two["cpu_usec"]
    with pytest.raises(Refused) as refused:
        running.host.call("pod.stats", id="c1")
    assert refused.value.errno == errno.EINVAL


def test_files_of_all_processes_are_counted(running: Guest) -> None:
    before = running.host.call("container.files", id="c1")
    assert before["fs_bytes"] > 0 and before["descriptors"] >= 3
    held = "exec 3</dev/null 4</dev/null; mkfifo /go; echo on; read x </go"
    streams = running.start("p", "sh", "-c", held)
    running.host.until(lambda: bytes(running.host.outputs[streams["stdout"]].data) == b"on\n")
    [_, other] = running.host.call("container.processes", id="c1")["processes"]
    assert other["command"].startswith("sh")
    after = running.host.call("container.files", id="c1")
    assert after["descriptors"] >= before["descriptors"] + 5
    assert after["fs_inodes_free"] <= after["fs_inodes"]


def test_who_is_in_a_group_below_its_own_is_counted(running: Guest) -> None:
    """As those are that an engine in a container makes."""
    [group] = [each for each in running.cgroup.glob("c-*") if (each / "cgroup.procs").read_text().strip()]
    streams = running.start("p", "sh", "-c", "echo on; read x", stdin=True)
    running.host.until(lambda: bytes(running.host.outputs[streams["stdout"]].data) == b"on\n")
    before = running.host.call("container.files", id="c1")["descriptors"]
    (group / "below").mkdir()
    pid = (group / "cgroup.procs").read_text().split()[-1]
    (group / "below/cgroup.procs").write_text(pid)
    assert running.host.call("container.files", id="c1")["descriptors"] == before
    assert len(running.host.call("container.processes", id="c1")["processes"]) == 2
    running.host.call("container.remove", id="c1")


@pytest.mark.parametrize(
    "limits", [{"memory_bytes": 1 << 26}, {"cpu_quota_us": 50000, "cpu_period_us": 100000}, {"pids": 10}]
)
def test_limits_that_the_kernel_cannot_set_are_refused(guest: Guest, limits: dict[str, int]) -> None:
    """In a VM they are set; a machine whose controllers cgroup v1 holds says so."""
    controllers = (guest.cgroup / "cgroup.controllers").read_text().split()
    if next(iter(limits)).split("_")[0] in controllers:
        guest.container(cgroup=limits)
        return
    with pytest.raises(Refused) as refused:
        guest.container(cgroup=limits)
    assert refused.value.errno == errno.EOPNOTSUPP
    assert guest.host.call("list")["containers"] == []


def test_the_same_id_twice(running: Guest) -> None:
    with pytest.raises(Refused) as refused:
        running.container()
    assert refused.value.errno == errno.EEXIST
    assert running.sh("echo unharmed")[1] == "unharmed\n"


ROOTFS = {"lower": {"path": "/"}, "upper": {"path": "/tmp"}}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "x" * 65, "ü", ".hidden"])
def test_ids_are_checked_before_they_become_paths(guest: Guest, name: str) -> None:
    with pytest.raises(Refused) as refused:
        guest.host.call("container.create", id=name, rootfs=ROOTFS, masked_paths=[], readonly_paths=[])
    assert refused.value.errno == errno.EINVAL and "name a container" in str(refused.value)


@pytest.mark.parametrize("key", ["masked_paths", "readonly_paths"])
def test_what_is_hidden_must_be_said(guest: Guest, key: str) -> None:
    said: dict[str, list[str]] = {"masked_paths": [], "readonly_paths": []}
    del said[key]
    with pytest.raises(Refused) as refused:
        guest.host.call("container.create", id="c1", rootfs=ROOTFS, **said)
    assert refused.value.errno == errno.EINVAL and key in str(refused.value)


def test_what_leads_out_of_proc_is_hidden_where_it_leads(guest: Guest) -> None:
    masked = ["/proc/../etc/group", "/proc/self/../sys/kernel/osrelease", "/proc/nowhere/at/all"]
    guest.container(masked_paths=masked)
    guest.first()
    assert guest.sh("cat /etc/group /proc/sys/kernel/osrelease")[1] == ""


def test_a_link_in_a_folder_that_is_no_proc_is_hidden_where_it_leads(guest: Guest) -> None:
    proc = guest.folder / "upper-c1/data/proc"
    proc.mkdir(parents=True)
    (proc / "link").symlink_to("/etc/group")
    guest.container(all_mounts=[DEV], masked_paths=["/proc/link"])
    guest.first()
    assert guest.sh("cat /etc/group; readlink /proc/link")[1] == "/etc/group\n"


def test_a_container_may_be_called_as_a_kernel_file_is(guest: Guest) -> None:
    guest.container("cgroup.procs")
    guest.start("p", "true", container="cgroup.procs", first=True)
    assert guest.host.exit_of("p")["status"] == 0


def test_seccomp(running: Guest) -> None:
    """A filter of four instructions: mkdir (83 on x86-64) fails with EPERM, all else is allowed."""
    load, jump, deny, allow = (0x20, 0, 0, 0), (0x15, 0, 1, 83), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)
    program = b"".join(
        code.to_bytes(2, "little") + bytes([jt, jf]) + k.to_bytes(4, "little")
        for code, jt, jf, k in (load, jump, deny, allow)
    )
    for extra in ({}, {"no_new_privs": True}, {"user": "user"}):
        status, _, err = running.sh("mkdir /tmp/d && echo made", seccomp=b64(program), **extra)
        assert status == 1
        assert "Operation not permitted" in err
        assert running.sh("grep Seccomp: /proc/self/status | cut -f2", seccomp=b64(program), **extra)[1] == "2\n"
    with pytest.raises(Refused):
        running.sh("true", seccomp=b64(program[:-1]))


# A list of all mounts

PLAIN = ["nosuid", "nodev", "noexec"]
DEV = {"type": "dev", "target": "/dev", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}
PTS = {"type": "devpts", "target": "/dev/pts", "options": ["nosuid", "noexec", "ptmxmode=0666", "mode=0620", "gid=5"]}
SHM = {"type": "tmpfs", "target": "/dev/shm", "options": [*PLAIN, "mode=1777", "size=67108864"]}
MQUEUE = {"type": "mqueue", "target": "/dev/mqueue", "options": PLAIN}
SYS = {"type": "sysfs", "target": "/sys", "options": [*PLAIN, "ro"]}
PROC = {"type": "proc", "target": "/proc", "options": PLAIN}
CGROUP = {"type": "cgroup", "target": "/sys/fs/cgroup", "options": [*PLAIN, "ro"]}
FILES = [{"type": "pod", "source": name, "target": f"/etc/{name}"} for name in ("hosts", "hostname", "resolv.conf")]
USUAL = [PROC, DEV, PTS, SHM, MQUEUE, SYS, CGROUP, *FILES]


def table(guest: Guest, id: str, **args: Any) -> list[str]:
    """What is mounted in a container that is made for it, and its devices."""
    guest.container(id, **args)
    guest.start(f"{id}-first", "sleep", "1000", container=id, first=True)
    lines = guest.sh("cat /proc/self/mountinfo", container=id, process=f"{id}-look")[1].splitlines()
    fields = sorted((f[4], f[5], f[-3], f[-1]) for f in (line.split() for line in lines))
    devices = guest.sh("ls -l /dev | cut -c1-10,55-", container=id, process=f"{id}-list")[1]
    guest.host.call("container.remove", id=id)
    return [*(" ".join(f) for f in fields if f[0] != "/"), devices]


def test_the_usual_mounts_may_be_listed(guest: Guest) -> None:
    """What the first hosts leave to the guest is one list among others."""
    unlisted = table(guest, "c1")
    assert table(guest, "c2", all_mounts=USUAL) == unlisted
    guest.host.call("stage", targets=[], mounts=USUAL)
    assert table(guest, "c3", all_mounts=USUAL) == unlisted  # of what was made ahead
    assert table(guest, "c4", all_mounts=USUAL) == unlisted  # which was made again


def test_what_is_staged_is_used_up_and_staged_again(guest: Guest) -> None:
    def held() -> int:
        outer = guest.process.pid
        inner = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]
        return len(os.listdir(f"/proc/{inner}/fd"))

    def kept() -> int:
        """Descriptors of a container's own."""
        guest.container("c2", all_mounts=[])
        count = held()
        guest.host.call("container.remove", id="c2")
        return count

    guest.container()  # as a rehearsal does, before anything is staged
    guest.host.call("container.remove", id="c1")
    guest.host.call("stage", targets=[])
    before = held()
    guest.host.call("stage", targets=[], mounts=USUAL)
    assert held() == before
    with_ready = kept()
    guest.container(all_mounts=USUAL)
    assert held() == with_ready + 1 - 5  # its terminals are kept too; dev, pts, shm, mqueue, sys have gone there
    guest.host.call("container.remove", id="c1")
    assert held() == before


def test_what_is_staged_and_not_listed_is_not_there(guest: Guest) -> None:
    guest.host.call("stage", targets=[], mounts=USUAL)
    guest.container(all_mounts=[PROC, DEV])
    guest.first()
    assert set(mounts(guest)) - {"/"} == {"/proc", "/dev", *below_proc(guest)}
    assert guest.sh("ls /sys /dev/pts; cat /etc/hostname")[1] == ""
    with pytest.raises(Refused, match="terminal"):
        guest.start("tty", "true", tty=True)


def below_proc(guest: Guest) -> set[str]:
    return {path for path in mounts(guest) if path.startswith("/proc/")}


def test_a_container_without_any_mounts(guest: Guest) -> None:
    guest.container(all_mounts=[], masked_paths=[], readonly_paths=[])
    guest.first("sh", "-c", "ls -A /proc /dev; exec sleep 1000")
    with pytest.raises(Refused):
        guest.container("c2", all_mounts=[], shm_bytes=1)


def test_options_of_mounts(guest: Guest) -> None:
    share = guest.folder / "hyper"
    (share / "a").mkdir(parents=True)
    (share / "a/program").write_text("#!/bin/sh\necho ran\n")
    (share / "a/program").chmod(0o755)
    guest.host.call("pod.setup", share="hyper")
    own = [
        {"type": "bind", "source": "a", "target": "/a", "options": ["noexec", "nosuid", "nodev", "noatime", "ro"]},
        {"type": "bind", "source": "a", "target": "/b", "options": ["ro", "rw"]},
        {"type": "tmpfs", "target": "/t", "options": ["size=1m", "mode=700", "uid=33", "nosymfollow", "rshared"]},
        {"type": "tmpfs", "target": "/u", "options": ["slave"]},
    ]
    guest.container(all_mounts=[*USUAL, *own])
    guest.first()
    found = mounts(guest)
    assert set(found["/a"].split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}
    assert found["/b"].split(",")[0] == "rw"
    assert "nosymfollow" in found["/t"]
    assert guest.sh("/b/program; /a/program", process="p")[:2] == (126, "ran\n")
    assert guest.sh("stat -c %a:%u /t; df -k /t | tail -1 | awk '{print $2}'")[1].split() == ["700:33", "1024"]
    lines = [line.split() for line in guest.sh("cat /proc/self/mountinfo")[1].splitlines()]
    spread = {fields[4]: fields[6].partition(":")[0] for fields in lines}
    assert (spread["/t"], spread["/a"], spread["/u"]) == ("shared", "-", "-")


def test_a_tmpfs_with_what_was_at_its_place(guest: Guest) -> None:
    own: list[dict[str, Any]] = [
        {"type": "tmpfs", "target": "/etc", "options": ["tmpcopyup", "nosuid"]},
        {"type": "tmpfs", "target": "/new", "options": ["tmpcopyup"]},
    ]
    guest.container(all_mounts=[*USUAL, *own])
    guest.first()
    assert guest.sh("grep -c root /etc/passwd; ls -A /new; stat -c %a /etc /new; echo x >/etc/x")[1] == "1\n755\n1777\n"
    with pytest.raises(Refused, match="Read-only"):
        guest.container("c2", all_mounts=[{"type": "tmpfs", "target": "/etc", "options": ["tmpcopyup", "ro"]}])


def test_what_lies_below_proc_is_mounted_after_it(guest: Guest) -> None:
    """And with every first process, as that is."""
    (guest.folder / "hyper").mkdir()
    (guest.folder / "hyper/meminfo").write_text("of the host\n")
    guest.host.call("pod.setup", share="hyper")
    guest.container(all_mounts=[*USUAL, {"type": "bind", "source": "meminfo", "target": "/proc/meminfo"}])
    for _ in range(2):
        guest.first()
        assert guest.sh("cat /proc/meminfo; ls -d /proc/1")[1] == "of the host\n/proc/1\n"
        guest.host.call("process.signal", process="first", signal=9)
        guest.host.events.remove(guest.host.exit_of("first"))
        guest.host.call("process.forget", process="first")


@pytest.mark.parametrize("bad", [
    {"type": "ext4", "target": "/x"},
    {"type": "share", "target": "/x", "source": "a"},
    {"type": "bind", "target": "/x"},
    {"type": "bind", "target": "/x", "source": "../a"},
    {"type": "bind", "target": "/x", "source": "a", "options": ["size=1m"]},
    {"type": "tmpfs", "target": "/x", "source": "a"},
    {"type": "tmpfs", "target": "x"},
    {"type": "tmpfs", "target": "/x", "options": ["colour=red"]},
    {"type": "tmpfs", "target": "/x", "options": [""]},
    {"type": "tmpfs", "target": "/x", "options": ["x" * 300]},
    {"type": "pod", "target": "/x", "source": "../rootfs"},
    {"type": "sysfs", "target": "/leads/out/x"},
    {"type": "tmpfs", "target": "/x", "read_only": True},
])  # fmt: skip
def test_bad_lists_of_mounts_leave_nothing(guest: Guest, bad: dict[str, Any]) -> None:
    (guest.folder / "hyper/a").mkdir(parents=True)
    guest.host.call("pod.setup", share="hyper")
    with pytest.raises(Refused):
        guest.container(all_mounts=[*USUAL, bad])
    assert guest.host.call("list")["containers"] == []
    guest.container(all_mounts=USUAL)
    guest.first()
    assert guest.sh("echo fine")[1] == "fine\n"


def test_devices_of_its_own(guest: Guest) -> None:
    odd = {"path": "/dev/deep/kmsg", "type": "c", "major": 1, "minor": 11, "mode": 0o640, "uid": 7, "gid": 8}
    null = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    guest.container(devices=[odd, null])
    guest.first()
    assert guest.sh("stat -c '%a %u %g %t:%T' /dev/deep/kmsg /dev/null")[1] == "640 7 8 1:b\n666 0 0 1:3\n"
    grants = ["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]
    assert guest.sh(": < /dev/deep/kmsg", capabilities=grants) == (0, "", "")
    refused = guest.sh("mknod /tmp/p c 1 4; : < /tmp/p", capabilities=grants)
    assert refused[0] != 0 and "not permitted" in refused[2]
    guest.container("c2")
    guest.start("first-2", "sleep", "1000", container="c2", first=True)
    assert "not permitted" in guest.sh("mknod /tmp/k c 1 11; : < /tmp/k", container="c2", capabilities=grants)[2]


@pytest.mark.parametrize("bad", [
    {"path": "dev/x", "type": "c", "major": 1, "minor": 3},
    {"path": "/dev/x", "type": "u", "major": 1, "minor": 3},
    {"path": "/dev/x", "type": "c", "major": 4096, "minor": 3},
    {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": 0o4777},
    {"path": "/dev/pts", "type": "c", "major": 1, "minor": 3},
])  # fmt: skip
def test_bad_devices_are_refused(guest: Guest, bad: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        guest.container(devices=[bad])
    assert guest.host.call("list")["containers"] == []


@pytest.mark.parametrize("file", ["cgroup.procs", "../c-1/memory.max", "memory", ".x", "no.such_limit"])
def test_what_is_no_limit_of_a_cgroup_is_refused(guest: Guest, file: str) -> None:
    with pytest.raises(Refused):
        guest.container(cgroup={"unified": {file: "1"}})

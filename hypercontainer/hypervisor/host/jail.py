"""Starting the VMM and its helper through hyper-jail, with as little of the host as they need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypercontainer.errors import GuestDied, HyperError, Unavailable
from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.lib import cgroup, proc
from hypercontainer.lib.tasks import all_of
from hypercontainer.model.record import ProcessRef

BINARIES = Path(__file__).parents[2] / "_bin"
HYPER_JAIL = BINARIES / "hyper-jail"

# What a dynamically linked VMM reads: its libraries and modules, its firmware. All of it is the distribution's.
SYSTEM = ("/usr",)
MERGED = ("/lib", "/lib64", "/lib32", "/libx32", "/bin")  # links into /usr on a merged system, folders on others
LINKER_CACHE = "/etc/ld.so.cache"

# virtiofsd makes files for any user, as containers ask it to. Not among them: mknod (a guest could make a device
# of the host), setfcap (a guest could make a program of the host privileged), fsetid (a setuid program would stay one
# when somebody writes to it), anything network or system.
# sys_admin is for its own sandbox, it drops that before it listens to the guest; setpcap is for dropping.
SHARE_CAPS = {"chown": 0, "dac_override": 1, "fowner": 3, "setgid": 6, "setuid": 7, "setpcap": 8}
SHARE_CAPS |= {"sys_chroot": 18, "sys_admin": 21}


@dataclass(frozen=True, kw_only=True)
class JailedProgram:
    """What hyper-jail is to start, and what of the host that may see."""

    program: str  # names its files in the run directory
    command: Sequence[str]
    options: Sequence[str]
    fds: Sequence[int]
    lock: int
    cgroups: Sequence[Path] = ()
    mounts: Mapping[str, int] = field(default_factory=dict)  # files mounted nowhere yet, by their place in its root
    copy: tuple[int, int] | None = None  # from, to: files in memory, see hyper-jail's --copy


async def start_all(run: RunDir, programs: Sequence[JailedProgram]) -> list[ProcessRef]:
    """`start` them all at once. When one does not start, others may: the reaper finds them."""
    await all_of(*(start(run, what) for what in programs))
    return [run.processes(what.program)[1] for what in programs]


async def start(run: RunDir, what: JailedProgram) -> ProcessRef:
    """Start `what`; returns once its program runs. It outlives us. Raises GuestDied with the step that failed."""
    words = [str(HYPER_JAIL), "--name", what.program, "--lock", str(what.lock), *what.options]
    for fd in what.fds:
        words += ["--fd", str(fd)]
    for folder in what.cgroups:
        words += ["--cgroup", str(folder)]
    for place, fd in what.mounts.items():
        words += ["--mount", f"{fd}={place}"]
    fds = [*what.fds, what.lock, *what.mounts.values()]
    if what.copy:
        words += ["--copy", "{}={}".format(*what.copy)]
        fds += what.copy
    try:
        await proc.run([*words, "--", *what.command], timeout_s=20, cwd=run.path, env={}, pass_fds=fds)
    except proc.CommandFailed as e:
        raise GuestDied(f"cannot start {what.program}: {e.stderr.strip() or e}") from e
    processes = run.processes(what.program)
    if len(processes) != 2:  # it wrote them before the program ran
        if cgroup.out_of_memory(what.cgroups):
            raise Unavailable(f"cannot start {what.program}: no memory is left for the virtual machine")
        raise HyperError(f"cannot start {what.program}: hyper-jail did not say which process it is")
    return processes[1]


def placed(program: str) -> tuple[str, dict[str, Path]]:
    """Where a jailed VMM has its program, and what is to be bound there: nothing, if it is among what any reads."""
    real = Path(program).resolve()
    if any(real.is_relative_to(folder) for folder in (*SYSTEM, *MERGED)):
        return str(real), {}
    place = f"/{Path(program).name}"
    return place, {place: real}


def vmm_options(
    run: RunDir,
    *,
    uid: int,
    binds: Mapping[str, Path],
    kvm: bool,
    proc: bool,
    largest_file: int,
    preload: str = "",
    home: str = "",
    vsock: bool = False,
) -> list[str]:
    """A VMM: a root of its own that holds the system's programs and `binds`, files by their place in it; an
    unprivileged user. `proc`: it names its own descriptors by path. `preload`: a library of `binds`, loaded first.
    `home`: a folder there that it may write to. `vsock`: it connects the host's vsocks with its guest.
    It makes no file larger than `largest_file` bytes: that is fixed for its life, for no limit of a running process can
    be raised without CAP_SYS_RESOURCE."""
    run.jail.mkdir(mode=0o700, exist_ok=True)
    words = ["--root", str(run.jail), "--uid", str(uid), "--fsize", str(largest_file)]
    for folder in SYSTEM:
        words += ["--bind", f"{folder}={folder}"]
    for name in MERGED:
        path = Path(name)
        if path.is_symlink():
            words += ["--link", f"{path.readlink()}={name}"]
        elif path.is_dir():
            words += ["--bind", f"{name}={name}"]
    if Path(LINKER_CACHE).exists():
        words += ["--bind", f"{LINKER_CACHE}={LINKER_CACHE}"]
    for place, path in binds.items():
        words += ["--bind", f"{path}={place}"]
    words += ["--preload", preload] if preload else []
    words += ["--home", home] if home else []
    flags = {"--kvm": kvm, "--vsock": vsock, "--proc": proc}
    return [*words, *(flag for flag, wanted in flags.items() if wanted)]


def share_options() -> list[str]:
    """virtiofsd: root, for it makes files of any owner, with the few capabilities that takes.

    It moves into namespaces of its own, with the shared folder as its root, and filters its system calls. What a
    guest's root makes in the share is no program that anybody on the host gets privileges by."""
    return ["--no-setid", "--caps", f"{sum(1 << n for n in SHARE_CAPS.values()):x}", "--nofile", "65536"]

"""Settings of the daemon: one TOML file, unknown keys refused, every key with a default."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.model.ids import MAX_LABEL, NAME

Scope = Literal["global", "tenant", "none"]
Annotation = Literal["vcpus", "memory_mib", "factory"]  # engine/annotations.py has what each asks for
HandlerName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=MAX_LABEL)]
Tenant = Annotated[str, msgspec.Meta(pattern=f"^({NAME.pattern})?$", max_length=MAX_LABEL)]


USUAL_MIB = 2048  # programs that are told no limit, such as Java's and Node's, expect something like this
LEAST_USUAL_MIB = 256
USUAL_HANDLER = "hyper"


def usual_memory_mib() -> int:
    """What a VM has when nobody says more, in steps of 64 MiB."""
    host_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(LEAST_USUAL_MIB, min(USUAL_MIB, host_mib // 4 & ~63))


class Registry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one registry host is reached."""

    mirrors: list[str] = []  # asked first, in order: "http://host:port" or "https://host"
    insecure: bool = False  # plain http, or TLS without a certificate that verifies


class Pool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """VMs of one size that are made before they are asked for: `cache` of them run and wait."""

    arch: str = ""  # of what images, as docker calls it: arm64; "": as this host
    vcpus: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0  # 0: as for every pod that does not say
    memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: likewise
    share: bool = False  # for pods that share folders: `-v`; others get none of them
    network: bool = True  # for pods with an interface; without: for those with none, as `ctr run` makes them
    tenant: Tenant = ""  # for its pods, with that scope
    template: bool = True  # clones of a template, or each booted
    cache: Annotated[int, msgspec.Meta(ge=0, le=256)] = 1  # 0: only the template is made


class Handler(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Machines of a RuntimeClass: docs/frakti.md."""

    vcpus: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # of pods that ask for no more; 0: as usual
    memory_mib: Annotated[int, msgspec.Meta(ge=0)] = 0  # likewise
    kernel: str = ""  # name of a kernel bundle; "": as for all
    factory: Literal["", "cache", "template", "direct"] = ""  # where they come from; "": as for all
    cache: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0  # of its machines, with a share, so many run and wait


class AddressPool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where subnets of new networks are taken from: those of `size` bits within `base`, of either family."""

    base: str
    size: Annotated[int, msgspec.Meta(ge=8, le=124)]


class Door(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A socket of hyperd: what is spoken there, who may open it, and what those may."""

    path: Annotated[str, msgspec.Meta(pattern="^/")] = ""  # of a unix socket
    address: Annotated[str, msgspec.Meta(pattern="^tcp://")] = ""  # or "tcp://ADDRESS:PORT": TLS, for who has …
    tls_ca: str = ""  # … a certificate of these authorities: files in PEM, this one,
    tls_cert: str = ""  # that of hyperd's certificate,
    tls_key: str = ""  # and of its key
    dialect: Literal["rest", "docker"] = "rest"  # docs/api.md, docs/docker.md
    group: str = ""  # a group that it belongs to; "" = that of hyperd
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)] = 0o660
    role: Literal["admin", "user"] = "admin"  # of who is neither root nor hyperd's user: docs/api.md

    @property
    def place(self) -> str:
        return self.address or self.path

    def check(self) -> None:
        """InvalidInput for a door that is in no place, or in two, or on TCP without TLS."""
        files = {"tls_ca": self.tls_ca, "tls_cert": self.tls_cert, "tls_key": self.tls_key}
        given = [key for key, path in files.items() if path]
        if bool(self.path) == bool(self.address):
            raise InvalidInput("cannot open a door: give it a `path`, or an `address`, in config.toml")
        if self.path and given:
            raise InvalidInput(f"cannot open {self.path} with {given[0]}: TLS is for doors with an `address`")
        if self.address and len(given) < len(files):
            missing = ", ".join(key for key in files if key not in given)
            raise InvalidInput(
                f"cannot open {self.address} without TLS: {missing} of this door in config.toml; "
                "who reaches a door on TCP owns this host, so callers need certificates"
            )
        if self.address and self.group:
            raise InvalidInput(f"cannot open {self.address} for group {self.group!r}: that is for doors with a `path`")


ADDRESS_POOLS = (
    AddressPool(base="10.213.0.0/16", size=24),
    AddressPool(base="172.24.0.0/14", size=24),  # where all of 10.0.0.0/8 leads elsewhere
    AddressPool(base="fd68:7970:6573::/48", size=64),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """/etc/hypercontainer/config.toml"""

    root: str = "/var/lib/hyper"  # what outlives a reboot
    run: str = "/run/hyper"  # what does not: sockets, pids
    socket: str = "/run/hyper.sock"
    docker_socket: str | None = None  # docker's API; None: beside `socket`, /run/hyper-docker.sock; "": nowhere
    oci_socket: str | None = None  # calls of runv; None: beside `socket`, /run/hyper-oci.sock; "": nowhere
    cri_socket: Annotated[str, msgspec.Meta(pattern="^(/|$)")] = ""  # calls of a kubelet, docs/frakti.md; "": nowhere
    # where clients of exec, attach and port-forward come to, sent by that kubelet: an address of this host, "127.0.0.1"
    # with any free port, or another one with TLS, by that certificate, and its key, in PEM
    cri_stream_address: str = "tcp://127.0.0.1:0"
    cri_stream_cert: str = ""
    cri_stream_key: str = ""
    cri_handlers: dict[HandlerName, Handler] = {}  # of RuntimeClasses, beside `hyper`, which is always there
    group: str = ""  # a group that may use the first two beside root
    # io.hypercontainer.NAME: what bundles may ask of their machines, and so whoever may annotate a pod: docs/runv.md
    annotations: list[Annotation] = []
    door: list[Door] = []  # more sockets
    hypervisor: str = "qemu"  # what runs guests: hypervisor/registry.py has the names
    # the program for guests of this host's architecture, where `hypervisor` is qemu; "": the distribution's
    qemu: Annotated[str, msgspec.Meta(pattern="^(/|$)")] = ""
    # what it is for guests of this host's architecture, where `hypervisor` is qemu; "": the usual one. "microvm", where
    # there is that, boots sooner, and has what it started with: docs/howto/machines.md
    machine: str = ""
    libvirt_uri: str = "qemu:///system"  # of the libvirtd, where that is `hypervisor`
    accelerator: str = "auto"  # auto = proved by booting a guest; or kvm, tcg
    # the longest that a guest may take for that proof: under working KVM it answers in well under one, if that is not
    # itself emulated, or in a machine of a machine
    kvm_proof_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 5.0
    kernel: str = ""  # name of a kernel bundle; "" = the one `hyperctl kernel use` chose
    # direct: boot each guest; template: clone it from one that was booted before; cache: … and have some wait (`pool`)
    factory: Literal["cache", "template", "direct"] = "cache"
    pool: list[Pool] = msgspec.field(default_factory=lambda: [Pool()])
    # more wait, where more were needed lately, while all who do take no more memory; None: a sixteenth of the host's
    pool_memory_mib: Annotated[int, msgspec.Meta(ge=0)] | None = None
    template_scope: Scope = "global"  # who may share memory pages: all, the pods of one tenant, nobody (as direct)
    vcpus: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # 0: with KVM as many as the host has, 8 at most; else 1
    # of a VM that no size was asked for: 2 GiB, or a quarter of the host. What it does not use it does not take
    memory_mib: Annotated[int, msgspec.Meta(ge=96)] = msgspec.field(default_factory=lambda: usual_memory_mib())
    scratch_mib: int = 10240  # the writable layer of a container, sparse
    boot_timeout_s: float = 60.0
    # Locks on files of volumes and binds: guest: hold in one pod; host: against everybody, none can be waited for
    share_locks: Literal["guest", "host"] = "guest"
    share_cache_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0  # how late a pod may see a change by others
    # What a pod has read of a file stays in its memory until size or time differ, where times tell every change
    share_keep: bool = True
    # how a machine has an interface of the network namespace that an engine made: docs/runv.md
    internetworking_model: Literal["tcfilter", "macvtap"] = "tcfilter"
    # AppArmor is in machines whose pod asks for a profile when they start; true: in all, for containers that join later
    apparmor: bool = False
    apparmor_profiles: Annotated[str, msgspec.Meta(pattern="^/")] = "/etc/apparmor.d"  # sources of profiles
    bridge: str = "hyper0"
    subnet: str = "192.168.123.0/24"
    subnet6: str = "fd68:7970:6572::/64"
    # of networks that are made without saying which; what this host uses already is passed over
    address_pools: list[AddressPool] = msgspec.field(default_factory=lambda: list(ADDRESS_POOLS))
    cni_conf_dir: str = "/etc/cni/net.d"  # networks of Kubernetes' pods: the first file by name counts
    # plugins that those name: Kubernetes' usual place, and Debian's
    cni_bin_dirs: list[str] = msgspec.field(default_factory=lambda: ["/opt/cni/bin", "/usr/lib/cni"])
    log_max_mib: int = 10  # of one container's log file
    log_files: int = 5
    uid_base: int = 1_900_000_000  # VMMs run as users from here on: 131,073 of them, nobody else's
    # names of images that kubelets are told to keep, as `pinned`, and that `image prune` passes over
    pinned_images: list[str] = []
    docker_config: str = "/root/.docker/config.json"  # credentials for pulls whose caller gives none
    registries: dict[str, Registry] = {}
    # mirrors of those that `registries` does not name, as containerd has them: FOLDER/HOST[:PORT]/hosts.toml, FOLDER or
    # several with colons between; read at each pull. "": none
    registry_config_path: Annotated[str, msgspec.Meta(pattern="^(/[^:]*(:/[^:]*)*)?$")] = ""

    def doors(self) -> list[Door]:
        """All sockets, the usual one first. InvalidInput when two are in one place, and for what Door.check refuses."""
        doors = [Door(path=self.socket, group=self.group)]
        if docker := self._docker_socket():
            doors.append(Door(path=docker, dialect="docker", group=self.group))
        doors += self.door
        for n, door in enumerate(doors):
            door.check()
            if door.place in (other.place for other in doors[:n]):
                raise InvalidInput(f"cannot listen twice on {door.place}: see `socket` and `door` in config.toml")
        return doors

    def handlers(self) -> dict[str, Handler]:
        """What RuntimeClasses may name; a pod without one has that of `USUAL_HANDLER`."""
        return {USUAL_HANDLER: Handler(), **self.cri_handlers}

    def bundles_socket(self) -> str:
        """Where runv calls; "": nowhere."""
        if self.oci_socket is None:
            socket = Path(self.socket)
            return str(socket.with_name(f"{socket.stem}-oci{socket.suffix}"))
        return self.oci_socket

    def _docker_socket(self) -> str:
        """As the setting says; else it goes where `socket` goes, so that two daemons differ in both."""
        if self.docker_socket is None:
            socket = Path(self.socket)
            return str(socket.with_name(f"{socket.stem}-docker{socket.suffix}"))
        return self.docker_socket


def load(path: Path) -> Settings:
    """Read `path`; a file that is not there means the defaults. InvalidInput names the key that is wrong."""
    try:
        with open(path, "rb") as f:
            return msgspec.convert(tomllib.load(f), Settings)
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as e:
        raise InvalidInput(f"cannot read {path}: {e}") from e

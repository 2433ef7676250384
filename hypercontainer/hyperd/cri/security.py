"""LinuxContainerSecurityContext -> who a container's processes are, and what they may. Pure."""

from typing import Any, Literal

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import seccomp
from hypercontainer.hyperd.cri.sandbox import check_namespaces, check_selinux
from hypercontainer.hyperd.cri.seccomp import LOCALHOST
from hypercontainer.model import capabilities
from hypercontainer.model.kube import KubeSecurity

PROFILES: dict[str, Literal["default", "unconfined"]] = {
    "": "unconfined",
    "unconfined": "unconfined",
    "runtime/default": "default",
    "docker/default": "default",
}

APPARMOR = ("", "unconfined", "runtime/default")  # in fields of before


def wanted(context: pb.LinuxContainerSecurityContext) -> dict[str, Any]:
    """The fields of a ContainerSpec. InvalidInput for what is not there."""
    check_namespaces(context.namespace_options, "container")
    check_selinux(context.selinux_options)
    return {
        "user": _user(context),
        "groups": list(context.supplemental_groups),
        "cap_add": _added(context),
        "cap_drop": list(context.capabilities.drop_capabilities),
        "privileged": context.privileged,
        "no_new_privileges": context.no_new_privs,
        "read_only": context.readonly_rootfs,
        "seccomp": _seccomp(context),
        "apparmor": _apparmor(context),
        "masked_paths": [] if context.privileged else list(context.masked_paths),
        "readonly_paths": [] if context.privileged else list(context.readonly_paths),
        "pid": _pid(context.namespace_options),
    }


def _user(context: pb.LinuxContainerSecurityContext) -> str | None:
    """None: as the image says."""
    user = context.run_as_username
    if context.HasField("run_as_user"):
        user = str(context.run_as_user.value)
    if not context.HasField("run_as_group"):
        return user or None
    if not user:
        raise InvalidInput("cannot have a runAsGroup without a runAsUser")
    return f"{user}:{context.run_as_group.value}"


def further(context: pb.LinuxContainerSecurityContext) -> KubeSecurity:
    """What a ContainerSpec has no words for. Reads a profile of this host. InvalidInput."""
    added, dropped = _added(context), list(context.capabilities.drop_capabilities)
    granted = capabilities.resolve(added, dropped, privileged=context.privileged)
    profile = "" if context.privileged else _profile(context)
    return KubeSecurity(
        seccomp=seccomp.compiled(seccomp.path(profile), granted) if profile else None,
        ambient=capabilities.resolve(context.capabilities.add_ambient_capabilities, [capabilities.EVERY]),
        memberships="strict" if context.supplemental_groups_policy == pb.Strict else "merge",
    )


def _added(context: pb.LinuxContainerSecurityContext) -> list[str]:
    """What is ambient is granted."""
    return [*context.capabilities.add_capabilities, *context.capabilities.add_ambient_capabilities]


def _profile(context: pb.LinuxContainerSecurityContext) -> str:
    """Where it is on this host; "": it is none of this host's."""
    if context.HasField("seccomp"):
        local = context.seccomp.profile_type == pb.SecurityProfile.Localhost
        return context.seccomp.localhost_ref or "nothing" if local else ""
    return context.seccomp_profile_path if context.seccomp_profile_path.startswith(LOCALHOST) else ""


def _seccomp(context: pb.LinuxContainerSecurityContext) -> Literal["default", "unconfined"]:
    """Of a profile of this host: `further` has it."""
    if _profile(context):
        return "unconfined"
    if context.HasField("seccomp"):
        return "default" if context.seccomp.profile_type == pb.SecurityProfile.RuntimeDefault else "unconfined"
    if context.seccomp_profile_path not in PROFILES:
        raise InvalidInput(f"cannot use seccomp profile {context.seccomp_profile_path[:200]!r}: there is none")
    return PROFILES[context.seccomp_profile_path]


def _apparmor(context: pb.LinuxContainerSecurityContext) -> str:
    """Name of a profile of this host. The runtime's own is none: the machine confines."""
    name = context.apparmor_profile
    if context.HasField("apparmor"):
        if context.apparmor.profile_type != pb.SecurityProfile.Localhost:
            return ""
        name = LOCALHOST + context.apparmor.localhost_ref.removeprefix(LOCALHOST)
    if name.removeprefix(LOCALHOST) and name.startswith(LOCALHOST):
        return name.removeprefix(LOCALHOST)
    if name not in APPARMOR:
        raise InvalidInput(f"cannot use AppArmor profile {name[:200]!r}: there is none")
    return ""


def _pid(options: pb.NamespaceOption) -> str:
    return f"container:{options.target_id}" if options.pid == pb.TARGET else ""

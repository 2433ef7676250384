"""LinuxContainerSecurityContext -> who a container's processes are, and what they may. Pure."""

from typing import Any, Literal

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.sandbox import check_namespaces, check_selinux

LOCALHOST = "localhost/"  # before the name of a profile, in fields of before
PROFILES: dict[str, Literal["default", "unconfined"]] = {
    "": "unconfined",
    "unconfined": "unconfined",
    "runtime/default": "default",
    "docker/default": "default",
}


def wanted(context: pb.LinuxContainerSecurityContext) -> dict[str, Any]:
    """The fields of a ContainerSpec. InvalidInput for what is not there."""
    check_namespaces(context.namespace_options, "container")
    check_selinux(context.selinux_options)
    _check_apparmor(context)
    if context.capabilities.add_ambient_capabilities:
        raise InvalidInput("cannot add ambient capabilities: they are not there yet")
    if context.supplemental_groups_policy == pb.Strict:
        raise InvalidInput("cannot have supplementalGroupsPolicy Strict: it is not there yet")
    return {
        "user": _user(context),
        "groups": list(context.supplemental_groups),
        "cap_add": list(context.capabilities.add_capabilities),
        "cap_drop": list(context.capabilities.drop_capabilities),
        "privileged": context.privileged,
        "no_new_privileges": context.no_new_privs,
        "read_only": context.readonly_rootfs,
        "seccomp": _seccomp(context),
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


def _seccomp(context: pb.LinuxContainerSecurityContext) -> Literal["default", "unconfined"]:
    if context.HasField("seccomp"):
        profile = context.seccomp
        if profile.profile_type == pb.SecurityProfile.Localhost:
            raise InvalidInput(
                f"cannot use seccomp profile {profile.localhost_ref[:200]!r}: Localhost is not there yet"
            )
        return "default" if profile.profile_type == pb.SecurityProfile.RuntimeDefault else "unconfined"
    if context.seccomp_profile_path not in PROFILES:
        raise InvalidInput(f"cannot use seccomp profile {context.seccomp_profile_path[:200]!r}: it is not there yet")
    return PROFILES[context.seccomp_profile_path]


def _check_apparmor(context: pb.LinuxContainerSecurityContext) -> None:
    """The runtime's own is none: the kernel of a machine has no AppArmor."""
    local = context.apparmor.profile_type == pb.SecurityProfile.Localhost and context.HasField("apparmor")
    if local or context.apparmor_profile.startswith(LOCALHOST):
        name = context.apparmor.localhost_ref or context.apparmor_profile
        raise InvalidInput(f"cannot use profile {name[:200]!r}: the kernel of a virtual machine has no AppArmor")


def _pid(options: pb.NamespaceOption) -> str:
    return f"container:{options.target_id}" if options.pid == pb.TARGET else ""

"""hyperctl pod create, run, start, stop, rm, ls, pause, unpause."""

from __future__ import annotations

import os

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import flags, table, text
from hypercontainer.hyperctl.containers import LEGACY, TIMEOUT, given_timeout, together
from hypercontainer.hyperctl.context import complain, each
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.hyperctl.context import Context

FILES = (".yaml", ".yml", ".json")
COLUMNS = (
    ("POD ID", "ID"),
    ("NAME", "Name"),
    ("STATE", "State"),
    ("VCPUS", "VCPUs"),
    ("MEMORY", "Memory"),
    ("CREATED", "CreatedSince"),
    ("CONTAINERS", "Containers"),
)
OWNER = ("OWNER", "Owner")
CRI = (("POD ID", "ID"), ("POD", "Kube"), *COLUMNS[2:])  # where a kubelet's are listed
CRI_OWNER = "cri"


def path(pod: str, verb: str = "") -> str:
    return f"/v1/pods/{segment(pod)}" + (f"/{verb}" if verb else "")


def make(context: Context, args: Args, command: str) -> str:
    """Create the pod of the file, pulling the images that are missing; its id."""
    from hypercontainer.hyperctl import podspec, run

    if bool(args.file) == bool(args.operands):
        raise UsageError("name the pod's file, once: -f pod.yaml", command, status=1)
    spec = podspec.read(args.file or args.operands[0])
    try:
        created = context.client.post("/v1/pods", spec)
    except Exception as e:
        if not run.unknown_image(e) or not _pull_missing(context, spec):
            raise
        created = context.client.post("/v1/pods", spec)
    for warning in created.get("Warnings") or []:
        complain(f"warning: {warning}")
    return str(created["Id"])


def _pull_missing(context: Context, spec: dict[str, Any]) -> bool:
    """Pull those images of `spec` that are not there; False if all are."""
    from hypercontainer.errors import NotFound
    from hypercontainer.hyperctl import images

    pulled = False
    wanted = [(container["image"], container.get("platform", "")) for container in spec.get("containers", [])]
    for image, platform in dict.fromkeys(wanted):
        try:
            context.client.get("/v1/images/inspect", name=image, platform=platform or None)
        except NotFound:
            complain(f"Unable to find image '{image}' locally")
            images.pull_image(context, image, platform=platform, quiet=False, to_stderr=True)
            pulled = True
    return pulled


def create(context: Context, args: Args) -> int:
    print(make(context, args, "pod create"))
    return 0


def run(context: Context, args: Args) -> int:
    pod = make(context, args, "pod run")
    context.client.post(path(pod, "start"))
    print(pod)
    return 0


def start(context: Context, args: Args) -> int:
    return together(context, args.operands, lambda client, name: client.post(path(name, "start")))


def stop(context: Context, args: Args) -> int:
    return together(
        context, args.operands, lambda client, name: client.post(path(name, "stop"), timeout=given_timeout(args))
    )


def remove(context: Context, args: Args) -> int:
    names = [_name(word) for word in args.operands]
    return together(
        context,
        names,
        lambda client, name: client.delete(
            path(name), force=args.force, volumes=args.volumes, all_owners=args.all_owners
        ),
        absent_ok=args.force,
    )


def _name(word: str) -> str:
    """A pod's name or id, or the file that it was made from."""
    if not word.endswith(FILES) or not os.path.exists(word):
        return word
    from hypercontainer.errors import InvalidInput
    from hypercontainer.hyperctl import podspec

    name = podspec.read(word).get("name")
    if not name:
        raise InvalidInput(f"{word} has no id: name the pod instead, see 'hyperctl pod ls'")
    return str(name)


def pause(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "pause")))


def unpause(context: Context, args: Args) -> int:
    return each(args.operands, lambda name: context.client.post(path(name, "unpause")))


def ls(context: Context, args: Args) -> int:
    rows = [
        {
            "ID": entry["Id"],
            "Name": entry["Name"],
            "State": entry["State"],
            "VCPUs": entry["Vcpus"],
            "Memory": f"{entry['MemoryMib']}MiB",
            "CreatedAt": text.moment(entry["Created"]),
            "CreatedSince": text.ago(entry["Created"]),
            "Labels": ",".join(f"{key}={value}" for key, value in entry["Labels"].items()),
            "Containers": ",".join(entry["Containers"]),
            "Implicit": entry["Implicit"],
            "Owner": entry.get("Owner", ""),
            "Kube": entry.get("Kube", ""),
        }
        for entry in context.client.get(
            "/v1/pods", all=args.all, filter=args.filter, all_owners=args.all_owners or args.cri
        )
        if not args.cri or entry.get("Owner") == CRI_OWNER
    ]
    columns = CRI if args.cri else (*COLUMNS, OWNER) if args.all_owners else COLUMNS
    return table.show(args, columns, rows)


FILE = Flag("file", "The pod: YAML or JSON; - is stdin", short="f", metavar="path")
SEVERAL = "POD [POD...]"
COMMANDS = {
    "pod create": Command(create, "-f FILE", "hyperctl pod create -f pod.yaml", FILE, most=1),
    "pod run": Command(run, "-f FILE", "hyperctl pod run -f pod.yaml", FILE, most=1),
    "pod start": Command(start, SEVERAL, "hyperctl pod start web", least=1, most=None, objects="pods"),
    "pod stop": Command(
        stop, f"[OPTIONS] {SEVERAL}", "hyperctl pod stop web", TIMEOUT,
        least=1, most=None, objects="pods", refused=LEGACY,
    ),
    "pod rm": Command(
        remove, f"[OPTIONS] {SEVERAL}", "hyperctl pod rm -f web",
        flags.switch("force", "Kill it first if it runs", "f"),
        flags.switch("volumes", "Remove anonymous volumes too", "v"),
        flags.switch("all-owners", "Also one of another engine, which is not asked: a kubelet's, runv's"),
        least=1, most=None, objects="pods",
        notes="In place of a pod you can name the file that it was made from: 'hyperctl pod rm -f pod.yaml'.",
    ),
    "pod ls": Command(
        ls, "[OPTIONS]", "hyperctl pod ls -a",
        flags.switch("all", "Also those that do not run", "a"),
        flags.switch("all-owners", "Also those of other engines: kubelets, runv, containerd's shim, with whose"),
        flags.switch("cri", "Those of kubelets alone, by their namespaces and names"), *table.list_flags(),
    ),
    "pod pause": Command(pause, SEVERAL, "hyperctl pod pause web", least=1, most=None, objects="pods"),
    "pod unpause": Command(unpause, SEVERAL, "hyperctl pod unpause web", least=1, most=None, objects="pods"),
}  # fmt: skip

"""The command table. A command's module is imported when it is called, and no other one.

What people wait for (run, exec, ps, start, rm, logs, attach) imports nothing but what a test lists.
"""

from __future__ import annotations

import sys

from hypercontainer.hyperctl.flags import Command, UsageError, nearest


class Entry:
    """Where a command is, hypercontainer.hyperctl.`module`.COMMANDS[`key`], and what it is for."""

    __slots__ = ("key", "module", "summary")

    def __init__(self, module: str, key: str, summary: str) -> None:
        self.module, self.key, self.summary = module, key, summary


MODULES = {
    "run": {
        "run": "Create a container from an image, in a VM of its own, and run it",
        "create": "Create a container",
    },
    "start": {"start": "Start containers"},
    "exec": {"exec": "Run one more process in a running container"},
    "ps": {"ps": "List containers"},
    "containers": {
        "stop": "Stop containers",
        "kill": "Signal containers",
        "restart": "Stop and start containers",
        "rm": "Remove containers",
        "pause": "Stop the processors of containers' VMs",
        "unpause": "Let paused containers run on",
        "rename": "Rename a container",
        "wait": "Wait until containers end, and print their exit status",
        "top": "List the processes of a container",
        "port": "List the published ports of a container",
        "container prune": "Remove all containers that do not run",
    },
    "snapshots": {
        "fork": "Make running copies of a container",
        "suspend": "Put containers' VMs on disk, and free their memory",
        "resume": "Let suspended containers go on",
        "restore": "Have a container go on from a checkpoint",
        "checkpoint create": "Keep a container's VM and disk as they are now",
        "checkpoint ls": "List checkpoints",
        "checkpoint rm": "Remove checkpoints",
    },
    "update": {"update": "Give containers other sizes, also while they run"},
    "attach": {"attach": "Tie the terminal to a running container"},
    "logs": {"logs": "Show what a container has written"},
    "cp": {"cp": "Copy files between a container and the host"},
    "commit": {
        "commit": "Make an image of a container",
        "diff": "List what a container has made of its image",
        "export": "Write a container's file system to a tar archive",
    },
    "build": {"build": "Make an image of a Dockerfile and the files of a folder"},
    "inspect": {
        "inspect": "Show everything about containers, images, pods, volumes or networks",
        "container inspect": "Show everything about containers",
        "image inspect": "Show everything about images",
        "pod inspect": "Show everything about pods",
        "volume inspect": "Show everything about volumes",
        "network inspect": "Show everything about networks",
    },
    "stats": {"stats": "Show what containers use, live"},
    "images": {
        "images": "List images",
        "tag": "Give an image another name",
        "rmi": "Remove images",
        "history": "Show the layers of an image",
        "pull": "Download an image",
        "push": "Upload an image",
        "load": "Load images from a tar archive",
        "save": "Save images to a tar archive",
        "import": "Make an image of a root file system's tar",
        "image prune": "Remove images that nothing uses",
    },
    "login": {
        "login": "Log in to a registry",
        "logout": "Forget the credentials of a registry",
    },
    "pods": {
        "pod create": "Create a pod, several containers in one VM, from a file",
        "pod run": "Create a pod from a file, and start it",
        "pod start": "Start pods",
        "pod stop": "Stop pods",
        "pod rm": "Remove pods",
        "pod ls": "List pods",
        "pod pause": "Stop the processors of pods",
        "pod unpause": "Let paused pods run on",
    },
    "volumes": {
        "volume create": "Create a volume",
        "volume ls": "List volumes",
        "volume rm": "Remove volumes",
        "volume prune": "Remove volumes that no container uses",
    },
    "networks": {
        "network create": "Create a network",
        "network ls": "List networks",
        "network connect": "Put a container into one more network",
        "network disconnect": "Take a container out of a network",
        "network rm": "Remove networks",
        "network prune": "Remove networks that no container is in",
    },
    "kernels": {
        "kernel ls": "List the kernels that VMs can boot",
        "kernel fetch": "Download the distribution's kernel, and make it ready for VMs",
        "kernel build": "Build a smaller, faster kernel from the distribution's source",
        "kernel use": "Choose the kernel that new VMs boot",
    },
    "factory": {
        "factory status": "Show the templates that VMs are cloned from, and the VMs that wait",
        "factory init": "Make the templates and the waiting VMs that the settings want",
        "factory destroy": "Let go of all of them",
    },
    "system": {
        "info": "Show the state of this machine's hyperd",
        "version": "Show the versions of hyperctl and hyperd",
        "doctor": "Prove what works on this machine",
        "events": "Show what happens, live",
    },
    "usage": {
        "system df": "Show what is on this host's disk",
        "system prune": "Remove what nobody needs: containers, networks, images",
    },
    "completion": {"completion": "Print the completion script of a shell", "__complete": ""},
}
COMMANDS = {key: Entry(module, key, text) for module, keys in MODULES.items() for key, text in keys.items()}
# docker's longer names of the same
CONTAINER = (
    "run create start stop kill restart pause unpause rm rename update wait exec attach logs cp top stats port "
    "commit diff export"
)
IMAGE = "build pull push load save import tag history"
COMMANDS.update({f"container {name}": COMMANDS[name] for name in CONTAINER.split()})
COMMANDS.update({f"image {name}": COMMANDS[name] for name in IMAGE.split()})
COMMANDS.update({"container ls": COMMANDS["ps"], "image ls": COMMANDS["images"], "image rm": COMMANDS["rmi"]})
COMMANDS.update({f"system {name}": COMMANDS[name] for name in ("info", "events")})
GROUPS = {
    "container": "Containers, as docker groups them",
    "image": "Images",
    "pod": "Pods: several containers in one VM",
    "checkpoint": "Containers as they were at one moment",
    "volume": "Volumes",
    "network": "Networks",
    "kernel": "The kernels that VMs boot",
    "system": "This host's hyperd, as docker groups that",
    "factory": "Templates that VMs are cloned from, and VMs that wait",
}
# docker's commands that are not here, and why or what instead
REFUSED = {
    "builder": "the cache of builds is images: 'hyperctl image prune' removes what nothing needs",
    "buildx": "'hyperctl build' builds as docker's classic builder does",
    "compose": "put containers that belong together into a pod file: see 'hyperctl pod create --help'",
    "config": "there is no swarm",
    "context": "choose a hyperd with -H or HYPER_HOST",
    "manifest": "use skopeo on the registry",
    "node": "there is no swarm",
    "plugin": "hyperd has no plugins",
    "search": "use the registry's own search",
    "secret": "there is no swarm: mount a file with -v",
    "service": "there is no swarm",
    "stack": "there is no swarm",
    "swarm": "there is no swarm",
    "trust": "no signatures are checked",
}
HELP = ("help", "--help", "-h")


def find(words: list[str]) -> tuple[str, list[str]]:
    """The name of the command that `words` begin with, and what follows it. UsageError if there is none."""
    if words[0] == "help":
        words = [*words[1:], "--help"]
    length = 2 if words[0] in GROUPS else 1
    name = " ".join(words[:length])
    if name in COMMANDS:
        return name, words[length:]
    command = words[1] if words[0] in ("container", "image") and len(words) > 1 else words[0]
    if command in REFUSED:
        raise UsageError(f"{name} is not supported: {REFUSED[command]}", status=1, final=True)
    group = f"{words[0]} " if length == 2 else ""
    known = [key for key in COMMANDS if key.startswith(group)] if group else [*COMMANDS, *GROUPS]
    near = nearest(name, known)
    hint = f": did you mean '{near}'?" if near else ""
    raise UsageError(f"unknown command: {name}{hint}", group.strip(), status=1)


def load(name: str) -> Command:
    entry = COMMANDS[name]
    path = f"hypercontainer.hyperctl.{entry.module}"
    __import__(path)
    table: dict[str, Command] = sys.modules[path].COMMANDS
    return table[entry.key]


def overview(words: list[str]) -> str:
    """What to print for `words` that ask for no command but for help; "" if they do not."""
    if words and words[0] == "help":
        words = words[1:]
    if not words or words[0] in HELP:
        return _everything()
    if words[0] in GROUPS and (len(words) == 1 or words[1] in HELP):
        return _group(words[0])
    return ""


def _everything() -> str:
    plain = [name for name in COMMANDS if " " not in name and not name.startswith("_")]
    return "\n".join(
        [
            "Usage:  hyperctl [-H unix:///SOCKET|tcp://HOST:PORT] COMMAND",
            "",
            "Run images in virtual machines, in docker's words.",
            "",
            "Commands:",
            *(f"  {name:<12}{COMMANDS[name].summary}" for name in plain),
            "",
            "Groups:",
            *(f"  {name:<12}{summary}" for name, summary in GROUPS.items()),
            "",
            "Options:",
            "  -H, --host unix:///SOCKET   hyperd to talk to (default $HYPER_HOST, then unix:///run/hyper.sock)",
            "             tcp://HOST:PORT  the same on another machine, by TLS: ca.pem, cert.pem and key.pem are in",
            "                              $HYPER_CERT_PATH (default ~/.docker)",
            "  -v, --version               Print the version",
            "",
            "Help on one of them: hyperctl COMMAND --help",
        ]
    )


def _group(group: str) -> str:
    members = [(name.partition(" ")[2], entry) for name, entry in COMMANDS.items() if name.startswith(f"{group} ")]
    return "\n".join(
        [
            f"Usage:  hyperctl {group} COMMAND",
            "",
            GROUPS[group],
            "",
            "Commands:",
            *(f"  {name:<12}{entry.summary}" for name, entry in members),
            "",
            f"Help on one of them: hyperctl {group} COMMAND --help",
        ]
    )

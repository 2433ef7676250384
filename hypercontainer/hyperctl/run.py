"""hyperctl run and create."""

from __future__ import annotations

import os
import time

from hypercontainer.client.http import segment
from hypercontainer.hyperctl import moot, spec
from hypercontainer.hyperctl.attach import DETACH_KEYS, SIG_PROXY, keys, need_terminal, talk
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError, switch
from hypercontainer.hyperctl.status import FAILED, start_failure
from hypercontainer.hyperctl.waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context
    from hypercontainer.hyperctl.session import TerminalSession

PULL = ("missing", "always", "never")


def parse_pull(word: str) -> str:
    if word not in PULL:
        raise ValueError(f"use one of {', '.join(PULL)}")
    return word


def make(context: Context, args: Args) -> str:
    """Create the container, pulling its image first if need be; its id."""
    image = args.operands[0]
    document = spec.member(args, context.environment) if args.pod else spec.pod(args, context.environment)
    where = f"/v1/pods/{segment(args.pod)}/containers" if args.pod else "/v1/containers"
    moot.warn(args)
    if args.cidfile and os.path.lexists(args.cidfile):
        raise UsageError(f"{args.cidfile} exists already: remove it, or name another --cidfile")
    if args.pull == "always":
        _pull(context, args)
    try:
        created = context.client.post(where, document)
    except Exception as e:
        if args.pull != "missing" or not unknown_image(e):
            raise
        complain(f"Unable to find image '{image}' locally")
        _pull(context, args)
        created = context.client.post(where, document)
    for warning in created.get("Warnings") or []:
        complain(f"warning: {warning}")
    if args.cidfile:
        _write_id(args.cidfile, created["Id"])
    return str(created["Id"])


def unknown_image(error: Exception) -> bool:
    from hypercontainer.errors import NotFound

    return isinstance(error, NotFound) and error.what == "image"


def _pull(context: Context, args: Args) -> None:
    from hypercontainer.hyperctl import images

    images.pull_image(context, args.operands[0], platform=args.platform, quiet=args.quiet, to_stderr=True)


def _write_id(file: str, container: str) -> None:
    from hypercontainer.errors import InvalidInput

    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise InvalidInput(f"cannot write {file}: {e.strerror}; the container is {container[:12]}") from e
    os.write(fd, container.encode())
    os.close(fd)


def create(context: Context, args: Args) -> int:
    print(make(context, args))
    return 0


def run(context: Context, args: Args) -> int:
    begin = time.monotonic()
    stdin = args.interactive and not args.detach
    if not args.detach:
        need_terminal(tty=args.tty, stdin=stdin)
    container = make(context, args)
    made = time.monotonic()

    def timings(session: TerminalSession) -> None:
        if args.timings:
            from hypercontainer.hyperctl import timings

            timings.show(session.info, create_ms=(made - begin) * 1e3, attach_ms=(time.monotonic() - made) * 1e3)

    try:
        try:
            if args.detach:
                with Waiting(context.client, container):
                    context.client.post(path(container, "start"))
                print(container)
                return 0
            with Waiting(context.client, container):
                upgraded = context.client.upgrade(
                    path(container, "attach"), start=True, stdin=stdin, stdout=True, stderr=True
                )
        except KeyboardInterrupt:
            return _give_up(context, container)
        return talk(upgraded, stdin=stdin, tty=args.tty, keys=keys(args), proxy=args.sig_proxy, done=timings)
    except Exception as e:
        return start_failure(e, otherwise=FAILED, set_up=FAILED)


def _give_up(context: Context, container: str) -> int:
    """Ctrl-C while it was starting: nobody wants it any more, and hyperd would finish what it began."""
    complain("interrupted while it was starting: removing it")
    context.client.close()  # an answer may be on the way there
    context.client.delete(path(container), force=True, volumes=True)
    return 130


COMMON = (
    *spec.FLAGS,
    Flag("platform", "Of the image, and so of the machine: os/architecture[/variant]", usual="the host's"),
    Flag("pull", "missing, always, never", metavar="when", default="missing", parse=parse_pull, words=PULL),
    switch("quiet", "Do not show how the pull goes", "q"),
    Flag("cidfile", "Write the container's id to this new file", metavar="path"),
)
NOTES = (
    "The container gets a virtual machine of its own: --cpus and --memory are its size\n"
    "(processors rounded up, memory in MiB rounded up). With --pod they are limits, and\n"
    "by default there are none. Its log is kept in 5 files of 10 MiB at most. The settings\n"
    "of hyperd may give other defaults: vcpus, memory_mib, scratch_mib, factory,\n"
    "share_locks, log_files, log_max_mib."
)
COMMANDS = {
    "run": Command(
        run,
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "hyperctl run --rm -it -v \"$PWD\":/src -w /src --memory 1g debian:12 bash",
        switch("detach", "Do not wait for it: print its id", "d"),
        switch("rm", "Remove it when it has ended"),
        *COMMON,
        DETACH_KEYS,
        SIG_PROXY,
        switch("timings", "Show how long each step of the start took"),
        least=1,
        most=None,
        in_order=True,
        refused=spec.REFUSED,
        objects="images",
        notes=NOTES,
    ),
    "create": Command(
        create,
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "hyperctl create --name web -p 8080:80 nginx",
        switch("rm", "Remove it when it has ended"),
        *COMMON,
        least=1,
        most=None,
        in_order=True,
        refused=spec.REFUSED,
        objects="images",
        notes=NOTES,
    ),
}  # fmt: skip

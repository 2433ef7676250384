"""hyperctl exec"""

from __future__ import annotations

from hypercontainer.hyperctl import environment, flags, terminal
from hypercontainer.hyperctl.attach import DETACH_KEYS, keys, need_terminal, talk
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.flags import Args, Command
from hypercontainer.hyperctl.status import CANNOT_EXECUTE, start_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context


def spec(args: Args, environ: dict[str, str]) -> dict[str, object]:
    """The ExecSpec of model/spec.py; what was not given is left out."""
    rows, columns = (args.tty and terminal.size(1)) or (0, 0)
    document = {
        "command": args.operands[1:],
        "env": environment.collect(args.env_file, args.env, environ),
        "working_dir": args.workdir,
        "user": args.user,
        "tty": args.tty,
        "open_stdin": args.interactive,
        "privileged": args.privileged,
        "detach": args.detach,
        "rows": rows,
        "columns": columns,
    }
    return {key: value for key, value in document.items() if value}


def execute(context: Context, args: Args) -> int:
    stdin = args.interactive and not args.detach
    if not args.detach:
        need_terminal(tty=args.tty, stdin=stdin)
    where = path(args.operands[0], "exec")
    try:
        if args.detach:
            context.client.post(where, spec(args, context.environment))
            return 0
        upgraded = context.client.upgrade(where, spec(args, context.environment))
        return talk(upgraded, stdin=stdin, tty=args.tty, keys=keys(args), proxy=True)
    except Exception as e:
        return start_failure(e, otherwise=1, set_up=CANNOT_EXECUTE)


COMMANDS = {
    "exec": Command(
        execute,
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "hyperctl exec -it web sh",
        flags.switch("detach", "Do not wait for it", "d"),
        DETACH_KEYS,
        *environment.FLAGS,
        flags.switch("interactive", "Hand stdin on to it", "i"),
        flags.switch("privileged", "Give it all capabilities inside the VM"),
        flags.switch("tty", "Give it a terminal", "t"),
        flags.Flag("user", "Name or uid, and group: NAME|UID[:GROUP|GID]", short="u"),
        flags.Flag("workdir", "Working directory inside the container", short="w", metavar="path"),
        least=2,
        most=None,
        in_order=True,
        objects="running",
        notes="Its exit status is that of hyperctl. Signals that reach hyperctl are handed on.",
    )
}

"""hyperctl login, logout, and the credentials that go with a pull: those of the caller, as docker keeps them."""

from __future__ import annotations

import os
import sys

from hypercontainer.hyperctl import flags
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from hypercontainer.hyperctl.context import Context
    from hypercontainer.model.api import Credentials

MAX_PASSWORD = 1 << 16


def config(context: Context) -> str:
    """The path of the caller's config.json."""
    environment = context.environment
    folder = environment.get("DOCKER_CONFIG") or os.path.join(environment.get("HOME") or "/root", ".docker")
    return os.path.join(folder, "config.json")


def kept(context: Context, image: str) -> dict[str, str]:
    """What the caller has for the registry of `image`, as the API takes it; {} for nothing."""
    path = config(context)
    if not os.path.exists(path):
        return {}  # the usual case: nothing more is imported
    from hypercontainer.images import reference

    found = _found(context, reference.parse(image).domain)
    return document(found) if found else {}


def document(credentials: Credentials) -> dict[str, str]:
    fields = ("username", "password", "identity_token")
    return {name: value for name in fields if (value := getattr(credentials, name))}


def _found(context: Context, domain: str) -> Credentials | None:
    import asyncio

    from hypercontainer.images import auth

    return asyncio.run(auth.credentials(_path(context), domain, env=context.environment))


def _path(context: Context) -> Path:
    from pathlib import Path

    return Path(config(context))


def login(context: Context, args: Args) -> int:
    import asyncio

    from hypercontainer.images import auth

    domain = auth.domain_of(args.operands[0] if args.operands else "")
    before = None if args.username or args.password else _found(context, domain)
    if before and not args.password_stdin and _accepted(context, domain, before):
        return 0
    credentials = _asked(args)
    context.client.post("/v1/login", {"registry": domain, "auth": document(credentials)})
    if asyncio.run(auth.keep(_path(context), domain, credentials, env=context.environment)):
        complain(f"warning: the password is kept unencrypted in {config(context)}: a credential helper would hide it")
    print("Login Succeeded")
    return 0


def _accepted(context: Context, domain: str, before: Credentials) -> bool:
    """Whether what is kept is right still; what is wrong is asked for again."""
    from hypercontainer.errors import HyperError

    print("Authenticating with existing credentials...")
    try:
        context.client.post("/v1/login", {"registry": domain, "auth": document(before)})
    except HyperError as e:
        if e.kind != "permission":
            raise
        complain(e)
        return False
    print("Login Succeeded")
    return True


def _asked(args: Args) -> Credentials:
    """From flags, stdin, or the terminal."""
    from hypercontainer.model.api import Credentials

    if args.password_stdin:
        if args.password:
            raise UsageError("--password and --password-stdin are mutually exclusive", "login", status=1)
        if not args.username:
            raise UsageError("must provide --username with --password-stdin", "login", status=1)
        password = sys.stdin.read(MAX_PASSWORD).rstrip("\r\n")
    elif args.password:
        complain("warning: others can see a --password among the processes: use --password-stdin")
        password = args.password
    else:
        password = ""
    if not (args.username and password) and not os.isatty(0):
        raise UsageError("there is no terminal to ask on: use --username and --password-stdin", "login", status=1)
    name, password = _typed(args.username, password)
    if not name or not password:
        raise UsageError("a user name and a password are needed", "login", status=1)
    return Credentials(username=name, password=password)


def _typed(name: str, password: str) -> tuple[str, str]:
    """What is not given yet is asked for; "" for who ends the line with nothing."""
    import getpass

    try:
        name = name or input("Username: ").strip()
        return name, password or getpass.getpass("Password: ")
    except EOFError:
        print()
        return name, password


def logout(context: Context, args: Args) -> int:
    import asyncio

    from hypercontainer.images import auth

    domain = auth.domain_of(args.operands[0] if args.operands else "")
    if asyncio.run(auth.forget(_path(context), domain, env=context.environment)):
        print(f"Removing login credentials for {domain}")
    else:
        print(f"Not logged in to {domain}")
    return 0


COMMANDS = {
    "login": Command(
        login, "[OPTIONS] [SERVER]", "hyperctl login -u me --password-stdin registry.example.com:5000 <password.txt",
        Flag("username", "User name", short="u"),
        Flag("password", "Password: others can see it", short="p"),
        flags.switch("password-stdin", "Read the password from stdin"),
        most=1, notes="SERVER is HOST[:PORT], Docker Hub if left out. Credentials are kept where docker keeps them.",
    ),
    "logout": Command(logout, "[SERVER]", "hyperctl logout registry.example.com:5000", most=1),
}  # fmt: skip

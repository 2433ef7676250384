"""What programs find in a folder that is shared: the tables of docs/howto/volumes.md, cell by cell.

A row is a question to the kernel. files.c asks it in the same way in docker's containers, in ours, and on the host."""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from hypercontainer.testing.daemon import Result

KINDS = ("flock", "posix", "ofd")  # of locks
TAKEN = "Resource temporarily unavailable"
LINES = 200  # that each party appends
WAIT_S = 300.0


class Engine(Protocol):
    """docker or hyperctl."""

    env: dict[str, str]

    def argv(self, *words: str) -> list[str]: ...
    def ctl(self, *words: str) -> Result: ...


class Begun:
    """files.c, which goes on; `first` is the line that it began with."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        self.stdin, self.stdout = process.stdin, process.stdout
        self.first = self.stdout.readline().strip()

    def rest(self) -> str:
        return self.stdout.read().strip()

    def end(self) -> str:
        """End its stdin; what it says then."""
        self.stdin.close()
        return self.rest()


class Party(NamedTuple):
    """A container, or the host: `argv` is files.c in the folder, as this party has it."""

    argv: list[str]
    cwd: Path | None = None
    env: Mapping[str, str] | None = None

    def ask(self, *words: str) -> str:
        """What files.c says."""
        out, err = subprocess.PIPE, subprocess.STDOUT
        argv = [*self.argv, *words]
        done = subprocess.run(
            argv,
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            timeout=WAIT_S,
        )
        return done.stdout.strip()

    @contextmanager
    def begun(self, *words: str) -> Iterator[Begun]:
        """files.c, which goes on; with the block it has ended."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*self.argv, *words], cwd=self.cwd, env=self.env, stdin=pipe, stdout=pipe, text=True
        ) as p:
            try:
                yield Begun(p)
            except BaseException:
                p.kill()
                raise


class Place(NamedTuple):
    """A folder of a container's, and who else has it."""

    one: Party
    others: tuple[Party, ...] = ()  # another container, the host
    read_only: Party | None = None  # the container's other view of it

    def all(self) -> tuple[Party, ...]:
        return (self.one, *self.others)


def container(engine: Engine, name: str, view: str) -> Party:
    return Party(engine.argv("exec", "-i", "-w", view, name, "/files"), env=engine.env)


@contextmanager
def places(
    engine: Engine, program: Path, folder: Path, names: tuple[str, str], *options: str
) -> Iterator[dict[str, Place]]:
    """What two containers share, a bind of `folder` and a volume; and the root file system of the first.

    `program` is files.c, compiled."""
    volume = "-".join(names)
    shares = [word for source in (folder, volume) for word in share(source)]
    for name in names:
        words = ("run", "-d", "--name", name, "--cap-add", "SYS_ADMIN", *options, "-v", f"{program}:/files:ro", *shares)
        done = engine.ctl(*words, "busybox", "sleep", "100000")
        assert done.status == 0, done

    def shared(view: str, source: Path) -> Place:
        one, two = (container(engine, name, view) for name in names)
        return Place(one, (two, Party([str(program)], cwd=source)), container(engine, names[0], f"{view}-ro"))

    source = engine.ctl("volume", "inspect", "-f", "{{.Mountpoint}}", volume).out.strip()
    yield {
        "bind": shared("/bind", folder),
        "volume": shared("/volume", Path(source)),
        "root": Place(container(engine, names[0], "/root")),
    }
    assert engine.ctl("rm", "-f", *names).status == 0
    assert engine.ctl("volume", "rm", volume).status == 0


def share(source: Path | str) -> list[str]:
    view = "/bind" if isinstance(source, Path) else "/volume"
    return ["-v", f"{source}:{view}", "-v", f"{source}:{view}-ro:ro"]


# The questions


Question = Callable[[Place], str]
Users = Callable[[Place], tuple[Party, ...]]


def itself(place: Place) -> tuple[Party, ...]:
    return (place.one,)


def the_others(place: Place) -> tuple[Party, ...]:
    return place.others


def together(answers: Iterable[str]) -> str:
    """All that are not "ok", else that."""
    return ", ".join(sorted(set(answers) - {"ok"})) or "ok"


def of_the_container(*words: str) -> Question:
    return lambda place: place.one.ask(*words)


def of_a_file(verb: str, *words: str, then: tuple[str, ...] = ()) -> Question:
    """The container does it to a new file; `then` is what the others are asked about that."""

    def question(place: Place) -> str:
        name = "-".join((verb, *words))
        done = together([place.one.ask("file", name), place.one.ask(verb, *words, name)])
        return done if done != "ok" or not then else together(other.ask(*then, name) for other in place.others)

    return question


def of_mapped_memory(place: Place) -> str:
    return together([place.one.ask("mmap", "mapped"), *(party.ask("has", "by", "mapped") for party in place.all())])


def of_a_mapping_while_others_write(place: Place) -> str:
    answers = []
    for other in place.others:
        answers.append(place.one.ask("put", "old", "mapping"))
        with place.one.begun("mapping", "mapping") as mapping:
            answers += [mapping.first, other.ask("put", "new", "mapping"), mapping.end()]
    return together(answers)


def of_what_is_replaced(place: Place) -> str:
    """Who has looked at a file writes to the one that has taken its place."""
    answers = []
    for other in place.others:
        for writer, reader in ((other, place.one), (place.one, other)):
            answers += [writer.ask("put", "one", "replaced"), reader.ask("has", "one", "replaced")]
            answers += [writer.ask("replace", "two", "replaced"), reader.ask("append", "more", "replaced")]
            answers += [party.ask("has", "twomore", "replaced") for party in (writer, reader)]
            answers.append(writer.ask("remove", "replaced"))
    return together(answers)


def of_appending_at_once(place: Place) -> str:
    parties = place.all() if place.others else (place.one, place.one)
    with ExitStack() as stack:
        begun = [stack.enter_context(party.begun("appends", str(LINES), "log")) for party in parties]
        answers = [one.first for one in begun]
        for one in begun:
            one.stdin.close()
        answers += [one.rest() for one in begun]
    return together([*answers, *(party.ask("size", str(len(parties) * LINES * 8), "log") for party in parties)])


def of_a_pipe(name: str, users: Users) -> Question:
    def question(place: Place) -> str:
        made = place.one.ask("fifo", name)
        with place.one.begun("open", name) as reader:
            return together([made, reader.first, *(user.ask("write", name) for user in users(place))])

    return question


def of_a_socket(name: str, users: Users) -> Question:
    def question(place: Place) -> str:
        with place.one.begun("listen", name) as server:
            return together([server.first, *(user.ask("connect", name) for user in users(place))])

    return question


def of_events(place: Place) -> str:
    """What the container itself makes raises one in any case, and is the last."""
    names = [f"made-by-{n}" for n, _ in enumerate(place.others)]
    with place.one.begun("watch", ".") as watch:
        answers = [watch.first, *(other.ask("file", name) for other, name in zip(place.others, names, strict=True))]
        answers.append(place.one.ask("file", "end"))
        seen = watch.rest().split()
    return together([*answers, "ok" if seen == names else f"only of {seen}" if seen else "no event"])


def of_the_read_only_view(place: Place) -> str:
    assert place.read_only
    return place.read_only.ask("rewrite", "rewritten")


def tries_a_lock(users: Users) -> Question:
    """While another one has it, and when that one has let it go."""

    def question(place: Place) -> str:
        answers = []
        for kind in KINDS:
            for holder, other in [pair for user in users(place) for pair in ((place.one, user), (user, place.one))]:
                with holder.begun("hold", kind, "lock") as held:
                    tried = other.ask("try", kind, "lock")
                    answers += [held.first, {TAKEN: "ok", "ok": "granted"}.get(tried, tried)]
                answers.append(other.ask("try", kind, "lock"))
        return together(answers)

    return question


def waits_for_a_lock(users: Users) -> Question:
    """The container does, while another one has it."""

    def question(place: Place) -> str:
        answers = []
        for kind in KINDS:
            for holder in users(place):
                with holder.begun("hold", kind, "lock") as held, place.one.begun("queue", kind, "lock") as waiter:
                    held.end()
                    tried, waited = waiter.first, waiter.rest()
                    answers += [held.first, waited if tried == "taken" else {"ok": "granted"}.get(tried, tried)]
        return together(answers)

    return question


# The tables


class Row(NamedTuple):
    """What is asked, and the words of its cells. "" where there is nothing to ask."""

    what: str
    question: Question
    cells: tuple[str, str, str]

    def __str__(self) -> str:
        return f"| {' | '.join((self.what, *self.cells))} |"


def word(answer: str) -> str:
    """As the tables have it."""
    return "yes" if answer == "ok" else f"no: {answer.lower().removeprefix('operation ')}"


FOLDERS = [  # a bind or volume of docker's; of ours; our root file system
    Row("owners", of_a_file("chown", "1234", then=("owner", "1234")), ("yes", "yes", "yes")),
    Row("hard links", of_a_file("link", then=("links", "2")), ("yes", "yes", "yes")),
    Row("user extended attributes", of_a_file("set", "user.k", then=("get", "user.k")), ("yes", "yes", "yes")),
    Row("`trusted.` attributes", of_a_file("set", "trusted.k"), ("yes", "no: not supported", "yes")),
    Row("POSIX ACLs", of_a_file("acl"), ("yes", "no: not supported", "yes")),
    Row("file capabilities", of_a_file("capability"), ("yes", "no: not permitted", "yes")),
    Row(
        "setuid and setgid bits", of_a_file("chmod", "6755", then=("mode", "6755")), ("yes", "no: not permitted", "yes")
    ),
    Row("device nodes", of_the_container("char", "char"), ("yes", "no: not permitted", "yes")),
    Row("`O_TMPFILE`", of_the_container("tmpfile", "."), ("yes", "no: not supported", "no: not supported")),
    Row("`O_DIRECT`", of_the_container("direct", "direct"), ("yes", "yes", "yes")),
    Row("holes", of_the_container("holes", "holes"), ("yes", "yes", "yes")),
    Row("exchange of two names", of_the_container("exchange", "exchange"), ("yes", "yes", "yes")),
    Row("appending at once loses nothing", of_appending_at_once, ("yes", "yes", "yes")),
    Row("shared writable mappings, with `msync`", of_mapped_memory, ("yes", "yes", "yes")),
    Row("a mapping shows what others write", of_a_mapping_while_others_write, ("yes", "no: old bytes", "")),
    Row("what others replace is seen at once", of_what_is_replaced, ("yes", "yes", "")),
    Row("what others make raises inotify events", of_events, ("yes", "no: no event", "")),
    Row("named pipes within a container", of_a_pipe("own-pipe", itself), ("yes", "yes", "yes")),
    Row("named pipes to others", of_a_pipe("pipe", the_others), ("yes", "no: no such device or address", "")),
    Row("unix sockets within a container", of_a_socket("own-socket", itself), ("yes", "yes", "yes")),
    Row("unix sockets to others", of_a_socket("socket", the_others), ("yes", "no: connection refused", "")),
    Row("`:ro` holds when root mounts it again", of_the_read_only_view, ("no: writable", "yes", "")),
]
LOCKS = [  # docker's; ours with --locks guest; with --locks host
    Row("within a container, tried", tries_a_lock(itself), ("yes", "yes", "yes")),
    Row("within a container, waited for", waits_for_a_lock(itself), ("yes", "yes", "no: not supported")),
    Row("against others, tried", tries_a_lock(the_others), ("yes", "no: granted", "yes")),
    Row("against others, waited for", waits_for_a_lock(the_others), ("yes", "no: granted", "no: not supported")),
]

import pytest

from hypercontainer.hyperctl import flags
from hypercontainer.hyperctl.flags import Command, Flag, UsageError, edits, help_text, nearest, parse

COMMAND = Command(
    lambda context, args: 0,
    "[OPTIONS] IMAGE [ARG...]",
    "hyperctl x y",
    flags.switch("interactive", "Keep stdin", "i"),
    flags.switch("tty", "A terminal", "t"),
    flags.switch("proxy", "Signals", default=True),
    flags.many("publish", "Ports", "p"),
    Flag("memory", "Size", short="m"),
    Flag("tail", "Lines", default=5, parse=flags.number),
    least=1,
    most=2,
    refused={"link": "use pods"},
)
ORDERED = Command(COMMAND.run, "IMAGE [ARG...]", "x", *COMMAND.flags, least=1, most=None, in_order=True)


@pytest.mark.parametrize(
    ("words", "values", "operands"),
    [
        (["a"], {"interactive": False, "tty": False, "proxy": True, "publish": [], "memory": "", "tail": 5}, ["a"]),
        (["-it", "a"], {"interactive": True, "tty": True}, ["a"]),
        (["-i=false", "-t=true", "a"], {"interactive": False, "tty": True}, ["a"]),
        (["--proxy=false", "a"], {"proxy": False}, ["a"]),
        (["--proxy=0", "--tty=T", "a"], {"proxy": False, "tty": True}, ["a"]),
        (["-p80:80", "-p", "81:81", "-p=82:82", "--publish", "83", "--publish=84", "a"],
         {"publish": ["80:80", "81:81", "82:82", "83", "84"]}, ["a"]),
        (["-itp80", "a"], {"interactive": True, "tty": True, "publish": ["80"]}, ["a"]),
        (["-itp", "80", "a"], {"publish": ["80"]}, ["a"]),
        (["-m", "1g", "-m", "2g", "a"], {"memory": "2g"}, ["a"]),
        (["-m", "-5", "a"], {"memory": "-5"}, ["a"]),
        (["--memory=", "a"], {"memory": ""}, ["a"]),
        (["--memory", "--tty", "a"], {"memory": "--tty", "tty": False}, ["a"]),
        (["a", "-t", "b"], {"tty": True}, ["a", "b"]),
        (["--", "-t", "b"], {"tty": False}, ["-t", "b"]),
        (["-", "-t"], {"tty": True}, ["-"]),
        (["--tail=-3", "a"], {"tail": -3}, ["a"]),
    ],
)  # fmt: skip
def test_docker_reads_it_so(words: list[str], values: dict[str, object], operands: list[str]) -> None:
    args = parse("x", COMMAND, words)
    assert args is not None
    assert {name: getattr(args, name) for name in values} == values
    assert args.operands == operands


def test_flags_end_at_the_image() -> None:
    args = parse("run", ORDERED, ["-t", "image", "-i", "--nonsense", "--", "--help"])
    assert args is not None
    assert (args.tty, args.interactive, args.operands) == (True, False, ["image", "-i", "--nonsense", "--", "--help"])
    assert args.given == {"tty"}
    args = parse("run", ORDERED, ["--", "image", "--", "-i"])
    assert args is not None
    assert args.operands == ["image", "--", "-i"]


@pytest.mark.parametrize("words", [["--help"], ["a", "--help"], ["-h"], ["-th"]])
def test_help_is_asked_for(words: list[str]) -> None:
    assert parse("x", COMMAND, words) is None


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--nonsense", "a"], 125, "unknown flag: --nonsense"),
        (["--memry=1g", "a"], 125, "unknown flag: --memry (did you mean --memory?)"),
        (["--link", "b", "a"], 125, "--link is not supported: use pods"),
        (["-tz", "a"], 125, "unknown shorthand flag: 'z' in -tz"),
        (["-m"], 125, "flag needs an argument: -m"),
        (["--memory"], 125, "flag needs an argument: --memory"),
        (["--tty=maybe", "a"], 125, "invalid argument 'maybe' for -t, --tty: use true or false"),
        (["--tail", "x", "a"], 125, "invalid argument 'x' for --tail: use a whole number"),
        (["--tail", "9" * 5000, "a"], 125, "invalid argument"),
        ([], 1, "x requires at least 1 argument: [OPTIONS] IMAGE [ARG...]"),
        (["a", "b", "c"], 1, "x takes at most 2 arguments: [OPTIONS] IMAGE [ARG...]"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], status: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("x", COMMAND, words)
    assert caught.value.message.startswith(message)
    assert (caught.value.status, caught.value.command) == (status, "x")


def test_exact_numbers_of_operands() -> None:
    two = Command(COMMAND.run, "A B", "x", least=2, most=2)
    none = Command(COMMAND.run, "", "x")
    with pytest.raises(UsageError, match="x requires 2 arguments: A B"):
        parse("x", two, ["a"])
    with pytest.raises(UsageError, match="x requires no arguments"):
        parse("x", none, ["a"])
    with pytest.raises(UsageError) as caught:
        parse("run", ORDERED, [])
    assert caught.value.status == 1


@pytest.mark.parametrize(
    ("a", "b", "n"), [("", "", 0), ("ps", "ps", 0), ("sp", "ps", 1), ("imgaes", "images", 1), ("run", "rnu", 1),
                      ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3)],
)  # fmt: skip
def test_edits(a: str, b: str, n: int) -> None:
    assert edits(a, b) == n


def test_nearest() -> None:
    words = ["run", "rm", "rmi", "images", "inspect", "pod create"]
    assert nearest("imgaes", words) == "images"
    assert nearest("insp", words) == "inspect"
    assert nearest("xyzzy", words) == ""
    assert nearest("rn", words) in ("run", "rm")


def test_help_names_every_flag() -> None:
    text = help_text("x", "Does x.", COMMAND)
    assert text == (
        "Usage:  hyperctl x [OPTIONS] IMAGE [ARG...]\n\n"
        "Does x.\n\n"
        "Options:\n"
        "  -i, --interactive           Keep stdin\n"
        "  -t, --tty                   A terminal\n"
        "      --proxy                 Signals (default true)\n"
        "  -p, --publish list          Ports\n"
        "  -m, --memory string         Size\n"
        "      --tail string           Lines (default 5)\n\n"
        "Example:\n"
        "  hyperctl x y"
    )

"""What templates print, and what they refuse."""
# ruff: noqa: E501

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypercontainer.hyperctl import functions
from hypercontainer.hyperctl.flags import UsageError
from hypercontainer.hyperctl.template import GoTemplate

WEB = {
    "Id": "abc",
    "Vm": None,
    "Name": "/web",
    "State": {"Status": "running", "Running": True, "Pid": 7},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"a": "x", "b": "y"}, "Tty": False, "Cmd": None},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": None},
        "Networks": {"bridge": {"IPAddress": "10.0.0.2"}},
    },
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{ .Id }}\t{{.State.Status}}!", "abc\trunning!"),
        ("{{.State.Running}} {{.Config.Tty}} {{.State.Pid}}", "true false 7"),
        ("{{.Config.Env}} {{.Config.Labels}} {{.Config.Cmd}}", "[A=1 B=2] map[a:x b:y] []"),
        ("{{.Nothing}}", UsageError), ("{{.State.Nothing}}", UsageError), ("{{.Nothing.At.All}}", UsageError),
        ("{{if .Nothing}}x{{end}}", UsageError), ("{{.Config.Labels.zz}}", "<no value>"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .}}", None),
        ("{{json .Nothing}}", UsageError), ("{{json .Config.Cmd}} {{json .Config.Labels.zz}}", "null null"),
        ("{{.Config.Env | json}}", '["A=1","B=2"]'),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{.State.Status | upper | printf}}', "RUNNING"),
        ("{{.State.Status | upper}} {{lower .State.Status}} {{title .State.Status}}", "RUNNING running Running"),
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a:x b:y "),
        ("{{range .NetworkSettings.Networks.x}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.0.0.2"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{index .Config.Labels "a"}}{{index .Config.Labels "zz"}}', "x"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Config.Tty}}tty{{else if .State.Running}}up{{else}}none{{end}}", "up"),
        ('{{if eq .State.Status "exited" "running"}}yes{{end}}', "yes"),
        ('{{if and .State.Running (ne .State.Pid 7)}}a{{else}}b{{end}}', "b"),
        ("{{if not .Config.Tty}}no tty{{end}}", "no tty"),
        ("{{or .Config.Labels.zz .Id}} {{len .Config.Env}}", "abc 2"),
        ("{{with .State}}{{.Status}}{{end}}{{with .Config.Labels.zz}}x{{else}}-{{end}}", "running-"),
        ('{{with $x := 5}}{{$x}}{{.}}{{end}}', "55"),
        ("{{$x := .Id}}{{$x}}{{$.Name}}", "abc/web"),
        ('a {{- " b " -}} c', "a b c"),
        ("{{/* nothing */}}x", "x"),
        ('{{"quoted \\"text\\" \\u00e9"}} {{`raw`}}', 'quoted "text" é raw'),
        ('{{split "a,b" ","}} {{truncate .Name 3}}', "[a b] /we"),
        ("{{gt .State.Pid 5}} {{lt .State.Pid 5}}", "true false"),
    ],
)  # fmt: skip
def test_what_people_use(source: str, expected: object) -> None:
    if expected is UsageError:
        with pytest.raises(UsageError, match="template"):
            GoTemplate(source).render(WEB)
    elif expected is not None:
        assert GoTemplate(source).render(WEB) == expected
    else:
        assert GoTemplate(source).render(WEB).startswith('{"Id":"abc"')


@pytest.mark.parametrize(
    "source",
    [
        "{{", "{{.Id", "{{if .Id}}", "{{end}}", "{{else}}", "{{range .Id}}x", "{{nonsense .Id}}", "{{Id}}", "{{.Id.x}}",
        '{{"open}}', "{{(.Id}}", "{{break}}", "{{template \"x\"}}", "{{define x}}{{end}}", "{{$x = 1}}", "{{.Vm.Pid}}", "{{slice .Id 5 3}}",
        "{{slice .Id 0 900}}", "{{len 5}}", "{{eq 1 \"a\"}}", "{{slice 5}}", "{{1.2.3}}", "{{call .Name}}", "{{index .Config.Env \"a\"}}",
        "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "{{.Id)}}", "{{join .Id}}", '{{join .Id ","}}', "{{index .Id 5}}", "{{$nope}}",
        "{{.__class__.__mro__ .Id}}", "{{.Id | .Name}}", "{{|}}", "{{lt .Id 5}}", "{{" + "(" * 1000, "{{json}}",
        "{{range .Id}}{{end}}",
        "{{if .Id}}" * 200 + "{{end}}" * 200, '{{"\\x"}}',
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="template"):
        GoTemplate(source).render(WEB)


def test_no_object_of_python_is_looked_into() -> None:
    for source in ("{{.__class__}}", "{{.State.keys}}", "{{.Config.Labels.keys.x}}"):
        with pytest.raises(UsageError, match="template"):
            GoTemplate(source).render(WEB)
    assert GoTemplate("{{.Config.Labels.keys}}").render(WEB) == "<no value>"


def test_fields_are_known() -> None:
    template = GoTemplate("{{.ID}}\t{{upper .Names}} {{range .Ports}}{{.Public}}{{end}}{{json .}}")
    assert template.fields() == {"ID", "Names", "Ports", "Public", "."}


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("{{slice .Id 1}} {{slice .Id 0 2}} {{slice .Id}} {{slice .Config.Env 1}}", "bc ab abc [B=2]"),
        (
            '{{printf "%s %d %v %q %5d|%-5d|%05d|%x|%t|%%|%.3s|%10.3s|%T" .Name 7 .Config.Env .Name 42 42 42 255 true .Name .Name .Name}}',
            '/web 7 [A=1 B=2] "/web"    42|42   |00042|ff|true|%|/we|       /we|string',
        ),
        ('{{printf "%d" .Name}} {{printf "%s" 5}}', "%!d(string=/web) %!s(int=5)"),
        ('{{printf "%v"}} {{printf "%v" 1 2}} {{printf "%"}}', "%!v(MISSING) 1%!(EXTRA int=2) %!(NOVERB)"),
        ('{{printf "%.2f %f %e %g" 1.5 1.5 1.5 1.5}}', "1.50 1.500000 1.500000e+00 1.5"),
        ('{{printf "%-6s|%+d|%#x|%c|%U" .Id 5 255 97 97}}', "abc   |+5|0xff|a|U+0061"),
        ('{{.Id | printf "%.2s"}} {{printf .Id}}', "ab abc"),
        ("{{html \"<a & 'b' \\\"c\\\">\"}}", "&lt;a &amp; &#39;b&#39; &#34;c&#34;&gt;"),
        ("{{js \"it's <x>\"}}", "it\\'s \\u003Cx\\u003E"),
        ('{{urlquery "a b&c/d"}}', "a+b%26c%2Fd"),
        ('{{print 1 2 "a" "b" 3}}|{{println 1 "a"}}', "1 2ab3|1 a\n"),
        ("{{pad .Name 2 3}}|", "  /web   |"),
        ("{{range .Config.Env}}{{.}}{{break}}{{end}} {{range .Config.Env}}{{continue}}x{{end}}done", "A=1 done"),
        ('{{define "x"}}hi {{.}}{{end}}{{template "x" .Name}} {{block "y" .}}{{.Id}}{{end}}', "hi /web abc"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}} {{if true}}{{$x := 3}}{{end}}{{$x}}", "2 2"),
        ("{{$n := 0}}{{range $i, $e := .Config.Env}}{{$n = $i}}{{end}}{{$n}}", "1"),
        ("{{with $y := .Name}}{{$y}}{{end}} {{if $z := .Name}}{{$z}}{{end}}", "/web /web"),
        ('{{index .NetworkSettings.Ports "81/tcp"}} {{index .NetworkSettings.Ports "80/tcp" 0}}', "<no value> map[HostIp: HostPort:8080]"),
        ("{{.ID}} {{.State.PID}} {{.NetworkSettings.Networks.bridge.IPAddress}}", "abc 7 10.0.0.2"),
        ("{{1.5}} {{0x10}} {{-5}} {{true}}", "1.5 16 -5 true"),
        ("{{range $i, $a := .Config.Env}}{{if $i}}, {{end}}{{$a}}{{end}}", "A=1, B=2"),
        ('{{join .Config.Cmd ","}}{{len .Config.Cmd}}{{range .Config.Cmd}}x{{end}}', "0"),
    ],
)  # fmt: skip
def test_what_docker_prints(source: str, printed: str) -> None:
    """Letter by letter what docker 20.10 printed for the same values."""
    assert GoTemplate(source).render(WEB) == printed


def test_a_document_may_have_methods() -> None:
    row = {"ID": "a", "Label": lambda name: {"k": "v"}.get(name, "")}
    assert (
        GoTemplate('{{.Label "k"}}{{.Label "z"}} {{(.Label "k") | upper}} {{json .}}').render(row) == 'v V {"ID":"a"}'
    )
    with pytest.raises(UsageError, match="cannot be used so"):
        GoTemplate("{{.Label}}").render(row)


WORDS = st.sampled_from(
    [
        "{{",
        "}}",
        "{{-",
        "-}}",
        "range",
        "if",
        "with",
        "else",
        "end",
        "define",
        "block",
        "template",
        "break",
        "continue",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        ".Id",
        ".State",
        ".Config.Env",
        ".Config.Labels.a",
        ".Vm",
        ".Nope",
        '"a"',
        '"%d"',
        '"%5.2f"',
        '"%*d"',
        '"%"',
        "`b`",
        "0",
        "-1",
        "99999",
        "1.5",
        "0x",
        "nil",
        "true",
    ]
) | st.sampled_from(sorted(functions.TABLE))


@given(st.lists(WORDS, max_size=12), st.booleans())
@example(["{{", "join", ".Config.Env", "0", "}}"], False)
@example(["{{", "slice", ".Id", '"a"', "}}"], False)
@example(["{{", "lt", ".State", ".State", "}}"], False)
@example(["{{", "index", ".Config.Env", "true", "}}"], False)
def test_any_words_are_a_template_or_refused(words: list[str], action: bool) -> None:
    source = f"{{{{{' '.join(words)}}}}}" if action else " ".join(words)
    try:
        GoTemplate(source).render(WEB)
    except UsageError as e:
        assert e.message.startswith("template: ")

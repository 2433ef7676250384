import pytest

from hypercontainer.hyperctl.flags import UsageError
from hypercontainer.hyperctl.template import Template

WEB = {
    "Id": "abc",
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
        ("{{.Config.Env}} {{.Config.Labels}} {{.Config.Cmd}}", "[A=1 B=2] map[a:x b:y] <no value>"),
        ("{{.Nothing}} {{.Nothing.At.All}}", "<no value> <no value>"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .}}", None),
        ("{{json .Nothing}}", "null"),
        ("{{.Config.Env | json}}", '["A=1","B=2"]'),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{.State.Status | upper | printf}}', UsageError),
        ("{{.State.Status | upper}} {{lower .State.Status}} {{title .State.Status}}", "RUNNING running Running"),
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a:x b:y "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.0.0.2"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{index .Config.Labels "a"}}{{index .Config.Labels "zz"}}', "x<no value>"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Config.Tty}}tty{{else if .State.Running}}up{{else}}none{{end}}", "up"),
        ('{{if eq .State.Status "exited" "running"}}yes{{end}}', "yes"),
        ('{{if and .State.Running (ne .State.Pid 7)}}a{{else}}b{{end}}', "b"),
        ("{{if not .Config.Tty}}no tty{{end}}", "no tty"),
        ("{{or .Nothing .Id}} {{len .Config.Env}}", "abc 2"),
        ("{{with .State}}{{.Status}}{{end}}{{with .Nothing}}x{{else}}-{{end}}", "running-"),
        ('{{with $x := 5}}{{end}}', UsageError),
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
            Template(source).render(WEB)
    elif expected is not None:
        assert Template(source).render(WEB) == expected
    else:
        assert Template(source).render(WEB).startswith('{"Id":"abc"')


@pytest.mark.parametrize(
    "source",
    [
        "{{", "{{.Id", "{{if .Id}}", "{{end}}", "{{else}}", "{{range .Id}}x", "{{nonsense .Id}}", "{{Id}}", "{{.Id.x}}",
        '{{"open}}', "{{(.Id}}", "{{.Id)}}", "{{join .Id}}", '{{join .Id ","}}', "{{index .Id 5}}", "{{$nope}}",
        "{{.__class__.__mro__ .Id}}", "{{.Id | .Name}}", "{{|}}", "{{lt .Id 5}}", "{{" + "(" * 1000, "{{json}}",
        "{{range .Id}}{{end}}",
        "{{if .Id}}" * 200 + "{{end}}" * 200, '{{"\\x"}}',
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="template"):
        Template(source).render(WEB)


def test_no_object_of_python_is_looked_into() -> None:
    assert Template("{{.__class__}}{{.State.keys}}").render(WEB) == "<no value><no value>"


def test_fields_are_known() -> None:
    template = Template("{{.ID}}\t{{upper .Names}} {{range .Ports}}{{.Public}}{{end}}")
    assert template.fields() == {"ID", "Names", "Ports", "Public"}

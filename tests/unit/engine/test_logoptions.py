"""docker's options of a log: what its lines say of their container, and what changes nothing."""

import pytest

from hypercontainer.engine import logoptions
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput
from tests.unit.engine.world import Run


async def test_what_the_lines_of_a_log_say(engine: LocalEngine, create: Run) -> None:
    options = {
        "labels": "site,none",
        "labels-regex": "^com[.]",
        "env": "COLOUR,MISSING",
        "env-regex": "^LC_",
        "tag": "{{.Name}}/{{ .ID }} of {{.ImageName}}: {{.Command}}",
    }
    id = await create(
        "sleep",
        name="web",
        env=["COLOUR=blue=ish", "LC_ALL=C", "SECRET=x"],
        labels={"site": "one", "com.example": "y", "other": "z"},
        log_options=options,
    )
    found = await engine.containers.inspect(id)
    assert found.host_config.log_config.config == options
    assert found.log_attributes == {
        "site": "one",
        "com.example": "y",
        "COLOUR": "blue=ish",
        "LC_ALL": "C",
        "tag": f"web/{id[:12]} of busybox: sleep",
    }
    assert (await engine.containers.inspect(await create("sleep"))).log_attributes == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nosuch": "x"}, "unknown log opt 'nosuch'"),
        ({"compress": "maybe"}, "compress='maybe': use true or false"),
        ({"mode": "fast"}, "mode='fast': use blocking or non-blocking"),
        ({"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
        ({"labels-regex": "(a+)+"}, "repeat no group"),
        ({"env-regex": "("}, "no regular expression"),
        ({"tag": "{{.Nosuch}}"}, r"there is no \.Nosuch"),
        ({"tag": "{{range .}}"}, "there are the fields"),
        ({"tag": "x" * 5000}, "longer than 4096"),
    ],
)
async def test_options_that_make_no_sense(create: Run, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await create("sleep", log_options=options)


async def test_there_is_nothing_to_describe_where_no_log_is(create: Run) -> None:
    with pytest.raises(InvalidInput, match="log that is not kept"):
        await create("sleep", log="none", log_options={"tag": "x"})


def test_what_changes_nothing_is_said() -> None:
    assert logoptions.warnings({"compress": "false", "mode": "blocking", "tag": "x"}) == []
    said = logoptions.warnings({"compress": "true", "mode": "non-blocking", "max-buffer-size": "1m"})
    assert [warning.split(":")[0] for warning in said] == [
        "log opt compress=true changes nothing",
        "log opt mode=non-blocking changes nothing",
        "log opt max-buffer-size=1m changes nothing",
    ]

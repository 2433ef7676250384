"""Configurations of CNI networks: which counts, what is in it, in which version it is spoken."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.network.cni import config

BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": {"type": "host-local"}}
LIST: dict[str, Any] = {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, {"type": "portmap"}]}


def written(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_first_by_name_counts_and_what_has_changed_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no such CNI network: .*put a \.conflist there"):
        config.first(tmp_path)
    with pytest.raises(NotFound):
        config.first(tmp_path / "nosuch")
    written(tmp_path, "20-a.conflist", {**LIST, "name": "twenty"})
    written(tmp_path, "README.txt", "no network")
    (tmp_path / "00.conf").mkdir()
    assert config.first(tmp_path).name == "twenty"
    written(tmp_path, "10-b.conf", {"cniVersion": "0.4.0", "name": "ten", **BRIDGE})
    there = config.first(tmp_path)
    assert (there.name, [plugin["type"] for plugin in there.plugins]) == ("ten", ["bridge"])
    written(tmp_path, "05-c.json", "{")
    with pytest.raises(InvalidInput, match=r"05-c\.json"):  # and not the next one
        config.first(tmp_path)


def test_plugins_that_others_have_added_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path, "10.conflist", LIST)
    for name in ("20-late.conf", "10-early.conf", "no.txt"):
        written(tmp_path / "pods", name, {"type": name.partition(".")[0]})
    assert [plugin["type"] for plugin in config.read(path).plugins] == ["bridge", "portmap", "10-early", "20-late"]
    written(tmp_path, "10.conflist", {**LIST, "loadOnlyInlinedPlugins": True})
    assert [plugin["type"] for plugin in config.read(path).plugins] == ["bridge", "portmap"]
    written(tmp_path, "10.conflist", {"cniVersion": "1.0.0", "name": "pods"})
    assert [plugin["type"] for plugin in config.read(path).plugins] == ["10-early", "20-late"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("[]", "cannot read"),
        ({**LIST, "name": "../x"}, r"its name '\.\./x' is none"),
        ({**LIST, "name": ""}, "its name '' is none"),
        ({**LIST, "plugins": []}, "it has no plugins"),
        ({**LIST, "plugins": [{"bridge": "x"}]}, "'None' is no type of a plugin"),
        ({**LIST, "plugins": [{"type": "../sh"}]}, r"'\.\./sh' is no type of a plugin"),
        ({**LIST, "plugins": [{"type": ".."}]}, "is no type of a plugin"),
        ({**LIST, "plugins": [{"type": "a", "capabilities": ["mac"]}]}, "capabilities of a are no object"),
        ({**LIST, "plugins": [{"type": "a"}] * 33}, "more than 32 plugins"),
        ({**LIST, "disableCheck": "perhaps"}, "cannot read"),
    ],
)
def test_what_is_no_network_is_refused_by_its_file(tmp_path: Path, document: object, why: str) -> None:
    path = written(tmp_path, "10.conflist", document)
    with pytest.raises(InvalidInput, match=why) as caught:
        config.first(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("said", "spoken", "chosen"),
    [
        ({"cniVersion": "0.3.1"}, ["0.3.1", "1.0.0"], "0.3.1"),
        ({"cniVersion": "1.1.0"}, ["1.0.0", "1.1.0"], "1.1.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0"]}, ["0.4.0", "1.0.0", "1.1.0"], "1.1.0"),
        ({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0"]}, ["0.4.0", "1.0.0"], "1.0.0"),
        ({"cniVersions": ["0.4.0", "9.0.0"]}, ["0.4.0", "9.0.0"], "0.4.0"),
    ],
)
def test_the_newest_version_that_all_speak(said: dict[str, Any], spoken: list[str], chosen: str) -> None:
    document = json.dumps({"name": "pods", "plugins": [BRIDGE], **said}).encode()
    assert config.parse(document, Path("a.conflist")).chain({"bridge": spoken}).cni_version == chosen


@pytest.mark.parametrize(
    ("said", "spoken", "why"),
    [
        ({"cniVersion": "0.2.0"}, ["0.2.0"], "its cniVersion is 0.2.0: we speak 0.3.1 to 1.1.0"),
        ({}, ["1.0.0"], "its cniVersion is missing"),
        (
            {"cniVersion": "1.1.0"},
            ["0.4.0", "1.0.0"],
            "it is of CNI 1.1.0, and of its plugins bridge speaks 0.4.0",
        ),
    ],
)
def test_a_version_that_nobody_speaks_is_refused(said: dict[str, Any], spoken: list[str], why: str) -> None:
    document = json.dumps({"name": "pods", "plugins": [BRIDGE], **said}).encode()
    with pytest.raises(InvalidInput, match=why):
        config.parse(document, Path("a.conflist")).chain({"bridge": spoken})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([
        "name", "type", "plugins", "cniVersion", "cniVersions", "capabilities", "ipam", "disableGC", "x"]), inner),
)  # fmt: skip


@given(JSON | st.binary(max_size=200))
def test_whatever_is_written_there_is_a_network_or_refused(document: object) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    for name in ("a.conf", "a.conflist"):
        try:
            there = config.parse(data, Path("/nosuch") / name)
            there.chain({plugin["type"]: list(config.SPOKEN) for plugin in there.plugins})
        except HyperError as e:
            assert "/nosuch" in str(e)

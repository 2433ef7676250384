"""Go's templates as people use them with docker: {{.Field}}, {{json .}}, range, if, with, define, index, join …

A field that is not there is an error, as in docker; a key of a mapping that people fill (labels, ports) has no value.
Only dicts, lists, texts and numbers are looked into, never a Python object's attributes.
"""

from __future__ import annotations

from hypercontainer.hyperctl import functions
from hypercontainer.hyperctl.flags import UsageError
from hypercontainer.hyperctl.printf import MISSING, NO_LIST, Nothing, shown
from hypercontainer.lib import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Scope = dict[str, Any]

MAX_DEPTH = 50
BLOCKS = ("range", "if", "with", "define", "block")
PEOPLES = frozenset(  # mappings whose keys are anybody's
    (
        "Labels",
        "Ports",
        "PortBindings",
        "Networks",
        "Sysctls",
        "Tmpfs",
        "Volumes",
        "ExposedPorts",
        "Attributes",
        "Options",
    )
)
LISTS = frozenset(("Cmd", "Entrypoint"))  # null in a document when they are not there


class Node:
    """A piece of a template: text, an expression, or a block with its branches."""

    def __init__(self, kind: str, words: list[str], value: str = "") -> None:
        self.kind, self.words, self.text = kind, words, value
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class _Jump(Exception):
    """{{break}} or {{continue}}, on its way to its range."""


class GoTemplate:
    """Raises UsageError for a template that makes no sense, when made or when rendered."""

    def __init__(self, source: str) -> None:
        self._parts = _split(source)
        self._named: dict[str, list[Node]] = {}
        self._nodes, end = self._block(0)
        if end:
            raise UsageError(f"template: unexpected {{{{{end}}}}}", status=1)

    def render(self, document: Any) -> str:
        out: list[str] = []
        try:
            _Rendering(self._named, out).render(self._nodes, document, {"$": document})
        except _Jump as e:
            raise UsageError(f"template: {{{{{e}}}}} outside of a range", status=1) from None
        return "".join(out)

    def fields(self) -> set[str]:
        """The names after a dot; the dot itself where all of it is asked for."""
        words = (word for node in _all(self._nodes) for word in node.words)
        return {word[1:].split(".")[0] or "." for word in words if word.startswith(".")}

    def _block(self, depth: int) -> tuple[list[Node], str]:
        """The nodes up to {{end}} or {{else}}, and which of them it was ("" for the template's end)."""
        if depth > MAX_DEPTH:
            raise UsageError("template: nested too deep", status=1)
        nodes: list[Node] = []
        while self._parts:
            kind, value = self._parts.pop(0)
            words = _words(value) if kind == "action" else []
            if kind == "text":
                nodes.append(Node("text", [], value))
            elif words and words[0] in ("end", "else"):
                return nodes, " ".join(words)
            elif words and words[0] in BLOCKS:
                node = self._branches(Node(words[0], words[1:]), depth)
                if words[0] in ("define", "block"):
                    self._named[_name(words)] = node.body
                if words[0] == "block":
                    nodes.append(Node("template", words[1:]))
                elif words[0] != "define":
                    nodes.append(node)
            elif words and words[0] in ("template", "break", "continue"):
                nodes.append(Node(words[0], words[1:]))
            elif words:
                nodes.append(Node("print", words))
        return nodes, ""

    def _branches(self, node: Node, depth: int) -> Node:
        node.body, end = self._block(depth + 1)
        if end.startswith("else if "):
            nested = self._branches(Node("if", _words(end)[2:]), depth + 1)
            node.otherwise, end = [nested], "end"
        elif end == "else":
            node.otherwise, end = self._block(depth + 1)
        if end != "end":
            raise UsageError(f"template: {{{{{node.kind}}}}} without {{{{end}}}}", status=1)
        return node


def _all(nodes: list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _all(node.body)
        yield from _all(node.otherwise)


def _split(source: str) -> list[tuple[str, str]]:
    """Texts and actions; {{- and -}} take the space beside them."""
    parts: list[tuple[str, str]] = []
    trim = False
    while source:
        before, opened, rest = source.partition("{{")
        text = before.lstrip() if trim else before
        if rest.startswith("- "):
            text = text.rstrip()
        if text:
            parts.append(("text", text))
        if not opened:
            break
        action, closed, source = rest.partition("}}")
        if not closed:
            raise UsageError("template: {{ without }}", status=1)
        trim = action.endswith(" -")
        if not action.startswith("/*"):
            parts.append(("action", action.removeprefix("- ").removesuffix(" -").strip()))
    return parts


def _words(action: str) -> list[str]:
    """Cut an action into names, texts in quotes, and the signs ( ) | , := ."""
    words: list[str] = []
    i = 0
    while i < len(action):
        c = action[i]
        if c.isspace():
            i += 1
        elif c in "()|,":
            words.append(c)
            i += 1
        elif c in '"`':
            end = i + 1
            while end < len(action) and action[end] != c:
                end += 2 if c == '"' and action[end] == "\\" else 1
            if end >= len(action):
                raise UsageError(f"template: a text without its end in {{{{{action}}}}}", status=1)
            words.append(action[i : end + 1])
            i = end + 1
        else:
            end = i
            while end < len(action) and not action[end].isspace() and action[end] not in '()|,"`':
                end += 1
            words.append(action[i:end])
            i = end
    return words


def _name(words: list[str]) -> str:
    if len(words) < 2 or words[1][0] not in '"`':
        raise UsageError(f"template: {{{{{words[0]}}}}} wants a name in quotes", status=1)
    return _unquoted(words[1])


class _Rendering:
    """One walk through the nodes; `named` are the templates that others call."""

    def __init__(self, named: dict[str, list[Node]], out: list[str]) -> None:
        self._named, self._out, self._depth = named, out, 0

    def render(self, nodes: list[Node], dot: Any, scope: Scope) -> None:
        for node in nodes:
            if node.kind == "text":
                self._out.append(node.text)
            elif node.kind == "print":
                value = self._value(node.words, dot, scope)
                if value is not None:
                    self._out.append(value)
            elif node.kind == "range":
                self._range(node, dot, scope)
            elif node.kind == "template":
                self._call(node, dot, scope)
            elif node.kind in ("break", "continue"):
                raise _Jump(node.kind)
            else:
                self._choose(node, dot, scope)

    def _value(self, words: list[str], dot: Any, scope: Scope) -> str | None:
        """What an action prints; None for one that only sets a variable."""
        names, words = _assigned(words)
        if not names:
            return shown(Expression(words, dot, scope).value())
        if len(names) > 1:
            raise UsageError("template: too many names before :=", status=1)
        value = Expression(words, dot, scope).value()
        if names[0].endswith("="):
            _set(scope, names[0][:-1], value)
        else:
            scope[names[0]] = value
        return None

    def _choose(self, node: Node, dot: Any, scope: Scope) -> None:
        names, words = _assigned(node.words)
        value = Expression(words, dot, scope).value()
        inner = Variables(scope, {names[0]: value} if names else {})
        if functions.truth(value):
            self.render(node.body, value if node.kind == "with" else dot, inner)
        else:
            self.render(node.otherwise, dot, inner)

    def _call(self, node: Node, dot: Any, scope: Scope) -> None:
        name = _name(["template", *node.words])
        if name not in self._named:
            raise UsageError(f"template: {name!r} is not defined", status=1)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UsageError("template: nested too deep", status=1)
        value = Expression(node.words[1:], dot, scope).value() if node.words[1:] else MISSING
        self.render(self._named[name], value, {"$": value})
        self._depth -= 1

    def _range(self, node: Node, dot: Any, scope: Scope) -> None:
        names, words = _assigned(node.words)
        pairs = _pairs(Expression(words, dot, scope).value())
        for key, item in pairs:
            inner = Variables(scope, dict(zip(reversed(names), (item, key), strict=False)))
            try:
                self.render(node.body, item, inner)
            except _Jump as e:
                if str(e) == "break":
                    break
        if not pairs:
            self.render(node.otherwise, dot, Variables(scope, {}))


def _assigned(words: list[str]) -> tuple[list[str], list[str]]:
    """The names before := (or one before =, with the sign), and what follows."""
    if ":=" in words[1:4]:
        at = words.index(":=")
        return [word for word in words[:at] if word != ","], words[at + 1 :]
    if words[1:2] == ["="]:
        return [f"{words[0]}="], words[2:]
    return [], words


class Variables(dict[str, "Any"]):
    """The variables of a block: those outside are seen, and set by =, but not made."""

    def __init__(self, outer: Scope, own: Scope) -> None:
        super().__init__({**outer, **own})
        self.outer, self.own = outer, set(own)

    def __setitem__(self, name: str, value: Any) -> None:
        self.own.add(name)
        super().__setitem__(name, value)


def _set(scope: Scope, name: str, value: Any) -> None:
    if name not in scope:
        raise UsageError(f"template: undefined variable {name}", status=1)
    dict.__setitem__(scope, name, value)
    if isinstance(scope, Variables) and name not in scope.own:
        _set(scope.outer, name, value)


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """What range walks through."""
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, list) or value is None or isinstance(value, Nothing):
        return [*enumerate(value)] if isinstance(value, list) else []
    raise UsageError(f"template: range over {shown(value)[:40]!r}, which is no list", status=1)


class Expression:
    """Evaluates the words of one action: a pipeline of calls and values."""

    def __init__(self, words: list[str], dot: Any, scope: Scope) -> None:
        self._words, self._dot, self._scope = list(words), dot, scope

    def value(self) -> Any:
        value = self._pipeline(0)
        if self._words:
            raise UsageError(f"template: unexpected {self._words[0]}", status=1)
        return value

    def _pipeline(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise UsageError("template: nested too deep", status=1)
        value = self._command(depth, [])
        while self._words and self._words[0] == "|":
            self._words.pop(0)
            value = self._command(depth, [value])
        return value

    def _command(self, depth: int, piped: list[Any]) -> Any:
        if not self._words:
            raise UsageError("template: something is missing in {{ }}", status=1)
        if self._words[0] in functions.TABLE:
            name = self._words.pop(0)
            arguments = []
            while self._words and self._words[0] not in ("|", ")"):
                arguments.append(self._operand(depth))
            return functions.call(name, [*arguments, *piped])
        word = self._words[0]
        value = self._operand(depth)
        if callable(value):  # {{.Label "k"}}
            arguments = []
            while self._words and self._words[0] not in ("|", ")"):
                arguments.append(self._operand(depth))
            return functions.apply(word, value, [*arguments, *piped])
        if piped:
            raise UsageError(f"template: {word!r} is no function", status=1)
        return value

    def _operand(self, depth: int) -> Any:
        word = self._words.pop(0)
        if word == "(":
            value = self._pipeline(depth + 1)
            if not self._words or self._words.pop(0) != ")":
                raise UsageError("template: ( without )", status=1)
            if self._words and self._words[0].startswith(".") and len(self._words[0]) > 1:
                return _field(value, self._words.pop(0))
            return value
        if word.startswith("."):
            return _field(self._dot, word)
        if word.startswith("$"):
            name, _, path = word.partition(".")
            if name not in self._scope:
                raise UsageError(f"template: undefined variable {name}", status=1)
            return _field(self._scope[name], f".{path}")
        if word[0] in '"`':
            return _unquoted(word)
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[word]
        if word[0].isdecimal() or word[0] in "+-":
            return _number(word)
        raise UsageError(f"template: {word!r} is neither a field (.{word}) nor a function", status=1)


def _unquoted(word: str) -> str:
    if word.startswith("`"):
        return word[1:-1]
    try:
        return str(fastjson.loads(word))
    except ValueError as e:
        raise UsageError(f"template: {word} is not a text", status=1) from e


def _number(word: str) -> int | float:
    try:
        return int(word, 0) if len(word) < 40 else float(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError as e:
        raise UsageError(f"template: {word!r} is no number", status=1) from e


def _field(value: Any, path: str) -> Any:
    parent = ""
    for name in path.split(".")[1:]:
        if not name:
            continue
        if not isinstance(value, dict):
            raise UsageError(f"template: cannot look up .{name} in {shown(value)[:40]!r}", status=1)
        key = name if name in value else _as_go_spells(value, name)
        if key in value:
            value = value[key]
            value = NO_LIST if value is None and key in LISTS else value
        elif parent in PEOPLES:
            value = MISSING
        else:
            raise UsageError(
                f"template: there is no field .{name}: use one of .{', .'.join(key for key in value)}", status=1
            )
        parent = key
    return value


def _as_go_spells(value: dict[str, Any], name: str) -> str:
    """The key of a document that is `name` in Go's spelling: .ID for Id, .NanoCPUs for NanoCpus, .Status for status."""
    if not name[:1].isupper():
        return name
    return next((key for key in value if key.lower() == name.lower()), name)

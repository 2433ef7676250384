"""The part of Go's templates that people use with docker: {{.Field}}, {{json .}}, range, if, with, index, join …

Only dicts, lists, texts and numbers are looked into, never a Python object's attributes.
"""

from __future__ import annotations

from hypercontainer.client import fastjson
from hypercontainer.hyperctl import functions
from hypercontainer.hyperctl.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Scope = dict[str, Any]

MAX_DEPTH = 50
MISSING = functions.MISSING


class Node:
    """A piece of a template: text, an expression, or a block with its branches."""

    def __init__(self, kind: str, words: list[str], value: str = "") -> None:
        self.kind, self.words, self.text = kind, words, value
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class Template:
    """Raises UsageError for a template that makes no sense, when made or when rendered."""

    def __init__(self, source: str) -> None:
        self._parts = _split(source)
        self._nodes, end = self._block(0)
        if end:
            raise UsageError(f"template: unexpected {{{{{end}}}}}", status=1)

    def render(self, document: Any) -> str:
        out: list[str] = []
        _render(self._nodes, document, {"$": document}, out)
        return "".join(out)

    def fields(self) -> set[str]:
        """The names after a dot."""
        return {word[1:].split(".")[0] for node in _all(self._nodes) for word in node.words if word.startswith(".")}

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
            elif words and words[0] in ("range", "if", "with"):
                nodes.append(self._branches(Node(words[0], words[1:]), depth))
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


def _render(nodes: list[Node], dot: Any, scope: Scope, out: list[str]) -> None:
    for node in nodes:
        if node.kind == "text":
            out.append(node.text)
        elif node.kind == "print":
            if len(node.words) > 1 and node.words[1] == ":=":
                scope[node.words[0]] = Expression(node.words[2:], dot, scope).value()
            else:
                out.append(functions.shown(Expression(node.words, dot, scope).value()))
        elif node.kind == "range":
            _range(node, dot, scope, out)
        else:
            value = Expression(node.words, dot, scope).value()
            inner = value if node.kind == "with" else dot
            if functions.truth(value):
                _render(node.body, inner, dict(scope), out)
            else:
                _render(node.otherwise, dot, dict(scope), out)


def _range(node: Node, dot: Any, scope: Scope, out: list[str]) -> None:
    names: list[str] = []
    words = node.words
    if ":=" in words:
        at = words.index(":=")
        names, words = [word for word in words[:at] if word != ","], words[at + 1 :]
    value = Expression(words, dot, scope).value()
    if isinstance(value, dict):
        pairs: list[tuple[Any, Any]] = sorted(value.items())
    elif isinstance(value, list) or value is None or value is MISSING:
        pairs = list(enumerate(value if isinstance(value, list) else ()))
    else:
        raise UsageError(f"template: range over {functions.shown(value)[:40]!r}, which is no list", status=1)
    for key, item in pairs:
        inner = dict(scope)
        if names:
            inner[names[-1]] = item
        if len(names) > 1:
            inner[names[0]] = key
        _render(node.body, item, inner, out)
    if not pairs:
        _render(node.otherwise, dot, dict(scope), out)


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
        if piped:
            raise UsageError(f"template: {self._words[0]!r} is no function", status=1)
        return self._operand(depth)

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
        if word.removeprefix("-").isdecimal():
            return int(word)
        raise UsageError(f"template: {word!r} is neither a field (.{word}) nor a function", status=1)


def _unquoted(word: str) -> str:
    if word.startswith("`"):
        return word[1:-1]
    try:
        return str(fastjson.loads(word))
    except ValueError as e:
        raise UsageError(f"template: {word} is not a text", status=1) from e


def _field(value: Any, path: str) -> Any:
    for name in path.split(".")[1:]:
        if not name:
            continue
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif value is MISSING or value is None:
            return MISSING
        else:
            raise UsageError(f"template: cannot look up .{name} in {functions.shown(value)[:40]!r}", status=1)
    return value

"""hyperctl completion SHELL, and the hidden __complete that its scripts ask.

A script knows nothing: on TAB it hands the words to `hyperctl __complete`, which reads the command table and asks
hyperd for names. That takes about 15 ms, and is never out of date.
"""

from __future__ import annotations

from hypercontainer.hyperctl import commands
from hypercontainer.hyperctl.context import Context
from hypercontainer.hyperctl.flags import BOOL, Args, Command, Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BASH = r"""# bash completion of hyperctl; load it with: source <(hyperctl completion bash)
_hyperctl() {
    local candidate cur=${COMP_WORDS[COMP_CWORD]} cword=$COMP_CWORD words=("${COMP_WORDS[@]}")
    # bash cuts busybox:latest at the colon; bash-completion, where it is loaded, puts it together again
    declare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n := cur words cword
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n $candidate ]] && COMPREPLY+=("${candidate%%$'\t'*}")
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]:1:cword}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
        compopt -o default
    fi
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
    return 0
}
complete -F _hyperctl hyperctl
"""
ZSH = r"""#compdef hyperctl
# zsh completion of hyperctl; load it with: source <(hyperctl completion zsh)
_hyperctl() {
    local -a candidates
    local line
    while IFS= read -r line; do
        [[ -n $line ]] && candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe hyperctl candidates
    else
        _files
    fi
}
(( ${+functions[compdef]} )) && compdef _hyperctl hyperctl
"""
FISH = r"""# fish completion of hyperctl; load it with: hyperctl completion fish | source
function __hyperctl_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete -- $words[2..-1] 2>/dev/null
end
function __hyperctl_has_candidates
    test (count (__hyperctl_complete)) -gt 0
end
complete -c hyperctl -n __hyperctl_has_candidates -f -a '(__hyperctl_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

Candidate = tuple[str, str]


def completion(context: Context, args: Args) -> int:
    shell = args.operands[0]
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for {shell!r}: use one of {', '.join(SCRIPTS)}", "completion", status=1)
    print(SCRIPTS[shell], end="")
    return 0


def complete(context: Context, args: Args) -> int:
    """Print what the last of the words could be, one a line, a description after a tab."""
    words = args.operands or [""]
    if len(words) > 2 and words[0] in ("-H", "--host"):
        context, words = Context(words[1].removeprefix("unix://")), words[2:]
    last = words[-1]
    try:
        found = [item for item in candidates(context, words) if item[0].startswith(last)]
    except UsageError:
        return 0
    for word, description in dict(found).items():
        print(f"{word}\t{description}" if description else word)
    return 0


def candidates(context: Context, words: list[str]) -> Iterable[Candidate]:
    if len(words) == 1:
        return [*_plain_commands(), *commands.GROUPS.items()]
    if len(words) == 2 and words[0] in commands.GROUPS:
        group = f"{words[0]} "
        return [(n.removeprefix(group), e.summary) for n, e in commands.COMMANDS.items() if n.startswith(group)]
    name, rest = commands.find(words)
    return _of_command(context, commands.load(name), name, rest)


def _plain_commands() -> list[Candidate]:
    plain = [name for name in commands.COMMANDS if " " not in name and not name.startswith("_")]
    return [(name, commands.COMMANDS[name].summary) for name in plain]


def _of_command(context: Context, command: Command, name: str, words: list[str]) -> Iterable[Candidate]:
    before, last = words[:-1], words[-1] if words else ""
    operands, waiting = _operands(command, before)
    if waiting:
        return _values(context, waiting.words)
    if last.startswith("-") and not (command.in_order and operands):
        return [(f"--{flag.name}", flag.help) for flag in command.flags] + [("--help", "Show help")]
    if name.endswith("completion"):
        return [(shell, "") for shell in SCRIPTS] if not operands else []
    if command.in_order and operands:
        return []
    if command.most is not None and operands >= command.most:
        return []
    return _values(context, command.objects)


def _operands(command: Command, words: list[str]) -> tuple[int, Flag | None]:
    """How many operands `words` hold, and the flag that waits for its value."""
    operands, waiting = 0, None
    for word in words:
        if waiting:
            waiting = None
        elif word.startswith("-") and word != "-" and not (command.in_order and operands):
            waiting = _waits(command, word)
        else:
            operands += 1
    return operands, waiting


def _waits(command: Command, word: str) -> Flag | None:
    """The flag at the end of `word` whose value is the next word."""
    if word.startswith("--"):
        flag = next((f for f in command.flags if f"--{f.name}" == word), None)
        return flag if flag and flag.kind != BOOL else None
    for i, letter in enumerate(word[1:], 2):
        flag = next((f for f in command.flags if f.short == letter), None)
        if flag and flag.kind != BOOL:
            return flag if i == len(word) else None
    return None


LISTS = {
    "containers": ("/v1/containers", {"all": True}),
    "running": ("/v1/containers", {}),
    "stopped": ("/v1/containers", {"all": True, "filter": ["status=created", "status=exited"]}),
    "pods": ("/v1/pods", {"all": True}),
    "images": ("/v1/images", {}),
    "volumes": ("/v1/volumes", {}),
    "networks": ("/v1/networks", {}),
    "kernels": ("/v1/kernels", {}),
}


def _values(context: Context, words: Iterable[str] | str) -> list[Candidate]:
    """Names of a kind of object, or fixed words. A hyperd that does not answer has no names; none is started."""
    if not isinstance(words, str):
        return [(word, "") for word in words]
    if words not in LISTS:
        return []
    from hypercontainer.client.http import Client
    from hypercontainer.errors import HyperError

    where, query = LISTS[words]
    try:
        with Client(context.address) as client:
            documents = client.get(where, **query)  # type: ignore[arg-type]
    except HyperError:
        return []
    return [candidate for document in documents for candidate in _named(document)]


def _named(document: dict[str, object]) -> list[Candidate]:
    if isinstance(tags := document.get("RepoTags"), list):
        return [(str(tag), "") for tag in tags]
    if isinstance(names := document.get("Names"), list):
        return [(str(name).removeprefix("/"), str(document.get("Image", ""))) for name in names]
    return [(str(document.get("Name", "")), "")]


COMMANDS = {
    "completion": Command(completion, "bash|zsh|fish", "source <(hyperctl completion bash)", least=1, most=1),
    "__complete": Command(complete, "-- WORD...", "", most=None, in_order=True),
}

"""The states of a container: which follows which, and which verb each allows. Pure.

A container is in one of them in its record, and nowhere else: `ContainerRecord.move` changes it, `check` asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from hypercontainer.errors import WrongState

State = Literal["created", "running", "paused", "suspended", "restarting", "exited", "removing"]
Verb = Literal[
    "start",
    "stop",
    "kill",
    "restore",
    "remove",
    "pause",
    "unpause",
    "suspend",
    "checkpoint",
    "fork",
    "resume",
    "update",
    "attach to",
    "exec in",
    "resize",
    "measure",
    "list the processes of",
    "copy files of",
    "reopen the log of",
    "commit",
    "list the changes of",
    "export",
    "use",
    "join the network of",
]

# What may follow a state; itself may, always.
MOVES: Mapping[State, frozenset[State]] = {
    "created": frozenset({"running", "removing"}),
    "running": frozenset({"paused", "suspended", "exited"}),
    "paused": frozenset({"running", "exited"}),
    "suspended": frozenset({"running", "exited"}),
    "exited": frozenset({"running", "restarting", "removing"}),  # restarting: it is to start again by itself
    "restarting": frozenset({"running", "exited", "removing"}),
    "removing": frozenset({"exited"}),  # a hyperd before us did not come to its end: it is tried again
}


@dataclass(frozen=True)
class Rule:
    """The states in which a verb may be used. `hint` is what helps in another one, `hints` in those."""

    states: frozenset[State]
    hint: str = ""
    hints: Mapping[State, str] = field(default_factory=dict)


ALL = frozenset(get_args(State))
RUNS: frozenset[State] = frozenset({"running"})
IDLE: frozenset[State] = frozenset({"created", "exited", "restarting"})
SLEEPS = "resume it, or kill it (its disk stays)"
COPIED = Rule(RUNS, hints={"paused": "unpause it first"})
NEEDED = Rule(IDLE | RUNS, hints={"paused": "unpause it", "suspended": SLEEPS})

RULES: Mapping[Verb, Rule] = {
    "start": NEEDED,  # one that runs: nothing happens
    "stop": Rule(ALL - {"suspended"}, SLEEPS),  # one that does not run: nothing happens
    "kill": Rule(frozenset({"running", "paused"})),  # KILL ends one that is suspended, too
    "restore": Rule(IDLE, "stop it first, or restore it under another name"),
    "remove": Rule(IDLE, "stop it first, or use force", {"suspended": SLEEPS, "removing": ""}),
    "pause": Rule(RUNS),
    "unpause": Rule(frozenset({"paused"})),
    "suspend": COPIED,
    "checkpoint": COPIED,
    "fork": COPIED,
    "resume": Rule(frozenset({"suspended"}), "it was not suspended"),
    "update": Rule(ALL - {"removing"}),
    "attach to": Rule(frozenset({"running", "paused"}), "start it first"),
    "exec in": Rule(RUNS),
    "resize": Rule(RUNS),
    "measure": Rule(RUNS),
    "list the processes of": Rule(RUNS),
    "copy files of": NEEDED,
    "reopen the log of": Rule(frozenset({"running", "paused"})),
    "commit": NEEDED,
    "list the changes of": NEEDED,
    "export": NEEDED,
    "use": NEEDED,
    "join the network of": Rule(ALL - {"suspended", "removing"}, hints={"suspended": SLEEPS}),
}


def check(verb: Verb, name: str, state: State) -> None:
    """WrongState, with what helps, when the container `name` cannot be used so while it is `state`."""
    rule = RULES[verb]
    if state not in rule.states:
        raise WrongState(verb, name, state, rule.hints.get(state, rule.hint))

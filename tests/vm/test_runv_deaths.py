"""A death in the middle of each of runv's verbs; `python -m tests.vm.deaths` has all of them die in all, for as long as
one likes."""

import pytest

from tests.vm.cycles import cycles
from tests.vm.deaths import VERBS, VICTIMS, deaths


@pytest.mark.vm
@pytest.mark.timeout(1200)
def test_deaths_in_the_middle_of_verbs() -> None:
    with deaths(5) as run:
        for n, verb in enumerate(VERBS):
            for victim in (VICTIMS[n % len(VICTIMS)], VICTIMS[(n + 2) % len(VICTIMS)]):
                run.round(verb, victim)
        run.end()


@pytest.mark.vm
@pytest.mark.timeout(1200)
def test_containers_that_come_and_go_leave_nothing() -> None:
    with deaths(0) as run:
        cycles(run, 18)

"""Many at once."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.oci.reaper import finish
from tests.oci.runtime import Done, Runtime

MANY = 8


def test_many_runs_at_once(oci: Runtime) -> None:
    bundles = [oci.bundle("echo", str(n)) for n in range(MANY)]
    with ThreadPoolExecutor(MANY) as pool:
        done = list(pool.map(oci.run, bundles))
    assert done == [Done(0, f"{n}\n", "") for n in range(MANY)]


def test_many_execs_at_once(oci: Runtime) -> None:
    container = oci.start()
    with ThreadPoolExecutor(MANY) as pool:
        done = list(pool.map(lambda n: container.exec("sh", "-c", f"echo {n}; exit {n}"), range(MANY)))
    assert done == [Done(n, f"{n}\n", "") for n in range(MANY)]


def test_one_of_many_gets_an_id(oci: Runtime) -> None:
    id, bundles = oci.id(), [oci.bundle("sleep", "1000000") for _ in range(MANY)]
    for bundle in bundles:
        bundle.save()
    with ThreadPoolExecutor(MANY) as pool:
        done = list(pool.map(lambda bundle: oci.call("run", "--detach", "--bundle", bundle.folder, id), bundles))
    assert sorted(one.status for one in done) == [0] + [1] * (MANY - 1)
    assert oci.ok("list", "--quiet").out == f"{id}\n"


def test_many_deletes_of_one(oci: Runtime) -> None:
    container = oci.start()
    with ThreadPoolExecutor(MANY) as pool:
        done = list(pool.map(lambda _: oci.call("delete", "--force", container.id), range(MANY)))
    assert 0 in [one.status for one in done]
    assert container.wait() == 137
    oci.no("state", container.id)


def test_questions_while_it_comes_and_goes(oci: Runtime) -> None:
    bundle, id = oci.bundle("true"), oci.id()
    bundle.save()
    with ThreadPoolExecutor(2) as pool:
        runs = pool.submit(lambda: [oci.call("run", "--bundle", bundle.folder, id) for _ in range(5)])
        asked = 0
        while not runs.done():
            done = oci.call("state", id)
            assert done.status == 1 or json.loads(done.out)["id"] == id, done
            asked += 1
        assert [done.status for done in runs.result()] == [0] * 5
    assert asked


def test_a_list_while_others_come_and_go(oci: Runtime) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = pool.submit(lambda: [oci.run(oci.bundle("true")).status for _ in range(5)])
        while not runs.done():
            done = oci.call("list", "--quiet")
            assert done.status == 0, done
        assert runs.result() == [0] * 5


def test_signals_and_execs_to_one_that_ends(oci: Runtime) -> None:
    container = oci.start()
    processes = [oci.spawn("exec", container.id, "sleep", "1000000") for _ in range(MANY)]
    container.kill("KILL")
    assert container.wait() == 137
    assert all(finish(process) != 0 for process in processes)


def test_thirty_one_after_another(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    assert {oci.run(bundle) for _ in range(30)} == {Done(0, "ran\n", "")}

"""CPython's own tests of executors, made with ours.

They are classes of the package `test`, which many Pythons are installed without. Each is run as it
is, but for those in `LEFT_OUT`. With JSON, those that send what is no JSON are left out as well.
"""

from __future__ import annotations

import importlib
import time
import unittest
from contextlib import suppress

import pytest

from ddmq import Broker
from ddmq.hpc import Executor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:test"),
]
#: Where the classes are: from Python 3.12 on, and before.
HOMES = {
    "ExecutorTest": (
        "test.test_concurrent_futures.executor",
        "test.test_concurrent_futures",
    ),
    "WaitTests": (
        "test.test_concurrent_futures.test_wait",
        "test.test_concurrent_futures",
    ),
}
#: What is run, in 3.9 to 3.13.
TESTS = {
    "ExecutorTest": (
        "test_submit",
        "test_submit_keyword",
        "test_map",
        "test_map_exception",
        "test_map_timeout",
        "test_shutdown_race_issue12456",
        "test_no_stale_references",
        "test_free_reference",
    ),
    "WaitTests": (
        "test_20369",
        "test_first_completed",
        "test_first_completed_some_already_completed",
        "test_first_exception",
        "test_first_exception_some_already_complete",
        "test_first_exception_one_already_failed",
        "test_all_completed",
        "test_timeout",
    ),
}
LEFT_OUT = {
    "test_max_workers_negative": "ours has slots, not max_workers; slots=0 is a ValueError too",
}
#: They send what is no JSON, or want a tuple back.
NEED_PICKLES = {
    "test_submit_keyword": "a tuple comes back as a list",
    "test_map_exception": "a tuple comes back as a list",
    "test_no_stale_references": "a method of an object is no function of a module",
    "test_free_reference": "an object of a class is no JSON",
}
#: Their sleeps are short, and machines are loaded: one of so many runs must go well.
RUNS = 3
SLOTS = 4


def home_of(kind):
    for module in HOMES[kind]:
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
        except unittest.SkipTest as error:
            pytest.skip(f"CPython skips its tests: {error}")
    pytest.skip("this Python has no package `test` with tests of concurrent.futures")
    return None


@pytest.fixture(scope="module")
def executor_for(tmp_path_factory):
    """Return a function that returns an Executor; one for all tests that do not end it."""
    made = {}
    place = tmp_path_factory.mktemp("cpython")
    place.chmod(0o700)
    Broker(place / "mq", create=True).close()
    (place / "mq").chmod(0o700)

    def executor_for(serializer):
        executor = made.get(serializer)
        with suppress(RuntimeError):  # after its end
            if executor is not None and executor.submit(time.sleep, 0):
                return executor
        number = len(list(place.iterdir()))
        options = {"serializer": serializer, "results": place / f"results{number}"}
        if serializer == "json":
            homes = {home_of(kind).__name__ for kind in TESTS}
            options["allow"] = ["builtins", "time", *homes]
        executor = Executor(place / "mq", f"q{number}", slots=SLOTS, **options)
        # A worker that is started while they sleep makes none of their calls in time.
        list(executor.map(time.sleep, [0.1] * SLOTS))
        made[serializer] = executor
        return executor

    yield executor_for
    for executor in made.values():
        executor.shutdown()


@pytest.fixture
def run(executor_for):
    """Return a function that runs a test of a class of CPython's with an Executor."""

    class Ours:
        worker_count = SLOTS

        def setUp(self):
            self.executor = executor_for(self.serializer)

    def run(kind, name, serializer):
        tests = getattr(home_of(kind), kind)
        made = type(kind, (Ours, tests, unittest.TestCase), {"serializer": serializer})
        for _ in range(RUNS):
            result = unittest.TestResult()
            made(name).run(result)
            if result.skipped:
                pytest.skip(f"CPython skips it: {result.skipped[0][1]}")
            if result.wasSuccessful():
                return
        pytest.fail((result.errors + result.failures)[0][1])

    return run


CASES = [(kind, name) for kind, names in TESTS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_pickled_calls_do_as_those_of_python(run, kind, name):
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    run(kind, name, "cloudpickle")


@pytest.mark.parametrize(
    ("kind", "name"), [case for case in CASES if case[1] not in NEED_PICKLES]
)
def test_calls_as_json_do_as_those_of_python(run, kind, name):
    run(kind, name, "json")


@pytest.mark.parametrize("kind", TESTS)
def test_every_test_of_python_is_run_or_left_out_with_its_reason(kind):
    known = {name for name in dir(getattr(home_of(kind), kind)) if name[:5] == "test_"}
    assert known <= {*TESTS[kind], *LEFT_OUT}

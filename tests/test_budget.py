"""The budget of the slow tests: what is past it is named, and nothing that fails is hidden."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = """
import time

def test_first():
    now = time.monotonic
    time.monotonic = lambda: now() + {minutes} * 60  # as if it had taken so long

def test_second():
    assert False

def test_third():
    pass
"""


@pytest.fixture
def run(tmp_path: Path):
    def run(*words: str, minutes: int = 0, budget: str = "") -> tuple[int, str]:
        """Three tests, the first of which takes `minutes` and the second of which fails."""
        (tmp_path / "test_it.py").write_text(TESTS.format(minutes=minutes))
        bare = ("-p", "no:hypothesispytest", "-p", "no:jaxtyping", "-p", "no:cacheprovider")
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *bare, "-p", "tests.budget", "-q", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "FRISKET_SLOW_BUDGET": budget},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    return run


def test_what_is_past_the_budget_is_not_started_but_named(run) -> None:
    code, said = run("--budget-minutes", "30", minutes=31)
    assert code == 0
    assert "not reached within 30 minutes" in said
    assert "\ntest_it.py::test_second\ntest_it.py::test_third\n" in said
    assert "1 passed, 2 not reached in" in said.splitlines()[-1]


def test_a_test_that_fails_fails_the_run(run) -> None:
    code, said = run("--budget-minutes", "30", minutes=29)
    assert code == 1
    assert "1 failed, 2 passed in" in said.splitlines()[-1]


def test_workers_hand_tests_out_in_order_and_say_the_same(run) -> None:
    words = ("-n", "1", "--maxschedchunk", "1", "--budget-minutes", "30")
    code, said = run(*words, minutes=31)
    assert code == 0
    assert "\ntest_it.py::test_second\ntest_it.py::test_third\n" in said
    assert "1 passed, 2 not reached in" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("budget", "code", "said"),
    [
        ("0", 0, "3 not reached in"),
        ("-1", 4, "give 0 or more"),
        ("soon", 4, "FRISKET_SLOW_BUDGET is 'soon'; give minutes as a number"),
    ],
)
def test_the_environment_may_lower_it(run, budget: str, code: int, said: str) -> None:
    found, told = run("--budget-minutes", "30", budget=budget)
    assert found == code
    assert said in told


def test_the_environment_does_not_raise_it(run) -> None:
    assert "2 not reached in" in run("--budget-minutes", "30", minutes=31, budget="60")[1]

"""A pytest plugin: past a budget of minutes no test is started; those not reached are named."""

import math
import os
import time

import pytest

VARIABLE = "FRISKET_SLOW_BUDGET"  # minutes; it lowers what the option says
REASON = "not reached within the budget"
STATUS = "not reached"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--budget-minutes",
        type=float,
        default=math.inf,
        help=f"start no test after so many minutes ({VARIABLE} may lower it)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Budget(minutes_of(config)))


def minutes_of(config: pytest.Config) -> float:
    """The option, or what the environment says where that is less."""
    given = [config.getoption("--budget-minutes")]
    if said := os.environ.get(VARIABLE):
        try:
            given.append(float(said))
        except ValueError:
            raise pytest.UsageError(f"{VARIABLE} is {said!r}; give minutes as a number") from None
    if not all(minutes >= 0 for minutes in given):
        raise pytest.UsageError(f"the budget is {min(given)} minutes; give 0 or more")
    return min(given)


class Budget:
    """What is left of the time; each xdist worker has one of its own, which begins with it."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.end = time.monotonic() + 60 * minutes

    @pytest.hookimpl(tryfirst=True)  # before any fixture
    def pytest_runtest_setup(self) -> None:
        if time.monotonic() >= self.end:
            pytest.skip(REASON)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        if report.skipped and isinstance(report.longrepr, tuple) and REASON in report.longrepr[2]:
            return STATUS, "n", STATUS.upper()
        return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        left = terminalreporter.stats.get(STATUS, [])
        if left:
            terminalreporter.section(f"not reached within {self.minutes:g} minutes")
            for report in left:
                terminalreporter.write_line(report.nodeid)

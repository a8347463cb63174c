"""How far a command is: a bar where somebody watches a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)
from rich.text import Text

from frisket.cli.report.event_file import record_steps
from frisket.progress import Progress, spell_time

VALUES_SHOWN = ("loss", "inside", "outside")  # of a step's numbers; metrics.jsonl has all
PAUSE = 15.0  # seconds between two lines of a log
BAR = 20  # columns: with title, count and time it fits into 60


def format_values(values: Mapping[str, float]) -> str:
    """The numbers a reader follows, as `loss 0.703  inside 0.71  outside 1.02`."""
    return "  ".join(f"{name} {values[name]:.3g}" for name in VALUES_SHOWN if name in values)


class _Bars(RichProgress):
    """Bars, and under them the last numbers: a row of their own, so that 80 columns hold both."""

    numbers = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        if self.numbers:
            yield Text(self.numbers, overflow="ellipsis", no_wrap=True)


@dataclass(slots=True)
class ProgressLines:
    """Progress for logs, notebooks and pipes: a stage's first and last line, and some between.

    A line is due PAUSE seconds after the one before; `write` gets it, `clock` gives seconds.
    """

    write: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _began: dict[str, tuple[float, int]] = field(default_factory=dict)  # when, and at what count
    _written_at: dict[str, float] = field(default_factory=dict)
    _ended: dict[str, int] = field(default_factory=dict)  # stages whose last line was written

    def __call__(
        self, title: str, count: int, total: int, values: Mapping[str, float] | None = None
    ) -> None:
        """Hear of one step."""
        now = self.clock()
        new = title not in self._began
        if not new and count >= total and self._ended.get(title) == total:
            return
        if count >= total:
            self._ended[title] = total
        if new:
            self._began[title] = (now, count)
        if not new and count < total and now - self._written_at[title] < PAUSE:
            return
        self._written_at[title] = now
        parts = [f"{title}: {count} of {total}", self._estimate_left(title, count, total, now)]
        self.write(", ".join(filter(None, [*parts, format_values(values or {})])))

    def _estimate_left(self, title: str, count: int, total: int, now: float) -> str:
        began, first = self._began[title]
        if count >= total or count <= first or now <= began:
            return ""
        return f"{spell_time((now - began) / (count - first) * (total - count))} left"


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Progress]:
    """Something to call with (title, done, total, values), shown on stderr while inside.

    With --report it is told there as well.
    """
    with _show(console) as show:
        yield record_steps(show)


@contextmanager
def _show(console: Console | None) -> Iterator[Progress]:
    console = console or Console(stderr=True)
    if not console.is_terminal:

        def write(line: str) -> None:
            console.print(line, soft_wrap=True, highlight=False, markup=False)

        yield ProgressLines(write)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with _Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(
            title: str, count: int, total: int, values: Mapping[str, float] | None = None
        ) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total)
            bars.numbers = format_values(values or {})
            bars.update(tasks[title], completed=count, total=total)

        yield report

"""Which run is better at what, by how much, and whether that is beyond chance: in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from frisket.evaluation.bootstrap import Estimate, difference, estimate
from frisket.evaluation.measured import METRICS, Measured, Metric

# What is said of these needs a subject that was learnt: a LoRA that does nothing keeps all out.
NEEDS_LEARNING = frozenset({"moved/outside", "leak", "leak/features", "drift"})
SPELLED: Mapping[str, str] = {
    "gain/inside": "learnt more of the subject",
    "moved/outside": "moved less outside the mask",
    "leak": "lets less background through",
    "leak/features": "lets less background through, by features",
    "subject/features": "shows more of the subject, by features",
    "identity": "keeps the face better",
    "drift": "left the rest of the model more as it was",
}
MANY = 12  # pairs from which chance is told of
PairStanding = Literal["better", "alike", "open"]


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Two runs held against each other by one metric, pair by pair of clips, pictures or prompts.

    better: the whole 95 % interval of the difference lies on one side, `winner`'s. alike: it holds
    0. open: nothing can be said (too little was learnt, or there is no spread).
    """

    metric: str
    standing: PairStanding
    winner: str
    loser: str
    sentence: str
    difference: Estimate | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several runs measured alike come to: a line in words, and every pair behind it."""

    sentence: str
    pairs: tuple[PairComparison, ...]
    note: str = ""  # what a reader must know of so many intervals


def compare_runs(runs: Sequence[Measured]) -> Comparison:
    """Hold runs of one evaluation against each other; ValueError for fewer than two.

    The same clips, noise, prompts and seeds are a condition: values are compared in pairs. Nothing
    is said of a metric that one of two runs was not measured by.
    """
    if len(runs) < 2:
        raise ValueError("a comparison takes two runs or more")
    pairs = tuple(
        compare_pair(metric, run, other)
        for metric in METRICS
        if metric.better
        for run, other in combinations(runs, 2)
        if _is_paired(metric, run, other)
    )
    note = ""
    if len(pairs) >= MANY:
        note = (
            f"Each of the {len(pairs)} intervals is of 95 %: of so many, about"
            f" {max(1, round(len(pairs) * 0.05))} would leave 0 out by chance alone."
        )
    return Comparison(_summarise(runs, pairs), pairs, note)


def _is_paired(metric: Metric, run: Measured, other: Measured) -> bool:
    run_values, other_values = run.values.get(metric.key), other.values.get(metric.key)
    return (
        bool(run_values) and bool(other_values) and len(run_values or ()) == len(other_values or ())
    )


def compare_pair(metric: Metric, run: Measured, other: Measured) -> PairComparison:
    """Two runs by one metric that both were measured by, on as many values."""
    run_values, other_values = run.values[metric.key], other.values[metric.key]
    ahead, behind = (run, other) if _is_ahead(metric, run_values, other_values) else (other, run)
    interval = difference(ahead.values[metric.key], behind.values[metric.key])
    numbers = " against ".join(
        _spell_mean(estimate(entry.values[metric.key]), metric) for entry in (ahead, behind)
    )
    little = [entry.name for entry in (run, other) if not entry.enough()]
    if metric.key in NEEDS_LEARNING and little:
        sentence = (
            f"{metric.title}: {numbers}, and nothing is said of it: too little was learnt by"
            f" {' and '.join(little)}."
        )
        return PairComparison(metric.key, "open", ahead.name, behind.name, sentence, interval)
    if interval.low is None or interval.high is None:
        sentence = f"{metric.title}: {numbers}, of one {metric.unit} alone: no spread."
        return PairComparison(metric.key, "open", ahead.name, behind.name, sentence, interval)
    if interval.above or interval.below:
        sentence = (
            f"{ahead.name} {SPELLED.get(metric.key, f'is better by {metric.title}')} than"
            f" {behind.name}: {numbers}, a difference of {_spell_interval(interval, metric)}."
        )
        return PairComparison(metric.key, "better", ahead.name, behind.name, sentence, interval)
    sentence = (
        f"{metric.title}: {ahead.name} and {behind.name} are not told apart ({numbers}, a"
        f" difference of {_spell_interval(interval, metric)})."
    )
    return PairComparison(metric.key, "alike", ahead.name, behind.name, sentence, interval)


def _is_ahead(metric: Metric, run_values: Sequence[float], other_values: Sequence[float]) -> bool:
    lower = estimate(run_values).mean <= estimate(other_values).mean
    return lower if metric.better == "low" else not lower


def _summarise(runs: Sequence[Measured], pairs: Sequence[PairComparison]) -> str:
    """One line: what each run is better at than all others, and what is not told apart."""
    sentences = [_spell_wins(run.name, pairs, len(runs) - 1) for run in runs]
    sentences += [
        _spell_rest(pairs, "alike", "Not told apart by"),
        _spell_rest(pairs, "open", "Nothing is said of"),
    ]
    little = [run.name for run in runs if not run.enough()]
    if little:
        sentences.append(f"Too little was learnt by {_join(little)} to tell what was kept out.")
    if not any(pair.standing == "better" for pair in pairs):
        sentences.insert(0, "No run is shown to be better than another.")
    return " ".join(sentence for sentence in sentences if sentence)


def _spell_wins(name: str, pairs: Sequence[PairComparison], other_count: int) -> str:
    """What a run is better at than all others, as a sentence; "" where nothing."""
    wins = [
        SPELLED.get(metric.key, f"is better by {metric.title}")
        for metric in METRICS
        if _is_best(name, metric.key, pairs, other_count)
    ]
    rest = "the other" if other_count == 1 else "all others"
    return f"{name} {_join(wins)} than {rest}." if wins else ""


def _spell_rest(pairs: Sequence[PairComparison], standing: PairStanding, words: str) -> str:
    """The metrics by which all pairs stand so, as a sentence; "" where none."""
    titles = [
        metric.title
        for metric in METRICS
        if (of_metric := [pair for pair in pairs if pair.metric == metric.key])
        and all(pair.standing == standing for pair in of_metric)
    ]
    return f"{words} {_join(titles)}." if titles else ""


def _is_best(name: str, metric: str, pairs: Sequence[PairComparison], other_count: int) -> bool:
    wins = [
        pair
        for pair in pairs
        if pair.metric == metric and pair.standing == "better" and pair.winner == name
    ]
    return len(wins) == other_count


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _spell_mean(value: Estimate, metric: Metric) -> str:
    return format(value.mean, metric.form)


def _spell_interval(value: Estimate, metric: Metric) -> str:
    """The size of a difference with its interval, the larger end last; percents are points."""
    low, high = value.low or 0.0, value.high or 0.0
    if value.mean < 0:
        low, high = -high, -low
    mean = abs(value.mean)
    if metric.form.endswith("%"):
        return f"{mean * 100:.0f} points ({low * 100:.0f} to {high * 100:.0f})"
    return f"{mean:{metric.form}} ({low:{metric.form}} to {high:{metric.form}})"


def read_measured(report: Mapping[str, Any]) -> list[Measured]:
    """The runs of a report.json as `frisket evaluate` writes it; ValueError for another file."""
    try:
        return [
            Measured(
                name=str(run["name"]),
                masked=bool(run["masked"]),
                errors={key: _read_numbers(values) for key, values in run["errors"].items()},
                values={
                    key: _read_numbers(metric["values"]) for key, metric in run["metrics"].items()
                },
                lacking={key: str(reason) for key, reason in report.get("lacking", {}).items()},
            )
            for run in report["runs"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no report of `frisket evaluate` ({error!r})") from error


def _read_numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

"""One line a beginner understands, and the claims behind it: no more than the numbers show."""

from collections.abc import Sequence
from dataclasses import dataclass

from frisket.evaluation.bootstrap import Estimate, Ratio, difference, estimate, ratio
from frisket.evaluation.measured import ALONE, GAINED, SEEN, Measured
from frisket.evaluation.page import Claim

LITTLE = 0.2  # leak up to which the background counts as kept out
CLEARLY = 2.0  # times less from which a mask "worked"; below, it "helped"
FLOOR = 0.01  # smallest leak, or gain outside, that a ratio is taken of


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence, and what was and was not shown; `held` is whether all of it was."""

    sentence: str
    claims: Sequence[Claim]

    @property
    def held(self) -> bool:
        """Whether every claim was shown."""
        return all(claim.met for claim in self.claims)


@dataclass(frozen=True, slots=True)
class _Background:
    """How the background is told of: by pictures where there are some, else by the error."""

    key: str
    lead: str
    tail: str
    form: str

    def of(self, *runs: Measured) -> str:
        """The numbers of one run, or of one against another."""
        told = " against ".join(self.interval(estimate(run.values[self.key])) for run in runs)
        return f"{self.lead} {told}{self.tail}"

    def interval(self, value: Estimate) -> str:
        """A mean and its interval."""
        mean = format(value.mean, self.form)
        if value.low is None or value.high is None:
            return f"{mean} (of one alone: no spread)"
        return f"{mean} ({value.low:{self.form}} to {value.high:{self.form}})"


PICTURES = _Background("leak", "a leak of", ", where 1 would be a copy", ".2f")
FEATURES = _Background("leak/features", "a leak of", ", where 1 would be a copy", ".2f")
ERRORS = _Background("gain/outside", "the error outside the mask fell by", "", ".0%")


def judge(runs: Sequence[Measured]) -> Verdict:
    """The verdict on one or several runs of one base; ValueError where there is none."""
    if not runs:
        raise ValueError("there is no run to judge")
    told = next(
        each for each in (PICTURES, FEATURES, ERRORS) if all(each.key in run.values for run in runs)
    )
    with_mask = [run for run in runs if run.masked]
    without = [run for run in runs if not run.masked]
    claims = [_learnt(run) for run in runs]
    if not with_mask:
        return Verdict(_bare(without[0], told), claims)
    if not without:
        claims += [_kept_out(run, told) for run in with_mask]
        sentence = _alone(with_mask[0], told)
    else:
        claims += [_less(run, without[0], told) for run in with_mask]
        sentence = _compared(with_mask[0], without[0], told)
    # One line is about one run; the claims are about all.
    return Verdict(f"{with_mask[0].name}: {sentence}" if len(with_mask) > 1 else sentence, claims)


def _learnt(run: Measured) -> Claim:
    gained = estimate(run.values["gain/inside"])
    least = f"under {ALONE:.0%} is too little to tell"
    if "changed" in run.values:
        moved = estimate(run.values["changed"]).mean
        least = (
            f"pictures changed by {moved:.2f} of what another seed changes; under {GAINED:.0%}, or"
            f" under {SEEN:g}, is too little to tell"
        )
    return Claim(
        f"{run.name} learnt the subject.",
        f"The error inside the mask is {_percent(gained)} smaller than the base's; {least}.",
        run.enough(),
    )


def _less(run: Measured, other: Measured, told: _Background) -> Claim:
    ours, theirs = run.values[told.key], other.values[told.key]
    times = _times(ratio(theirs, ours, floor=FLOOR))
    return Claim(
        f"{run.name}, with a mask, learnt less of the background than {other.name}, without.",
        _sentence(told.of(run, other) + (f": {times} less" if times else "") + _doubt(run)),
        run.enough() and difference(theirs, ours).above,
    )


def _kept_out(run: Measured, told: _Background) -> Claim:
    here = estimate(run.values[told.key])
    return Claim(
        f"{run.name} kept the background out.",
        _sentence(f"{told.of(run)}; up to {LITTLE:{told.form}} counts as kept out{_doubt(run)}"),
        run.enough() and here.high is not None and here.high <= LITTLE,
    )


def _doubt(run: Measured) -> str:
    return "" if run.enough() else "; but too little was learnt for this to say anything"


def _compared(run: Measured, other: Measured, told: _Background) -> str:
    ours, theirs = run.values[told.key], other.values[told.key]
    if not run.enough():
        return _too_little(run)
    if not estimate(theirs).above:
        return (
            f"Nothing can be said of the mask: even without it ({other.name}) no background was"
            f" shown to come along ({told.of(other)})." + _subject(run)
        )
    if not difference(theirs, ours).above:
        return (
            f"The mask was not shown to work: {run.name} and {other.name} learnt the background"
            f" alike as far as this can be told ({told.of(run, other)})." + _subject(run)
        )
    times = ratio(theirs, ours, floor=FLOOR)
    known = times.value or times.least
    how = "The mask worked" if known is not None and known >= CLEARLY else "The mask helped"
    much = f"{_times(times)} less".strip()
    return f"{how}: the background was learnt {much} than without." + _subject(run)


def _alone(run: Measured, told: _Background) -> str:
    here = estimate(run.values[told.key])
    if here.low is not None and here.low > LITTLE:
        said = f"The background came along in spite of the mask: {told.of(run)}."
    elif not run.enough():
        return _too_little(run)
    elif here.high is not None and here.high <= LITTLE:
        said = f"The background stayed out: {told.of(run)}."
    else:
        said = f"Whether the background stayed out cannot be told: {told.of(run)}."
    return (
        said
        + _subject(run)
        + " What of this is the mask's doing only a run without one would show."
    )


def _bare(run: Measured, told: _Background) -> str:
    here = estimate(run.values[told.key])
    if not here.above and not run.enough():
        return _too_little(run) + " No run here was trained with a mask."
    came = "The background came along" if here.above else "No background was shown to come along"
    return (
        f"{came} ({told.of(run)}), and no run here was trained with a mask."
        + _subject(run)
        + " Train one with masks and name both to see what a mask would change."
    )


def _too_little(run: Measured) -> str:
    gained = estimate(run.values["gain/inside"])
    grew = f"grew by {-gained.mean:.0%}" if gained.below else f"fell by {gained.mean:.0%}"
    seen = ""
    if "changed" in run.values:
        moved = estimate(run.values["changed"]).mean
        seen = f", and the pictures changed by {moved:.2f} of what another seed changes"
    return (
        f"Too little was learnt to tell: the error inside the mask {grew}{seen}. Nothing can be"
        " said of the background before the subject is learnt: train longer, or at a higher rate."
    )


def _subject(run: Measured) -> str:
    learnt = estimate(run.values["gain/inside"])
    if run.enough():
        return f" The subject was learnt: the error inside the mask fell by {learnt.mean:.0%}."
    if learnt.below:
        return f" The subject was not learnt: the error inside the mask grew by {-learnt.mean:.0%}."
    return (
        f" That the subject was learnt is not shown (the error inside the mask fell by"
        f" {learnt.mean:.0%}): train longer, or measure on more clips."
    )


def _times(times: Ratio) -> str:
    if times.value is not None:
        return _x(times.value)
    return f"at least {_x(times.least)}" if times.least is not None and times.least > 1 else ""


def _x(times: float) -> str:
    return f"{times:.{1 if times < 10 else 0}f}x"


def _percent(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:.0%} (one clip: no spread)"
    return f"{value.mean:.0%} ({value.low:.0%} to {value.high:.0%})"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."

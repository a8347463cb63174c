"""One line a beginner understands, and the claims behind it: no more than the numbers show."""

from collections.abc import Sequence
from dataclasses import dataclass

from frisket.evaluation.bootstrap import Estimate, Ratio, difference, estimate, ratio
from frisket.evaluation.measured import ALONE, GAINED, VISIBLE, Measured
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
        numbers = " against ".join(self.interval(estimate(run.values[self.key])) for run in runs)
        return f"{self.lead} {numbers}{self.tail}"

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
    background = next(
        candidate
        for candidate in (PICTURES, FEATURES, ERRORS)
        if all(candidate.key in run.values for run in runs)
    )
    with_mask = [run for run in runs if run.masked]
    without = [run for run in runs if not run.masked]
    claims = [_claim_learnt(run) for run in runs]
    if not with_mask:
        return Verdict(_judge_unmasked(without[0], background), claims)
    if not without:
        claims += [_claim_kept_out(run, background) for run in with_mask]
        sentence = _judge_masked(with_mask[0], background)
    else:
        claims += [_claim_less(run, without[0], background) for run in with_mask]
        sentence = _compare_runs(with_mask[0], without[0], background)
    # One line is about one run; the claims are about all.
    return Verdict(f"{with_mask[0].name}: {sentence}" if len(with_mask) > 1 else sentence, claims)


def _claim_learnt(run: Measured) -> Claim:
    gained = estimate(run.values["gain/inside"])
    least = f"under {ALONE:.0%} is too little to tell"
    if "changed" in run.values:
        moved = estimate(run.values["changed"]).mean
        least = (
            f"pictures changed by {moved:.2f} of what another seed changes; under {GAINED:.0%}, or"
            f" under {VISIBLE:g}, is too little to tell"
        )
    return Claim(
        f"{run.name} learnt the subject.",
        f"The error inside the mask is {_spell_percent(gained)} smaller than the base's; {least}.",
        run.enough(),
    )


def _claim_less(run: Measured, other: Measured, background: _Background) -> Claim:
    ours, theirs = run.values[background.key], other.values[background.key]
    times = _spell_times(ratio(theirs, ours, floor=FLOOR))
    return Claim(
        f"{run.name}, with a mask, learnt less of the background than {other.name}, without.",
        _make_sentence(
            background.of(run, other) + (f": {times} less" if times else "") + _add_doubt(run)
        ),
        run.enough() and difference(theirs, ours).above,
    )


def _claim_kept_out(run: Measured, background: _Background) -> Claim:
    interval = estimate(run.values[background.key])
    return Claim(
        f"{run.name} kept the background out.",
        _make_sentence(
            f"{background.of(run)}; up to {LITTLE:{background.form}} counts as kept out"
            f"{_add_doubt(run)}"
        ),
        run.enough() and interval.high is not None and interval.high <= LITTLE,
    )


def _add_doubt(run: Measured) -> str:
    return "" if run.enough() else "; but too little was learnt for this to say anything"


def _compare_runs(run: Measured, other: Measured, background: _Background) -> str:
    ours, theirs = run.values[background.key], other.values[background.key]
    if not run.enough():
        return _explain_too_little(run)
    if not estimate(theirs).above:
        return (
            f"Nothing can be said of the mask: even without it ({other.name}) no background was"
            f" shown to come along ({background.of(other)})." + _describe_subject(run)
        )
    if not difference(theirs, ours).above:
        return (
            f"The mask was not shown to work: {run.name} and {other.name} learnt the background"
            f" alike as far as this can be told ({background.of(run, other)})."
            + _describe_subject(run)
        )
    times = ratio(theirs, ours, floor=FLOOR)
    known = times.value or times.least
    how = "The mask worked" if known is not None and known >= CLEARLY else "The mask helped"
    much = f"{_spell_times(times)} less".strip()
    return f"{how}: the background was learnt {much} than without." + _describe_subject(run)


def _judge_masked(run: Measured, background: _Background) -> str:
    interval = estimate(run.values[background.key])
    if interval.low is not None and interval.low > LITTLE:
        message = f"The background came along in spite of the mask: {background.of(run)}."
    elif not run.enough():
        return _explain_too_little(run)
    elif interval.high is not None and interval.high <= LITTLE:
        message = f"The background stayed out: {background.of(run)}."
    else:
        message = f"Whether the background stayed out cannot be told: {background.of(run)}."
    return (
        message
        + _describe_subject(run)
        + " What of this is the mask's doing only a run without one would show."
    )


def _judge_unmasked(run: Measured, background: _Background) -> str:
    interval = estimate(run.values[background.key])
    if not interval.above and not run.enough():
        return _explain_too_little(run) + " No run here was trained with a mask."
    came = (
        "The background came along" if interval.above else "No background was shown to come along"
    )
    return (
        f"{came} ({background.of(run)}), and no run here was trained with a mask."
        + _describe_subject(run)
        + " Train one with masks and name both to see what a mask would change."
    )


def _explain_too_little(run: Measured) -> str:
    gained = estimate(run.values["gain/inside"])
    grew = f"grew by {-gained.mean:.0%}" if gained.below else f"fell by {gained.mean:.0%}"
    change = ""
    if "changed" in run.values:
        moved = estimate(run.values["changed"]).mean
        change = f", and the pictures changed by {moved:.2f} of what another seed changes"
    return (
        f"Too little was learnt to tell: the error inside the mask {grew}{change}. Nothing can be"
        " said of the background before the subject is learnt: train longer, or at a higher rate."
    )


def _describe_subject(run: Measured) -> str:
    learnt = estimate(run.values["gain/inside"])
    if run.enough():
        return f" The subject was learnt: the error inside the mask fell by {learnt.mean:.0%}."
    if learnt.below:
        return f" The subject was not learnt: the error inside the mask grew by {-learnt.mean:.0%}."
    return (
        f" That the subject was learnt is not shown (the error inside the mask fell by"
        f" {learnt.mean:.0%}): train longer, or measure on more clips."
    )


def _spell_times(times: Ratio) -> str:
    if times.value is not None:
        return _spell_factor(times.value)
    return (
        f"at least {_spell_factor(times.least)}"
        if times.least is not None and times.least > 1
        else ""
    )


def _spell_factor(times: float) -> str:
    return f"{times:.{1 if times < 10 else 0}f}x"


def _spell_percent(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.mean:.0%} (one clip: no spread)"
    return f"{value.mean:.0%} ({value.low:.0%} to {value.high:.0%})"


def _make_sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."

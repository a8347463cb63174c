"""What was measured of one trained run, under names that mean one thing each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from frisket.evaluation.bootstrap import Ratio, estimate, ratio

# How much must have been learnt before anything is said of what was kept out. A LoRA that does
# nothing leaks nothing, so an interval above 0 is not enough. Set on the pocket model, seed 1, on
# runs of 1 to 300 steps: at a rate of 1e-4 20 steps gain 7 % and change pictures by 0.08 (they are
# the base's by eye), 60 steps 22 % and 0.24 (they are not); docs/evaluate.md has the table.
VISIBLE = 0.15  # of `changed`, on average: less is not seen
GAINED = (
    0.02  # of `gain/inside`, beside pictures that changed: error of large models is mostly noise
)
ALONE = 0.1  # of `gain/inside`, where no picture was looked at

INSIDE = "inside"  # all that is taught: the regions of weight above 0
OUTSIDE = "outside"  # what no region covers
STILL = 1e-6  # mean squared distance under which a prediction is the same but for rounding

Unit = Literal["clip", "picture", "prompt", "training run"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the report; `form` is a format spec, values are one a `unit`."""

    key: str
    title: str
    unit: Unit
    better: Literal["low", "high", ""]
    form: str
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric(
        "gain/inside",
        "learnt inside",
        "clip",
        "high",
        ".0%",
        "How much smaller than the base's the error became inside the mask; 100% would be no error"
        " left, below 0 it grew.",
    ),
    Metric(
        "gain/outside",
        "learnt outside",
        "clip",
        "",
        ".0%",
        "The same outside the mask: what was learnt of backgrounds like those of the clips. Near 0"
        " is what a mask is for.",
    ),
    Metric(
        "moved/outside",
        "moved outside",
        "clip",
        "low",
        ".4f",
        "Mean squared distance of the prediction to the base's outside the mask, in the units of"
        " the error; it cannot cancel out, as gains and losses can.",
    ),
    Metric(
        "changed",
        "changed",
        "picture",
        "",
        ".2f",
        "How far pictures moved from the base's of the same prompt and seed: 0 the same picture, 1"
        " as different as another seed makes it.",
    ),
    Metric(
        "leak",
        "leak",
        "picture",
        "low",
        ".2f",
        "How much of the training backgrounds' colour and texture is on pictures whose prompt asks"
        " for none: 0 as the base paints, 1 as much as on the training pictures themselves.",
    ),
    Metric(
        "leak/features",
        "leak, features",
        "picture",
        "low",
        ".2f",
        "The same by the patches of the vision model in --features.",
    ),
    Metric(
        "subject/features",
        "subject, features",
        "picture",
        "high",
        ".2f",
        "How much of the training subjects is found again, by the patches of the vision model in"
        " --features: 0 as the base, 1 as on other training pictures.",
    ),
    Metric(
        "identity",
        "identity",
        "picture",
        "high",
        ".2f",
        "Cosine of the face with the mean training face, 0 for a picture without one; of several"
        " people, the mean over them.",
    ),
    Metric(
        "faces",
        "faces found",
        "picture",
        "",
        ".0%",
        "Share of the pictures that a face was found on, of several people the mean share.",
    ),
    Metric(
        "drift",
        "drift",
        "prompt",
        "low",
        ".4f",
        "How far the rest of the model moved: mean squared distance of the prediction to the"
        " base's for prompts that have nothing to do with the subject.",
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, or the base: values of each metric, one a clip, picture or prompt.

    `errors` are mean squared errors a clip: `base/<region>`, `tuned/<region>`, and `moved/<region>`
    for the distance between the two predictions; regions, `inside` and `outside`. A metric that
    could not be measured is left out, and `lacking` says why.
    """

    name: str
    masked: bool
    errors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)

    def enough(self) -> bool:
        """Whether enough was learnt to tell anything of what was kept out (see SEEN)."""
        values = self.values.get(f"gain/{INSIDE}")
        if not values or not estimate(values).above:
            return False
        changed = self.values.get("changed")
        if changed is None:
            return fmean(values) >= ALONE
        return fmean(values) >= GAINED and fmean(changed) >= VISIBLE

    def selectivity(self) -> Ratio | None:
        """Gain inside / movement outside, both in the units of the error; None without errors.

        The gain is the base's error minus the tuned model's. 1: the model moved outside as much as
        it improved inside; 10: ten times less. "At least" where it hardly moved outside. None too
        where too little was learnt: two small numbers make any ratio.
        """
        if not self.errors or not self.enough():
            return None
        gained = [
            base - tuned
            for base, tuned in zip(
                self.errors[f"base/{INSIDE}"], self.errors[f"tuned/{INSIDE}"], strict=True
            )
        ]
        return ratio(gained, self.errors[f"moved/{OUTSIDE}"], floor=STILL)


def compute_gains(errors: Mapping[str, Sequence[float]], region: str) -> list[float]:
    """Each clip's gain in a region as a share of the base's mean error there.

    Taken of the mean, not of the clip's own error: clips that were easy to begin with would count
    for more otherwise.
    """
    base, tuned = errors[f"base/{region}"], errors[f"tuned/{region}"]
    whole = max(fmean(base), STILL)
    return [(before - after) / whole for before, after in zip(base, tuned, strict=True)]

"""How sure a mask is, from what speaks for it: score, area, border, stability, agreement."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from frisket.maskgen.base import Detections, RgbPicture, SoftMask
from frisket.maskgen.cleanup.stages import Prompts, ReducedPipeline, SegmentationPipeline, planes_of
from frisket.maskgen.tracking.matching import iou, to_flags

TINY = 0.002  # share of the picture below which an area becomes implausible: 45 px square in 1 MP
NEARLY_ALL = 0.9  # ... and above which, as a region that is nearly everything leaves nothing out
HUGGED = 0.5  # share of the picture's border a plausible subject may touch: two sides of a square
SMALLER = 0.75  # size of the smaller picture
DOUBT = 0.25  # what an answer its own maker calls unsure is worth at most

_REASONS = {
    "score": "the backend is only {raw:.0%} sure of it",
    "area": "it covers {raw:.2%} of the picture",
    "border": "it touches {raw:.0%} of the picture's border",
    "mirrored": "the mirrored picture gave another mask (IoU {raw:.2f})",
    "smaller": "the picture at three quarters of its size gave another mask (IoU {raw:.2f})",
    "agreement": "the two sources gave different masks (IoU {raw:.2f})",
}


@dataclass(frozen=True, slots=True)
class Term:
    """One piece of evidence: what it is worth, in [0, 1], and the number it came from."""

    worth: float
    raw: float

    def __post_init__(self) -> None:
        if not 0 <= self.worth <= 1:
            raise ValueError(f"evidence is worth {self.worth}; it lies between 0 and 1")


@dataclass(frozen=True, slots=True)
class Stability:
    """IoU of a mask with the mask of the same picture shown otherwise, put back in place."""

    mirrored: float
    smaller: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one mask; None where nobody looked.

    The weakest evidence counts: terms fail for unlike reasons, so a good score outweighs no mask
    that falls apart when mirrored, and a mean would hide just the clips to look at.
    """

    score: Term | None = None
    area: Term | None = None
    border: Term | None = None
    mirrored: Term | None = None
    smaller: Term | None = None
    agreement: Term | None = None
    why: str = ""  # the backend's own word on its score

    @property
    def terms(self) -> dict[str, Term]:
        """Those that are known, by name."""
        by_name = {name: getattr(self, name) for name in _REASONS}
        return {name: term for name, term in by_name.items() if term is not None}

    @property
    def confidence(self) -> float:
        """The lowest worth, in [0, 1]; 0 where nothing is known."""
        return min((term.worth for term in self.terms.values()), default=0.0)

    @property
    def reason(self) -> str:
        """The weakest term in words."""
        terms = self.terms
        if not terms:
            return "nothing is known of it"
        name = min(terms, key=lambda name: terms[name].worth)
        if name == "score" and self.why:
            return self.why
        return _REASONS[name].format(raw=terms[name].raw)


@dataclass(frozen=True, slots=True)
class MaskConfidence:
    """How sure a picture or clip is: as its weakest region, in [0, 1], and why."""

    confidence: float
    reason: str
    region: str = ""  # the weakest, empty where the reason is of the whole picture


def assess(
    mask: SoftMask,
    *,
    score: float | None = None,
    threshold: float = 0.5,
    stability: Stability | None = None,
    other: SoftMask | None = None,
    why: str = "",
) -> Evidence:
    """The evidence for one region of one picture.

    `score` is the model's own, and `threshold` what its answers were cut at (`Backend.thresholds`):
    a find just at it is worth 0.5 whatever the model's scale. `other` is a second source's mask,
    `why` what the backend says of its score.
    """
    share = float(to_flags(mask).float().mean())
    touched = _measure_border(mask)

    def weigh(value: float | None) -> Term | None:
        return None if value is None else Term(value, value)

    return Evidence(
        score=None if score is None else Term(_scale_score(score, threshold), score),
        area=Term(_rate_area(share), share),
        border=Term(min((1 - touched) / (1 - HUGGED), 1.0), touched),
        mirrored=weigh(stability.mirrored if stability else None),
        smaller=weigh(stability.smaller if stability else None),
        agreement=weigh(None if other is None else iou(mask, other)),
        why=why,
    )


def judge(regions: Mapping[str, Evidence], doubt: str = "") -> MaskConfidence:
    """The weakest region speaks for the picture; 0 where there is none.

    An answer that says why it is not to be trusted is worth DOUBT at most.
    """
    if not regions:
        return MaskConfidence(0.0, doubt or "nothing was found")
    region = min(regions, key=lambda name: regions[name].confidence)
    weakest = regions[region]
    if doubt:
        return MaskConfidence(min(weakest.confidence, DOUBT), doubt)
    return MaskConfidence(weakest.confidence, weakest.reason, region)


def stability(
    pipeline: SegmentationPipeline,
    picture: RgbPicture,
    prompts: Prompts | None = None,
    detections: Detections | None = None,
) -> dict[str, Stability]:
    """How well each region's mask survives a mirrored and a 0.75 times smaller picture.

    `detections` is the answer for the picture itself, where it is known; else three are asked
    for. A region that only some of them have has IoU 0 with the others.
    """
    high, wide, _ = picture.shape
    request = [prompts or {}]
    smaller = ReducedPipeline(pipeline, max(round(SMALLER * max(high, wide)), 1))
    answers = (
        detections or pipeline([picture], request)[0],
        pipeline([picture.flip(1)], request)[0],
        smaller([picture], request)[0],
    )
    regions = list(
        dict.fromkeys(instance.region for answer in answers for instance in answer.instances)
    )
    upright, mirrored, small = (planes_of(answer, regions, high, wide) for answer in answers)
    return {
        name: Stability(iou(upright[name], mirrored[name].flip(1)), iou(upright[name], small[name]))
        for name in regions
    }


@dataclass(slots=True)
class RunningConfidence:
    """Confidence over the frames of a clip, one by one; what is kept does not grow with them."""

    frames: int = 0
    total: float = 0.0
    lowest: float = 1.0
    worst: int | None = None  # index of the lowest frame, the first of several
    reason: str = ""  # of that frame

    def add(self, evidence: MaskConfidence | Evidence) -> None:
        """Count the next frame; of several that are lowest the first is the worst."""
        if self.worst is None or evidence.confidence < self.lowest:
            self.lowest, self.worst, self.reason = evidence.confidence, self.frames, evidence.reason
        self.total += evidence.confidence
        self.frames += 1

    @property
    def mean(self) -> float:
        """Over the frames so far; 0 before the first."""
        return self.total / self.frames if self.frames else 0.0


def _scale_score(score: float, threshold: float) -> float:
    """A score with its threshold moved to 0.5, straight lines to 0 and 1 on either side."""
    if not 0 <= score <= 1:
        raise ValueError(f"a score is {score}; scores lie between 0 and 1")
    if score < threshold:
        return 0.5 * score / threshold
    return 0.5 + 0.5 * (score - threshold) / (1 - threshold) if threshold < 1 else 1.0


def _rate_area(share: float) -> float:
    return max(min(share / TINY, (1 - share) / (1 - NEARLY_ALL), 1.0), 0.0)


def _measure_border(mask: SoftMask) -> float:
    """Share of the picture's outermost pixels that belong."""
    flags = to_flags(mask)
    edge = torch.ones_like(flags)
    edge[1:-1, 1:-1] = False
    return float(flags[edge].float().mean())

"""How sure a mask is, from what speaks for it: score, area, border, stability, agreement."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from frisket.maskgen.base import Mask, Picture, Seen
from frisket.maskgen.cleanup.compose import Look, Reduced, Wanted, planes_of
from frisket.maskgen.tracking.matching import inside, iou

TINY = 0.002  # share of the picture below which an area becomes implausible: 45 px square in 1 MP
WHOLE = 0.9  # ... and above which, as a region that is nearly everything leaves nothing out
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
        named = {name: getattr(self, name) for name in _REASONS}
        return {name: term for name, term in named.items() if term is not None}

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
class Verdict:
    """How sure a picture or clip is: as its weakest region, in [0, 1], and why."""

    confidence: float
    reason: str
    region: str = ""  # the weakest, empty where the reason is of the whole picture


def assess(
    mask: Mask,
    *,
    score: float | None = None,
    threshold: float = 0.5,
    stability: Stability | None = None,
    other: Mask | None = None,
    why: str = "",
) -> Evidence:
    """The evidence for one region of one picture.

    `score` is the model's own, and `threshold` what its answers were cut at (`Backend.thresholds`):
    a find just at it is worth 0.5 whatever the model's scale. `other` is a second source's mask,
    `why` what the backend says of its score.
    """
    share = float(inside(mask).float().mean())
    touched = _touched(mask)

    def same(value: float | None) -> Term | None:
        return None if value is None else Term(value, value)

    return Evidence(
        score=None if score is None else Term(_scaled(score, threshold), score),
        area=Term(_plausible(share), share),
        border=Term(min((1 - touched) / (1 - HUGGED), 1.0), touched),
        mirrored=same(stability.mirrored if stability else None),
        smaller=same(stability.smaller if stability else None),
        agreement=same(None if other is None else iou(mask, other)),
        why=why,
    )


def verdict(regions: Mapping[str, Evidence], unsure: str = "") -> Verdict:
    """The weakest region speaks for the picture; 0 where there is none.

    An answer that says why it is not to be trusted is worth DOUBT at most.
    """
    if not regions:
        return Verdict(0.0, unsure or "nothing was found")
    region = min(regions, key=lambda name: regions[name].confidence)
    weakest = regions[region]
    if unsure:
        return Verdict(min(weakest.confidence, DOUBT), unsure)
    return Verdict(weakest.confidence, weakest.reason, region)


def stability(
    look: Look, picture: Picture, wanted: Wanted | None = None, seen: Seen | None = None
) -> dict[str, Stability]:
    """How well each region's mask survives a mirrored and a 0.75 times smaller picture.

    `seen` is the answer for the picture itself, where it is known; else three are asked for. A
    region that only some of them have has IoU 0 with the others.
    """
    high, wide, _ = picture.shape
    asked = [wanted or {}]
    smaller = Reduced(look, max(round(SMALLER * max(high, wide)), 1))
    answers = (
        seen or look([picture], asked)[0],
        look([picture.flip(1)], asked)[0],
        smaller([picture], asked)[0],
    )
    regions = list(dict.fromkeys(one.region for answer in answers for one in answer.instances))
    plain, mirrored, small = (planes_of(answer, regions, high, wide) for answer in answers)
    return {
        name: Stability(iou(plain[name], mirrored[name].flip(1)), iou(plain[name], small[name]))
        for name in regions
    }


@dataclass(slots=True)
class Running:
    """Confidence over the frames of a clip, one by one; what is kept does not grow with them."""

    frames: int = 0
    total: float = 0.0
    lowest: float = 1.0
    worst: int | None = None  # index of the lowest frame, the first of several
    reason: str = ""  # of that frame

    def add(self, found: Verdict | Evidence) -> None:
        """Count the next frame; of several that are lowest the first is the worst."""
        if self.worst is None or found.confidence < self.lowest:
            self.lowest, self.worst, self.reason = found.confidence, self.frames, found.reason
        self.total += found.confidence
        self.frames += 1

    @property
    def mean(self) -> float:
        """Over the frames so far; 0 before the first."""
        return self.total / self.frames if self.frames else 0.0


def _scaled(score: float, threshold: float) -> float:
    """A score with its threshold moved to 0.5, straight lines to 0 and 1 on either side."""
    if not 0 <= score <= 1:
        raise ValueError(f"a score is {score}; scores lie between 0 and 1")
    if score < threshold:
        return 0.5 * score / threshold
    return 0.5 + 0.5 * (score - threshold) / (1 - threshold) if threshold < 1 else 1.0


def _plausible(share: float) -> float:
    return max(min(share / TINY, (1 - share) / (1 - WHOLE), 1.0), 0.0)


def _touched(mask: Mask) -> float:
    """Share of the picture's outermost pixels that belong."""
    own = inside(mask)
    edge = torch.ones_like(own)
    edge[1:-1, 1:-1] = False
    return float(own[edge].float().mean())

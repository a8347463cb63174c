"""Masks unlike those of the rest of the set: far larger, far smaller, or the complement."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from frisket.inspection.findings import Finding

FEWEST = 8  # clips below which nothing is usual
FAR = 3.5  # robust standard deviations that make an outlier
NARROW = 0.35  # least spread in log odds: sets of equal masks still vary by a third
NORMAL = 1.4826  # from the median of absolute deviations to a standard deviation
EDGE = 0.6  # share of the border an inverted mask covers at least


def look_at_spread(
    shares: Mapping[str, float], borders: Mapping[str, float], region: str = ""
) -> Iterator[Finding]:
    """Outliers among the shares of the clip that one region covers: clip to share in (0, 1).

    Measured in log odds, so that 2 % among 20 % stands out like 80 %, against the median and the
    median absolute deviation (Iglewicz and Hoaglin 1993), which outliers hardly move. `borders` is
    the share of each picture's border that is covered: a mask that runs along it and whose
    complement would be usual looks inverted. Empty and full masks are left out; others tell those.
    """
    odds = {clip: _compute_odds(share) for clip, share in shares.items() if 0 < share < 1}
    if len(odds) < FEWEST:
        return
    middle = median(odds.values())
    spread = max(NORMAL * median(abs(log_odds - middle) for log_odds in odds.values()), NARROW)
    usual_range = _spell_range(list(shares.values()))
    subject = f"{region} covers" if region else "The mask covers"
    for clip, log_odds in odds.items():
        distance = (log_odds - middle) / spread
        # What an inverted mask leaves free is a subject: not along the border, but within it.
        border = borders.get(clip, 0.0)
        along_border = border >= EDGE and border > shares[clip]
        if along_border and _fits_complement(log_odds, middle, spread):
            yield Finding(
                "inverted",
                "warning",
                clip,
                f"{subject} {shares[clip]:.0%} of the clip and {borders[clip]:.0%} of its border,"
                f" where half of the set covers {usual_range}: it looks inverted.",
                "White teaches, black does not: invert this mask.",
            )
        elif abs(distance) > FAR:
            yield Finding(
                "unusual size",
                "warning",
                clip,
                f"{subject} {shares[clip]:.1%} of the clip, where half of the set covers"
                f" {usual_range}.",
                "Look whether the mask ran out over the background, or lost most of its subject.",
            )


def _compute_odds(share: float) -> float:
    return math.log(share / (1 - share))


def _fits_complement(log_odds: float, middle: float, spread: float) -> bool:
    """Whether the inverse of a mask would be more like the others than the mask is."""
    distance, inverse_distance = abs(log_odds - middle), abs(-log_odds - middle)
    return inverse_distance < 2.5 * spread and distance > max(2 * inverse_distance, 1.5 * spread)


def _spell_range(shares: Sequence[float]) -> str:
    ordered = sorted(shares)
    low, high = ordered[len(ordered) // 4], ordered[3 * len(ordered) // 4]
    return f"{low:.0%} to {high:.0%}"

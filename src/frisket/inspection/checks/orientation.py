"""Masks that lie mirrored, upside down, turned, inverted or a little beside their subject."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from frisket.inspection.alignment import (
    BY_QUARTERS,
    UPRIGHT,
    Alignment,
    Move,
    find_move,
    measure_reach,
    measure_turns,
)
from frisket.inspection.findings import Finding
from frisket.media.stills.orientation import DESCRIPTIONS

# Of the gains of a turn, from measurements on photographs (docs/inspect.md). Borders that follow
# hardly any edges wherever they lie (loose ovals on fur) say little: there colours have to agree.
EDGES, GAIN, SCORE = 0.14, 0.38, 0.2
FOLLOWS, COLOURS = 0.3, 0.5
# And those that follow edges nearly all along say the more: a portrait is much like its mirror.
ALL_ALONG, EDGES_THERE, GAIN_THERE = 0.4, 0.2, 0.3
# And where the clip's own EXIF turns it so: that is the likeliest of all mistakes.
EDGES_BY_EXIF, GAIN_BY_EXIF = 0.05, 0.1
CERTAIN_EDGES, CERTAIN_GAIN, CERTAIN_LEAD, CERTAIN_COLOURS = 0.4, 0.6, 0.25, 0.1
# Of a shift. A place that is nearly as good elsewhere is taken where it is a sharp one.
MOVED, ALONE, STRONG = 1.05, 1.3, 0.25
NEARLY_ALONE, SHARP = 1.05, 1.58
FAR_BETTER, RATHER_SHARP = 1.3, 1.45

STORED = (
    "The mask was most likely made on the picture as it is stored, by a tool that does not turn it"
)


def find_turn(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    *,
    orientation: int = UPRIGHT,
    quarters: bool = False,
) -> Alignment | None:
    """How the mask has to be turned to fit, None where it fits as it is or nothing can be told.

    `orientation` is the clip's own in EXIF. `quarters`: turns by 90 degrees are possible, as the
    clip is square.
    """
    alignments = measure_turns(picture, mask, quarters=quarters)
    by_exif = [
        alignment
        for alignment in alignments
        if alignment.orientation == orientation and _may_be(alignment)
    ]
    if by_exif:
        return by_exif[0]
    best = alignments[0] if alignments else None
    return best if best and _is_clear(best) else None


def _may_be(alignment: Alignment) -> bool:
    enough = alignment.edges >= EDGES_BY_EXIF and alignment.gain >= GAIN_BY_EXIF
    return enough and alignment.score >= SCORE


def _is_clear(alignment: Alignment) -> bool:
    if alignment.score >= ALL_ALONG and alignment.colours > 0:
        return alignment.edges >= EDGES_THERE and alignment.gain >= GAIN_THERE
    better = alignment.edges >= EDGES and alignment.gain >= GAIN and alignment.score >= SCORE
    return better and (alignment.score >= FOLLOWS or alignment.colours >= COLOURS)


def is_certain(
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    alignment: Alignment,
    *,
    orientation: int = UPRIGHT,
    quarters: bool = False,
) -> bool:
    """Whether a turn that was found may be made without asking."""
    if alignment.orientation == orientation != UPRIGHT:
        return alignment.edges >= EDGES and alignment.gain >= GAIN
    others = measure_turns(picture, mask, quarters=quarters)
    lead = alignment.gain - max(
        (other.gain for other in others if other.orientation != alignment.orientation), default=0.0
    )
    clear = alignment.edges >= CERTAIN_EDGES and alignment.gain >= CERTAIN_GAIN
    return clear and lead >= CERTAIN_LEAD and alignment.colours >= CERTAIN_COLOURS


def look_at_turns(
    clip: str,
    picture: UInt8[np.ndarray, "H W 3"],
    mask: Float[np.ndarray, "H W"],
    *,
    orientation: int = UPRIGHT,
    quarters: bool = False,
) -> Iterator[Finding]:
    """At most one finding: inverted, turned, or moved.

    Picture and mask (all regions of one frame) are of one size, best of 448 pixels or more.
    """
    if measure_reach(mask).inverted:
        yield _report_inverted(clip, mask)
        return
    alignment = find_turn(picture, mask, orientation=orientation, quarters=quarters)
    if alignment is not None:
        certain = is_certain(picture, mask, alignment, orientation=orientation, quarters=quarters)
        yield _report_turned(clip, alignment, orientation, certain=certain)
        return
    near = find_move(picture, mask)
    if near and _is_beside(near):
        yield _report_moved(clip, near.right, near.down, max(picture.shape[:2]))


def _is_beside(near: Move) -> bool:
    clear = near.sharp >= SHARP or (near.gain >= FAR_BETTER and near.sharp >= RATHER_SHARP)
    unique = near.alone >= ALONE or (near.alone >= NEARLY_ALONE and clear)
    return unique and near.steady and near.gain >= MOVED and near.score >= STRONG


def _report_inverted(clip: str, mask: Float[np.ndarray, "H W"]) -> Finding:
    reach = measure_reach(mask)
    sides = (reach.top + reach.bottom + reach.left + reach.right) / 4
    return Finding(
        "inverted",
        "warning",
        clip,
        f"The mask covers {sides:.0%} along the sides of the picture and {reach.centre:.0%} of its"
        " middle; what it leaves free looks like the subject.",
        "White teaches, black does not: set `invert = true` if yours are the other way round.",
    )


def _report_turned(clip: str, alignment: Alignment, orientation: int, *, certain: bool) -> Finding:
    by_exif = alignment.orientation == orientation
    reason = f"{STORED} (EXIF orientation {orientation})" if by_exif else "It does not fit as it is"
    how = DESCRIPTIONS[alignment.orientation]
    if alignment.orientation in BY_QUARTERS and not by_exif:
        how = f"{how} ({'counter-clockwise' if alignment.orientation == 8 else 'clockwise'})"
    mend = "`frisket inspect --fix` turns it" if certain else "Look at it on the page, and turn it"
    return Finding(
        "turned",
        "warning",
        clip,
        f"The mask fits its picture {_spell_gain(alignment)} when it is {how}. {reason}.",
        f"{mend}; or export the masks again from the upright pictures.",
    )


def _spell_gain(alignment: Alignment) -> str:
    return f"{np.exp(alignment.edges):.1f} times as well"


def _report_moved(clip: str, right: float, down: float, longer: int) -> Finding:
    across, lower = round(right * longer), round(down * longer)
    shifts = [
        f"{abs(across)} pixels to the {'right' if across > 0 else 'left'}" if across else "",
        f"{abs(lower)} {'down' if lower > 0 else 'up'}" if lower else "",
    ]
    return Finding(
        "misaligned",
        "warning",
        clip,
        f"The mask's border follows the picture better where it is moved"
        f" {' and '.join(filter(None, shifts))} (of {longer}), and nowhere else.",
        "Look whether picture or mask was cropped or resized without the other; export it again.",
    )

"""Whether face, hair and body lie to one another, and to the picture, as a person's do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from frisket.maskgen.draft.grabcut import CropWindow, PersonEstimate, Region

PersonParts = Mapping[str, Region]  # face, hair and body of one person

SIDE = 1.8  # faces to either side of the middle within which left and right are compared
GRID = 0.03  # faces between two columns that are compared
LIKE = 8.0  # squared deviations up to which a colour of the body is the hair's
LEAST = (12.0, 5.0, 5.0)  # deviations of Lab colours of one thing, at least
WEIGHTS = np.array([0.6, 1.0, 1.0])  # of L, a and b where colours are told apart
SKIN = np.array([0.3, 1.0, 1.0])  # the same between hair and skin: light varies more on a head
FEW, ENOUGH = 8, 30  # pixels a median, and a spread, is read from


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against one region of a person; `worth` is 1 for nothing, 0.5 at the limit."""

    worth: float
    message: str


@dataclass(frozen=True, slots=True)
class _Check:
    """A measure, the value up to which it says nothing, and that at which it is worth 0.5."""

    region: str
    measure: str
    fine: float
    limit: float
    message: str


# Limits were set by eye on one half of 73 photographs that have nothing to do with the method, and
# tried on the other half (docs/make-masks.md, "how good it is"). All lengths are in faces.
CHECKS = (
    _Check("body", "contact", 0.02, 0.12, "the outline runs out into the background"),
    _Check("body", "shoulders", 0.8, 0.585, "one shoulder is far wider than the other"),
    _Check("body", "beside body", 0.2, 0.45, "body lies beside the cheeks, where hair would be"),
    _Check("hair", "beside hair", 0.3, 0.55, "hair fills all of the space beside the cheeks"),
    _Check("face", "head", 0.75, 0.64, "the two halves of the head are unlike"),
    _Check("face", "face", 0.72, 0.6, "the face fills little of where a face was found"),
    _Check("hair", "hair", 0.25, 0.14, "there is hardly any hair: it may be lost in the ground"),
    _Check("hair", "crown", 0.45, 0.28, "the top of the head is missing"),
    _Check("hair", "wide hair", 0.0, 0.03, "hair reaches far to the side"),
    _Check(
        "hair", "skin", 35.0, 23.0, "hair has the colour of the face: bald, blond or a forehead"
    ),
    _Check("hair", "neck", 0.1, 0.3, "the neck is called hair"),
    _Check("hair", "long hair", 0.8, 0.95, "body beside the neck has the colour of the hair"),
    _Check("hair", "border", 0.5, 0.85, "hair runs along the border of the picture"),
)


def doubts_of(
    window: CropWindow, person: PersonEstimate, parts: PersonParts, width: int
) -> dict[str, Doubt]:
    """The strongest doubt about each region; `width` is the whole picture's, in pixels."""
    measures = _measure_outline(window, person, parts) | _measure_colours(window, parts)
    measures["border"] = _measure_border(window, parts["hair"], width)
    doubts: dict[str, Doubt] = {}
    for check in CHECKS:
        value = measures.get(check.measure, check.fine)
        beyond = (value - check.fine) / (check.limit - check.fine)
        worth = float(np.clip(1 - 0.5 * beyond, 0, 1))
        if worth < 1 and (check.region not in doubts or worth < doubts[check.region].worth):
            doubts[check.region] = Doubt(worth, check.message)
    return doubts


def _measure_outline(
    window: CropWindow, person: PersonEstimate, parts: PersonParts
) -> dict[str, float]:
    """Measures of shape alone."""
    x, y, face, hair = np.abs(window.x), window.y, parts["face"], parts["hair"]
    crown = _share(hair & (y < 0), (x < 0.5) & (y < -0.35) & (y > -0.85))
    throat = (x < 0.3) & (y > 0.6) & (y < 1.1)
    cheek_sides = (x > 0.5) & (x < 0.85) & (y > 0.2) & (y < 0.6)
    return {
        "contact": person.contact,
        "shoulders": _measure_symmetry(window, person.region, 0.85, 1.6),
        "head": _measure_symmetry(window, person.region, -1.0, 0.5),
        "face": _share(face, (x < 0.5) & (np.abs(y) < 0.5)),
        "hair": _share(hair, face),
        "crown": crown,
        "wide hair": _share(hair & (x > 0.85), hair),
        "neck": _share(hair & throat, throat),
        "beside body": _share(parts["body"] & cheek_sides, cheek_sides),
        "beside hair": _share(hair & cheek_sides, cheek_sides),
    }


def _measure_colours(window: CropWindow, parts: PersonParts) -> dict[str, float]:
    """Measures of colour; those that too few pixels speak for are left out."""
    x, y, hair = window.x, window.y, parts["hair"]
    lab = cv2.cvtColor(window.pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    cheeks = parts["face"] & (np.abs(x) < 0.3) & (y > -0.2) & (y < 0.3)
    top = hair & (y < 0.3)
    measures: dict[str, float] = {}
    if min(cheeks.sum(), top.sum()) >= FEW:
        difference = np.median(lab[top], axis=0) - np.median(lab[cheeks], axis=0)
        measures["skin"] = float(np.sqrt((difference**2) @ SKIN))
    sure_hair = hair & (y < 0.5)
    if sure_hair.sum() >= ENOUGH:
        middle = np.median(lab[sure_hair], axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(lab[sure_hair] - middle), axis=0), LEAST)
        like: NDArray[Any] = ((lab - middle) / spread) ** 2 @ WEIGHTS < LIKE
        falls = (np.abs(x) > 0.3) & (np.abs(x) < 1.1) & (y > 0.4) & (y < 1.3)
        measures["long hair"] = _share(parts["body"] & falls & like, parts["face"])
    return measures


def _measure_symmetry(window: CropWindow, region: Region, top: float, bottom: float) -> float:
    """IoU of a band with its mirror image about the face, as far as the picture has both sides."""
    across, down = window.x[0], window.y[:, 0]
    side = min(-float(across[0]), float(across[-1]), SIDE)
    rows = region[(down > top) & (down < bottom)]
    steps = np.arange(-side, side, GRID)
    right = np.clip(np.searchsorted(across, steps), 0, len(across) - 1)
    left = np.clip(np.searchsorted(across, -steps), 0, len(across) - 1)
    first, second = rows[:, right], rows[:, left]
    return (
        _share(first & second, first | second) if len(rows) > 2 and (first | second).any() else 1.0
    )


def _measure_border(window: CropWindow, hair: Region, width: int) -> float:
    """Length of the picture's upper and side borders that hair touches."""
    edge = np.zeros_like(hair)
    edge[0] = window.rows.start == 0
    edge[:, 0] |= window.columns.start == 0
    edge[:, -1] |= window.columns.stop == width
    return float((hair & edge).sum() * abs(window.x[0, 1] - window.x[0, 0]))


def _share(part: Region, total: Region) -> float:
    return float(part.sum() / max(total.sum(), 1))

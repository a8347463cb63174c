"""What looks wrong with a clip's masks, said in plain words with the fix; no model is asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.media.geometry import fits
from frisket.shapes import Plane

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

SMALL = 0.02  # of the clip; below it few cells set the whole loss
RULED = 0.9  # coverage of its best cell below which a thin region has no cell of its own
LOST = 0.5  # share of a region's pixels in cells it does not rule
RULES = 0.5  # coverage from which a region rules a cell
EDGE, MIDDLE = 8, 3  # the border is 1/8 of each side, the centre the middle third
INVERTED = (0.6, 0.2)  # border covered at least so much, centre at most so much
ENLARGED = 1.3
FAINT = 0.1  # the brightest value of a mask that was meant to be white
CUT_AWAY = 0.15  # share of a region lost to the crop that is worth a word


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at. `clip` is its name, or "" where the whole data set is meant."""

    kind: str  # one word or two, the same for all findings of a sort
    severity: Severity
    clip: str
    sentence: str
    fix: str


def sort_by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; kinds together, clips in their given order."""
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.kind))


def look_at_masks(
    clip: str,
    planes: Mapping[str, Plane],
    cells: Mapping[str, Float[Tensor, "f h w"]],
    grid: LatentGrid,
) -> list[Finding]:
    """Faults of one clip's masks: `planes` in pixels as trained, `cells` the same on the grid.

    Says when the regions are empty, full, tiny, seem inverted, or are lost at the latent grid.
    """
    findings = look_at_extent(clip, planes)
    if any(finding.kind in ("faint", "empty") for finding in findings):
        return findings
    return [
        *findings,
        *(
            finding
            for name, plane in planes.items()
            for finding in look_at_grid(clip, name, plane, cells[name], grid)
        ),
    ]


def look_at_extent(clip: str, planes: Mapping[str, Plane]) -> list[Finding]:
    """The same of how much the regions cover together, wherever the grid lies."""
    brightest = max((float(plane.max()) for plane in planes.values()), default=0.0)
    if 0 < brightest < FAINT:
        return [
            Finding(
                "faint",
                "warning",
                clip,
                f"The brightest value of the mask is {round(brightest * 255)} of 255, so that"
                f" nothing teaches by more than {brightest:.1%}.",
                "Save masks with 255 for white; `frisket inspect --fix` stretches those of 0 and"
                " 1, and label numbers are read by a `legend`.",
            )
        ]
    if brightest == 0:
        return [
            Finding(
                "empty",
                "warning",
                clip,
                "The mask is empty: no pixel belongs to any region, so the subject is not taught.",
                "Draw the subject white, check `levels` or `legend`, or remove the clip.",
            )
        ]
    total = torch.stack(list(planes.values())).sum(0).clamp(0, 1)
    return [*_check_extent(clip, total), *_check_inverted(clip, total)]


def _check_extent(clip: str, total: Tensor) -> Iterator[Finding]:
    share = float(total.mean())
    if float(total.min()) >= 1 - 1e-6:
        yield Finding(
            "full",
            "warning",
            clip,
            "The regions cover the whole clip: the mask keeps nothing out.",
            "Draw the background black, or remove the mask if the whole clip is meant.",
        )
    elif share < SMALL:
        yield Finding(
            "tiny",
            "warning",
            clip,
            f"All regions together cover {share:.2%} of the clip: a few cells set its whole loss.",
            'Crop closer to the subject, or set losses.normalise = "area".',
        )


def measure_border_and_centre(total: Plane) -> tuple[float, float]:
    """Share of the outer eighth and of the middle third that the regions cover."""
    _, height, width = total.shape
    top, left = max(height // EDGE, 1), max(width // EDGE, 1)
    inner = total[:, top : height - top, left : width - left]
    middle = total[
        :,
        height // MIDDLE : max(height - height // MIDDLE, 1),
        width // MIDDLE : max(width - width // MIDDLE, 1),
    ]
    rest = total.numel() - inner.numel()
    border = (float(total.double().sum()) - float(inner.double().sum())) / rest
    return border, float(middle.mean())


def _check_inverted(clip: str, total: Tensor) -> Iterator[Finding]:
    border, centre = measure_border_and_centre(total)
    if border >= INVERTED[0] and centre <= INVERTED[1]:
        yield Finding(
            "inverted",
            "warning",
            clip,
            f"The mask covers {border:.0%} of the border but {centre:.0%} of the centre: it looks"
            " inverted.",
            "White teaches, black does not: set `invert = true` if yours are the other way round.",
        )


def measure_surviving(
    plane: Plane, cells: Float[Tensor, "f h w"], grid: LatentGrid
) -> float | None:
    """Share of a region's pixels in latent cells that it rules; None where it has none."""
    inside = plane >= RULES
    count = int(inside.sum())
    if not count:
        return None
    ruled = cells >= RULES
    frames = torch.tensor([-(-frame // grid.temporal) for frame in range(len(plane))])
    side = grid.spatial
    tiles = inside.reshape(len(plane), cells.shape[1], side, cells.shape[2], side)
    return float((tiles.sum((2, 4)) * ruled[frames]).sum()) / count


def look_at_grid(
    clip: str, name: str, plane: Plane, cells: Tensor, grid: LatentGrid
) -> Iterator[Finding]:
    """Whether a region is thinner than the latent cells, or mostly lies in those of others."""
    share = measure_surviving(plane, cells, grid)
    if share is None:
        return
    best = float(cells.max())
    thin = best < RULED and _measure_thickness(plane) < grid.spatial
    if not thin and 1 - share <= LOST:
        return
    message = (
        f"{name} is thinner than a latent cell ({grid.spatial} pixels): {share:.0%} of it lies in"
        f" cells that are mostly its own, and of the best cell it has {best:.0%}."
        if thin
        else f"{1 - share:.0%} of {name} lies in latent cells that are mostly something else."
    )
    yield Finding(
        "lost at the grid",
        "warning",
        clip,
        message,
        'Set masks.reading = "max", grow the mask, or train at a larger resolution.',
    )


def _measure_thickness(plane: Plane) -> float:
    """Width in pixels of the widest place of a region, in the frame that shows most of it."""
    most = plane[int(plane.flatten(1).sum(1).argmax())] >= RULES
    padded = cv2.copyMakeBorder(most.numpy().astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()) - 1


def look_at_crop(
    clip: str, shares: Mapping[str, float], target: tuple[int, int]
) -> Iterator[Finding]:
    """Regions that the crop to (height, width) `target` cuts away; `shares`: the shares left."""
    for name, share in shares.items():
        if 1 - share >= CUT_AWAY:
            yield Finding(
                "cropped away",
                "warning",
                clip,
                f"{1 - share:.0%} of {name} lies outside the {_spell_size(target)} pixels that are"
                " trained on.",
                "Crop the clip (and its mask) around the subject; `buckets = true` keeps aspect"
                " ratios up to 1:4.",
            )


def look_at_sizes(
    clip: str,
    size: tuple[int, int],
    target: tuple[int, int],
    masks: Mapping[str, tuple[int, int]],
    stored: tuple[int, int] | None = None,
) -> list[Finding]:
    """Sizes that do not agree, all as (height, width): of the clip, trained at, of each mask.

    `stored` is the clip's before its pixels were made square: a mask may have that as well.
    """
    findings = []
    for path, mask in masks.items():
        if mask == stored:
            continue
        difference = abs(mask[1] / mask[0] / (size[1] / size[0]) - 1)
        if not fits(mask, size):
            findings.append(
                Finding(
                    "aspect",
                    "error",
                    clip,
                    f"{path} is {_spell_size(mask)} but the clip is {_spell_size(size)}: the"
                    f" aspect ratios differ by {difference:.1%}, so the mask cannot be laid on the"
                    " clip.",
                    "Export the mask at the clip's own size.",
                )
            )
        elif mask != size:
            findings.append(
                Finding(
                    "size",
                    "note",
                    clip,
                    f"{path} is {_spell_size(mask)}, the clip {_spell_size(size)}; it is resized"
                    " alike.",
                    "Nothing has to be done; a mask of the clip's own size has sharper borders.",
                )
            )
    scale = max(target[0] / size[0], target[1] / size[1])
    if scale >= ENLARGED:
        findings.append(
            Finding(
                "enlarged",
                "note",
                clip,
                f"The clip is {_spell_size(size)} and is enlarged {scale:.1f} times to"
                f" {_spell_size(target)}.",
                "Use a larger original, or a smaller `resolution`.",
            )
        )
    return findings


def _spell_size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"

"""What is lost of a mask on its way to the loss, in words with the fix; asked while it is painted.

A region **vanishes** where the mask shows it (some pixel of at least a half, as trained) and no
latent cell is mostly its own (best coverage below a half): then every cell it reaches teaches
mostly something else. It is the trainer's own count of thin regions (`data.mask_pipeline.Facts`).
A region is **drowned** where it weighs something, shows, and brings less than DROWNED of the loss.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from frisket.data.mask_pipeline import shape_planes
from frisket.data.records import Window
from frisket.inspection.findings import Severity, look_at_extent, look_at_grid
from frisket.inspection.lens.view import Lens, LossView, RegionView
from frisket.masks.weights import BACKGROUND
from frisket.shapes import CellPlane, FrameCells, Plane

INSIDE = 0.5  # a pixel, or a cell, is a region's from here on
DROWNED = 0.01  # share of the loss below which a region that weighs is hardly taught
CUT_AWAY = 0.15  # share of a region off the crop that is worth a word
ALL_OF_IT = 0.999  # ... and that is all of it

LossFaultKind = Literal[
    "vanishes", "thin", "drowned", "cropped away", "handed over", "taken", "silent", "shape", "mute"
]


@dataclass(frozen=True, slots=True)
class LossFault:
    """One thing that is lost; `region` is empty where the whole mask is meant."""

    kind: LossFaultKind
    severity: Severity
    region: str
    sentence: str
    fix: str


def list_faults(
    lens: Lens, window: Window, planes: Mapping[str, Plane], cells: FrameCells, view: LossView
) -> list[LossFault]:
    """Faults of the frame at hand, gravest first.

    `planes` have the mask's own size, 1 H W each; `cells` k 1 h w are its own, `view`
    is of the whole window.
    """
    shaped = shape_planes(planes, window)
    region_cells = {name: cells[lens.regions.index(name)] for name in shaped}
    brightest = {name: float(plane.max()) for name, plane in shaped.items()}
    visible_planes = {name: plane for name, plane in shaped.items() if brightest[name] >= INSIDE}
    faults = [
        *_check_window(lens, view),
        *_check_vanishing(lens, window, visible_planes, region_cells),
        *_check_crop(window, planes),
    ]
    lost_regions = {fault.region for fault in faults if fault.kind in ("vanishes", "cropped away")}
    left = [name for name in visible_planes if name not in lost_regions]
    faults += _check_drowned(view, left)
    faults += _check_extent(shaped, region_cells, max(brightest.values(), default=0.0))
    for name in left:
        for finding in look_at_grid("", name, visible_planes[name], region_cells[name], lens.grid):
            faults.append(LossFault("thin", finding.severity, name, finding.sentence, finding.fix))
    order = ("error", "warning", "note")
    return sorted(faults, key=lambda fault: order.index(fault.severity))


def _check_window(lens: Lens, view: LossView) -> Iterator[LossFault]:
    """What is said of the weights as a whole."""
    if lens.clipset.masking.source == "none":
        yield LossFault(
            *("mute", "warning", ""),
            "This configuration reads no masks: every cell of every clip teaches alike.",
            'Set `masks` of its [[data]] table, such as masks = "masks".',
        )
    if lens.clipset.masking.role == "condition":
        yield LossFault(
            *("mute", "note", ""),
            'With mask_role = "condition" the mask is shown to the model and weighs no loss.',
            'Set mask_role = "both" to weigh the loss too.',
        )
    if view.silent:
        yield LossFault(
            *("silent", "error", ""),
            "No cell has any weight: this clip teaches nothing.",
            "Paint a region that weighs something, or give one of those there a weight.",
        )
    if view.clean_frames:
        yield LossFault(
            *("handed over", "note", ""),
            f"{lens.variant} is handed the first latent frame clean: nothing there is taught.",
            "Nothing has to be done; paint what should be taught in later frames.",
        )
    if view.exclusive > 0:
        yield LossFault(
            *("taken", "note", ""),
            f"A loss term keeps {view.exclusive:.0%} of the weight for itself (prior, threshold).",
            "Nothing has to be done; raise the threshold of [losses.prior] to keep more.",
        )


def _check_vanishing(
    lens: Lens,
    window: Window,
    visible_planes: Mapping[str, Plane],
    region_cells: Mapping[str, CellPlane],
) -> Iterator[LossFault]:
    for name, plane in visible_planes.items():
        best = float(region_cells[name].max())
        if best >= INSIDE:
            continue
        count = int((plane >= INSIDE).sum())
        height, width = window.geometry.target
        side = lens.grid.spatial
        yield LossFault(
            *("vanishes", "warning", name),
            f"{name} vanishes at {width} x {height}: its {count} trained pixels fill no latent cell"
            f" ({side} x {side} pixels) by half, the best has {best:.0%}. Where it is, other things"
            " are taught.",
            'Paint it larger, grow it, train at a larger resolution, or set masks.reading = "max".',
        )


def _check_crop(window: Window, planes: Mapping[str, Plane]) -> Iterator[LossFault]:
    rows, columns = window.geometry.spans()
    if all(span.length >= span.size for span in (rows, columns)):
        return
    for name, plane in planes.items():
        area = float(plane.sum())
        if not area:
            continue
        high, wide = (
            span.scale_to(size) for span, size in zip((rows, columns), plane.shape[1:], strict=True)
        )
        box = (
            slice(round(high.start), round(high.start + high.length)),
            slice(round(wide.start), round(wide.start + wide.length)),
        )
        off = 1 - float(plane[0][box].sum()) / area
        if off < CUT_AWAY:
            continue
        height, width = window.geometry.target
        share = "All" if off >= ALL_OF_IT else f"{off:.0%}"
        yield LossFault(
            *("cropped away", "warning", name),
            f"{share} of {name} lies outside the part that is trained on (the frame drawn over the"
            f" picture, {width} x {height} pixels).",
            "Crop the clip around the subject; `buckets = true` keeps aspect ratios up to 1:4.",
        )


def _check_drowned(view: LossView, names: Collection[str]) -> Iterator[LossFault]:
    for region in view.regions:
        if region.name not in names or not region.weight or region.loss >= DROWNED:
            continue
        yield LossFault(
            *("drowned", "warning", region.name),
            f"{region.name} brings {region.loss:.2%} of the loss of this clip"
            f"{_name_largest(view, region)}.",
            f"Raise the weight of {region.name}, lower the others', or crop closer to it.",
        )


def _name_largest(view: LossView, region: RegionView) -> str:
    largest = max(view.regions, key=lambda other: other.loss)
    if largest.name == region.name:
        return ""
    name = "what no region covers" if largest.name == BACKGROUND else largest.name
    return f", {name} {largest.loss:.0%}"


def _check_extent(
    shaped: Mapping[str, Plane], region_cells: Mapping[str, CellPlane], brightest: float
) -> Iterator[LossFault]:
    """What `frisket inspect` says of how much is covered; measured on cells, which is quick."""
    planes = shaped if brightest < INSIDE else region_cells
    for finding in look_at_extent("", planes):
        if planes is shaped or finding.kind not in ("faint", "empty"):
            yield LossFault("shape", finding.severity, "", finding.sentence, finding.fix)

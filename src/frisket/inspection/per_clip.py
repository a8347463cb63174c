"""One clip as `frisket inspect` looks at it: small pictures and facts; may run in a process."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from frisket.data.captions import add_trigger, apply_template
from frisket.data.mask_pipeline import planes_of, read_cells
from frisket.data.records import Clipset, Window
from frisket.evaluation.contact_sheet import Card, draw_heat, draw_panels
from frisket.evaluation.page import thumbnail
from frisket.grid import LatentGrid
from frisket.inspection.checks.captions import look_at_words
from frisket.inspection.checks.files import look_at_formats, look_at_missing
from frisket.inspection.checks.flicker import look_at_steadiness, shrink_masks
from frisket.inspection.checks.near_duplicates import Print, compute_print
from frisket.inspection.controls import look_at_control, open_control, view_control
from frisket.inspection.findings import (
    Finding,
    look_at_crop,
    look_at_masks,
    look_at_sizes,
    measure_border_and_centre,
    measure_surviving,
    sort_by_severity,
)
from frisket.inspection.turned_masks import find_orientation, look_at_swapped, look_at_turned
from frisket.inspection.views import decode_views, shrink
from frisket.masks.weights import RegionWeights
from frisket.media.buckets import bucket
from frisket.media.files import ClipFiles
from frisket.media.foreign import reason_of
from frisket.media.frames import BadMedia, extract, probe
from frisket.media.geometry import Geometry
from frisket.shapes import CellPlanes, Plane

log = logging.getLogger(__name__)

THUMB = 168  # pixels a side on the page
VIEW = 256  # pixels of the longer side that pictures are looked at with, and drawn on sheets
FLOW = 160  # the same, where motion is followed
FRAMES = 8  # of a video that are shown
CROPPED = 0.02  # share of an axis that is cut off before anybody asks what was there
STOPS = "Do that first: training stops at it."
SHAPE_FAULTS = {"aspect", "empty", "full", "faint", "inverted", "tiny", "lost at the grid"}


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip as the page shows it: small pictures and facts, no tensors."""

    name: str
    path: str
    size: str
    trained: str
    caption: str
    written: str  # the caption without the trigger that is put in front
    coverage: Mapping[str, float]
    masked: bool
    left: bool = False  # out of training, for it has no mask and others do
    surviving: Mapping[str, float] = field(default_factory=dict)  # region -> share at the grid
    border: float = 0.0  # share of the picture's border that the regions cover
    seal: Print | None = None  # its fingerprint
    shown: tuple[int, int] = (THUMB, THUMB)  # width and height of its thumbnail
    pictures: Mapping[str, str] = field(default_factory=dict)  # heading -> data: address
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()  # of its file (see `media.moving.remarks`)

    @property
    def severity(self) -> str:
        """The gravest of its findings, or "fine"."""
        return self.findings[0].severity if self.findings else "fine"

    def with_findings(self, more: Sequence[Finding]) -> "ClipFacts":
        """The same with further findings, gravest first."""
        return replace(self, findings=tuple(sort_by_severity([*self.findings, *more])))


@dataclass(frozen=True, slots=True)
class Looker:
    """What every clip of one data set is looked at with; travels to worker processes."""

    clipset: Clipset
    grid: LatentGrid
    weights: RegionWeights
    swapped: bool = False  # a share of the draws sees another background
    left: frozenset[str] = frozenset()  # clips that training leaves out for want of a (sure) mask

    def windows(self, clip: ClipFiles) -> list[Window]:
        """The training clips taken from a file, not flipped."""
        media, how = probe(clip.clip), self.clipset.windows
        masking = self.clipset.masking
        if masking.source == "alpha" and not clip.alpha:
            masking = replace(masking, source="none")
        runs = extract(
            media.clock.sample(how.fps),
            how.frames,
            how.mode,
            stride=how.stride,
            samples=how.samples,
            max_frames=how.max_frames,
            grid=self.grid,
        )
        target = partial(
            bucket,
            media.height,
            media.width,
            resolution=self.clipset.resolution,
            grid=self.grid,
            keep_aspect=self.clipset.keep_aspect,
            enlarge=self.clipset.enlarge,
        )
        size = (media.height, media.width)
        control, _ = open_control(self.clipset, clip, media, runs)
        return [
            Window(
                clip.name,
                clip.clip,
                "",
                clip.masks,
                {},
                media,
                Geometry(size, target(len(picks)), picks, stored=media.stored),
                masking,
                control=control,
            )
            for picks in runs
        ]

    def planes(self, window: Window) -> dict[str, Plane]:
        """Its regions as trained, not flipped."""
        return planes_of(window, tuple(self.weights.regions))

    def cells(self, planes: Mapping[str, Plane]) -> dict[str, torch.Tensor]:
        """The same on the latent grid, each f h w."""
        pixels = torch.stack(list(planes.values()))
        cells = read_cells(pixels, self.clipset.masking, self.grid)
        return dict(zip(planes, cells, strict=True))

    def weigh(self, cells: Mapping[str, torch.Tensor]) -> NDArray[np.float32]:
        """Weights f h w as the loss sees them."""
        blank = torch.zeros_like(next(iter(cells.values())))
        covered: CellPlanes = torch.stack([cells.get(name, blank) for name in self.weights.regions])
        weights: NDArray[np.float32] = self.weights(covered[None], torch.ones(1, dtype=torch.bool))[
            0, 0
        ].numpy()
        return weights

    def card(self, window: Window, planes: Mapping[str, Plane]) -> Card:
        """The pictures of one window, small; `planes` as trained, none for no mask."""
        picks = window.geometry.picks
        at = sorted({round(i * (len(picks) - 1) / (FRAMES - 1)) for i in range(FRAMES)})
        frames = decode_views(window, at, VIEW).numpy()
        size = (frames.shape[2], frames.shape[1])
        card = Card(
            window.name,
            frames,
            at=at,
            length=len(picks),
            size=window.geometry.target,
            control=view_control(window, at[len(at) // 2], size),
        )
        if not planes:
            return card
        return replace(
            card,
            planes={
                name: np.stack([shrink(plane[place].numpy(), size) for place in at])
                for name, plane in planes.items()
            },
            weights=self.weigh(self.cells(planes)),
            coverage={name: float(plane.mean()) for name, plane in planes.items()},
        )


def look(looker: Looker, clip: ClipFiles) -> ClipFacts:
    """One clip with its findings; a file that cannot be used is shown without pictures.

    Whatever goes wrong with one clip is a finding of that clip, and the others are looked at.
    """
    clipset = looker.clipset
    facts = ClipFacts(
        name=clip.name,
        path=str(clip.clip),
        size="",
        trained="",
        caption=add_trigger(apply_template(clip.caption, clipset.template), clipset.trigger),
        written=clip.caption.strip(),
        coverage={},
        masked=bool(clip.masks) or clip.alpha,
        left=clip.name in looker.left,
        findings=tuple(_check_entry(looker, clip)),
    )
    try:
        return _look_at_pictures(looker, clip, facts)
    except (BadMedia, ValueError, OSError) as error:
        broken = Finding("unreadable", "error", clip.name, f"{error}.", STOPS)
    except Exception as error:
        log.debug("%s", clip.clip, exc_info=True)
        message = f"{clip.clip}: cannot be looked at ({reason_of(error)})."
        broken = Finding("unreadable", "error", clip.name, message, STOPS)
    return facts.with_findings([broken])


def _check_entry(looker: Looker, clip: ClipFiles) -> Iterator[Finding]:
    """What is wrong before any picture is opened."""
    clipset, how = looker.clipset, looker.clipset.masking
    masked = bool(clip.masks) or clip.alpha
    yield from look_at_words(
        clip.name,
        clip.caption,
        trigger=clipset.trigger,
        masked=masked,
        swapped=looker.swapped,
    )
    if how.source != "none":
        listed = how.source == "listed"
        folders = ", ".join(str(path) for path in how.folders.values())
        yield from look_at_missing(
            clip.name,
            source=str(clipset.clips) if listed else folders or how.source,
            files=[""] if clip.alpha else list(clip.masks),
            regions=list(how.folders) if how.source == "regions" else [],
            require=how.require,
            listed=listed,
            left=clip.name in looker.left,
        )
    yield from look_at_formats(clip.name, list(clip.masks.values()))


def _look_at_pictures(looker: Looker, clip: ClipFiles, facts: ClipFacts) -> ClipFacts:
    windows = looker.windows(clip)
    window = windows[0]
    media = window.media
    length = f", {media.frames} frames" if media.video else ""
    masks = {path.name: probe(path) for path in clip.masks.values()}
    sizes = {file: (mask.height, mask.width) for file, mask in masks.items()}
    orientation = find_orientation(media)
    findings, fits = _look_at_files(window, sizes, orientation)
    findings += look_at_control(looker.clipset, clip, windows)
    planes = looker.planes(window) if fits and window.masked else {}
    card = looker.card(window, planes)
    images = draw_panels(card, THUMB)
    facts = replace(
        facts,
        size=f"{media.width} x {media.height}{length}",
        trained=_spell_trained(windows, looker.grid),
        remarks=media.remarks_at(looker.clipset.windows.fps),
        pictures=_draw_pictures(looker, card, planes, images),
        shown=images["clip"].size,
        seal=compute_print(card.frames[len(card.frames) // 2]),
    )
    if not planes:
        return facts.with_findings(findings)
    cells = looker.cells(planes)
    total = torch.stack(list(planes.values())).sum(0).clamp(0, 1)
    findings += _look_at_planes(looker, window, planes, cells)
    if total.any() and not SHAPE_FAULTS & {finding.kind for finding in findings}:
        findings += _look_at_shape(looker, window, total, orientation)
    survives = {
        part: measure_surviving(plane, cells[part], looker.grid) for part, plane in planes.items()
    }
    return replace(
        facts,
        coverage=card.coverage,
        surviving={part: share for part, share in survives.items() if share is not None},
        border=measure_border_and_centre(total)[0],
    ).with_findings(findings)


def _look_at_files(
    window: Window, sizes: Mapping[str, tuple[int, int]], orientation: int
) -> tuple[list[Finding], bool]:
    """Findings of the masks' (height, width) by file, and whether all can be laid on the clip."""
    media, target = window.media, window.geometry.target
    size = (media.height, media.width)
    findings = look_at_sizes(window.name, size, target, sizes, media.stored)
    fits = not any(finding.kind == "aspect" for finding in findings)
    if swapped := look_at_swapped(window.name, size, sizes, orientation):
        findings = [*swapped, *(finding for finding in findings if finding.kind != "aspect")]
    return findings, fits


def _look_at_planes(
    looker: Looker,
    window: Window,
    planes: Mapping[str, Plane],
    cells: Mapping[str, torch.Tensor],
) -> Iterator[Finding]:
    """What the crop takes of the regions, and what is wrong with what is left."""
    shares = _measure_crop(looker, window, planes)
    yield from look_at_crop(window.name, shares, window.geometry.target)
    if not shares or any(shares.values()):  # what the crop took whole is not empty as well
        yield from look_at_masks(window.name, planes, cells, looker.grid)


def _look_at_shape(
    looker: Looker, window: Window, total: Plane, orientation: int
) -> Iterator[Finding]:
    """Whether the regions together lie right, and hold still where the picture does."""
    yield from look_at_turned(window.name, window, looker.planes, orientation=orientation)
    yield from look_at_steadiness(
        window.name, shrink_masks(total, FLOW), lambda places: decode_views(window, places, FLOW)
    )


def _draw_pictures(
    looker: Looker, card: Card, planes: Mapping[str, Plane], images: dict[str, Image.Image]
) -> dict[str, str]:
    """The panels of a card for the page; weights one pixel a cell, which the page enlarges."""
    if card.weights is not None:
        weights = card.weights
        top = max(float(weights.max()), 1.0)
        place = card.at[len(card.frames) // 2]  # of the frame that is shown
        latent = -(-place // looker.grid.temporal)
        images["weights"] = Image.fromarray(draw_heat(weights[latent], top))
        if looker.clipset.flip:
            turned = looker.cells({name: plane.flip(-1) for name, plane in planes.items()})
            images["mirrored"] = Image.fromarray(draw_heat(looker.weigh(turned)[latent], top))
    return {name: thumbnail(image) for name, image in images.items()}


def _measure_crop(looker: Looker, window: Window, planes: Mapping[str, Plane]) -> dict[str, float]:
    """Share of each region that the crop leaves; empty where it takes next to nothing."""
    geometry = window.geometry
    spans = geometry.spans()
    if all(1 - span.length / span.size < CROPPED for span in spans):
        return {}
    scale = [span.out / span.length for span in spans]
    size = (round(geometry.source[0] * scale[0]), round(geometry.source[1] * scale[1]))
    middle = len(geometry.picks) // 2
    uncut = replace(geometry, target=size, picks=geometry.picks[middle : middle + 1], flip=False)
    everywhere = looker.planes(replace(window, geometry=uncut))
    areas = {name: float(plane.double().sum()) for name, plane in everywhere.items()}
    return {
        name: min(float(planes[name][middle].double().sum()) / area, 1.0)
        for name, area in areas.items()
        if area > 0
    }


def _spell_trained(windows: Sequence[Window], grid: LatentGrid) -> str:
    geometry = windows[0].geometry
    height, width = geometry.target
    frames = len(geometry.picks)
    f, h, w = grid.cells(frames, height, width)
    length = f", {frames} frames" if frames > 1 else ""
    more = f", first of {len(windows)} clips" if len(windows) > 1 else ""
    return f"{width} x {height}{length} ({f} x {h} x {w} cells{more})"


def draw_card_again(looker: Looker, clip: ClipFiles, facts: ClipFacts) -> Card:
    """The card of a clip for a contact sheet, with what is wrong written below."""
    window = looker.windows(clip)[0]
    card = looker.card(window, looker.planes(window) if facts.coverage else {})
    notes = tuple(finding.sentence for finding in facts.findings if finding.severity != "note")
    return replace(card, notes=notes)


def look_at(looker: Looker, clips: Sequence[ClipFiles]) -> list[ClipFacts]:
    """Several clips, as they are handed to a process."""
    return [look(looker, clip) for clip in clips]

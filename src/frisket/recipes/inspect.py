"""`frisket inspect`: every clip with its masks and weights, and what looks wrong; no model."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from frisket.data.captions import triggered
from frisket.data.covering import planes_of
from frisket.data.items import Clipset, Window
from frisket.evaluation.contact_sheet import Card, contact_sheet, css_colour, panels
from frisket.evaluation.findings import (
    SEVERITIES,
    Finding,
    by_severity,
    look_at_masks,
    look_at_sizes,
)
from frisket.evaluation.report import render, thumbnail, write_whole
from frisket.families.base import FAMILIES
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.masks.weights import BACKGROUND, RegionWeights
from frisket.media.buckets import bucket
from frisket.media.captions import BadCaption
from frisket.media.files import ClipsNotFound, Findings, Found, MasksNotFound, TwoFiles, find
from frisket.media.frames import BadMedia, decode, extract, probe, resample
from frisket.media.geometry import Geometry
from frisket.media.paths import replacing
from frisket.recipes.config import Config
from frisket.recipes.prepare import clipset_of, source_of
from frisket.recipes.regions import weights_of

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]

__all__ = ["Finding", "inspect"]

THUMB = 168  # pixels a side on the page
FRAMES = 8  # of a video that are shown
ON_SHEET, SHEETS = 24, 2  # clips on one contact sheet, and sheets; the page shows every clip


@dataclass(frozen=True, slots=True)
class Seen:
    """One clip as the page shows it: small pictures and facts, no tensors."""

    name: str
    path: str
    size: str
    trained: str
    caption: str
    coverage: Mapping[str, float]
    masked: bool
    pictures: Mapping[str, str] = field(default_factory=dict)  # heading -> data: address
    findings: tuple[Finding, ...] = ()

    @property
    def severity(self) -> str:
        """The gravest of its findings, or "fine"."""
        return self.findings[0].severity if self.findings else "fine"


@dataclass(frozen=True, slots=True)
class _Looker:
    """What every clip of one data set is looked at with."""

    clipset: Clipset
    grid: LatentGrid
    weights: RegionWeights

    def windows(self, found: Found) -> list[Window]:
        """The training clips taken from a file, not flipped."""
        media, how = probe(found.clip), self.clipset.windows
        masking = self.clipset.masking
        if masking.source == "alpha" and not found.alpha:
            masking = replace(masking, source="none")
        runs = extract(
            resample(media.frames, media.fps, how.fps),
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
        )
        size = (media.height, media.width)
        return [
            Window(
                found.name,
                found.clip,
                "",
                found.masks,
                {},
                media,
                Geometry(size, target(len(picks)), picks),
                masking,
            )
            for picks in runs
        ]

    def card(self, window: Window, *, masked: bool = True) -> tuple[Card, list[Finding]]:
        """The pictures of one window (without its masks if not `masked`), and their faults."""
        masked = masked and window.masked
        planes = planes_of(window, tuple(self.weights.regions)) if masked else {}
        picks = window.geometry.picks
        at = sorted({round(i * (len(picks) - 1) / (FRAMES - 1)) for i in range(FRAMES)})
        shown = replace(window.geometry, picks=tuple(picks[i] for i in at))
        pixels = shown.pixels(decode(window.clip, shown.picks))
        frames = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
        card = Card(window.name, frames, at=at, length=len(picks))
        if not planes:
            return card, []
        reading = window.masking.reading
        cells = dict(
            zip(
                planes,
                to_latent(torch.stack(list(planes.values())), self.grid, reading),
                strict=True,
            )
        )
        blank = torch.zeros_like(next(iter(cells.values())))
        covered = torch.stack([cells.get(name, blank) for name in self.weights.regions])[None]
        laid = self.weights(covered, torch.ones(1, dtype=torch.bool))[0, 0]
        card = replace(
            card,
            planes={name: plane[at].numpy() for name, plane in planes.items()},
            weights=laid.numpy(),
            coverage={name: float(plane.mean()) for name, plane in planes.items()},
        )
        return card, look_at_masks(window.name, planes, cells, self.grid)


def inspect(config: Config, out: Path, *, progress: Progress = lambda *_: None) -> list[Finding]:
    """Look at every clip; writes `index.html`, `contact-sheet.png` and `findings.json` into `out`.

    Loads no model and touches no cache. Broken files, masks that do not fit and mask sources that
    match nothing become findings, so that one run shows all there is to mend. Returns the findings,
    gravest first. Raises only what keeps the pages from being written (OSError), and UnknownPlugin
    for a family that is not there.
    """
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    grid = family.variants[source.variant].grid
    weights = weights_of(config)
    findings: list[Finding] = []
    seen: list[Seen] = []
    lookers: dict[int, tuple[_Looker, Found]] = {}  # by position in `seen`, to draw them again
    for data in config.data:
        looker = _Looker(clipset_of(config, data, family, source), grid, weights)
        there = _find(looker.clipset, findings)
        for count, found in enumerate(there.found if there else (), 1):
            lookers[len(seen)] = (looker, found)
            seen.append(_look(looker, found))
            findings += seen[-1].findings
            progress("clips", count, len(there.found) if there else 0)
    findings = by_severity([*findings, *_unused_regions(weights, seen)])
    _write_page(out / "index.html", config, seen, findings)
    _write_sheets(out, [(*lookers[place], seen[place]) for place in _gravest(seen)], len(seen))
    listed = json.dumps([asdict(one) for one in findings], indent=2, ensure_ascii=False)
    write_whole(out / "findings.json", listed + "\n")
    return findings


def _find(clipset: Clipset, findings: list[Finding]) -> Findings | None:
    """Clips and masks of a data set; what keeps them from being found is itself a finding."""
    how = clipset.masking
    search = partial(find, clipset.clips, captions=clipset.captions, caption=clipset.caption)
    try:
        try:
            there = search(masks=how.source, folders=how.folders)
        except MasksNotFound as error:
            findings.append(
                Finding(
                    "no mask at all",
                    "error",
                    "",
                    str(error),
                    "Training refuses to start like this: correct the folder or the names.",
                )
            )
            there = search(masks="none", folders={})
    except (ClipsNotFound, TwoFiles, BadCaption, BadMedia) as error:
        findings.append(
            Finding("unreadable", "error", "", str(error), "Mend this first, then inspect again.")
        )
        return None
    findings += [
        Finding(
            "orphan",
            "warning",
            "",
            f"{path} is a mask without a clip.",
            f"Name it after its clip below {clipset.clips}, or remove it.",
        )
        for path in there.orphans
    ]
    return there


def _look(looker: _Looker, found: Found) -> Seen:
    """One clip with its findings; a file that cannot be used is shown without pictures."""
    findings = [*_words(looker.clipset, found), *_missing(looker.clipset, found)]
    size = trained = ""
    coverage: Mapping[str, float] = {}
    pictures: dict[str, str] = {}
    try:
        windows = looker.windows(found)
        window = windows[0]
        media, geometry = window.media, window.geometry
        size = f"{media.width} x {media.height}" + (
            f", {media.frames} frames" if media.video else ""
        )
        trained = _trained(windows, looker.grid)
        masks = {path.name: probe(path) for path in found.masks.values()}
        sizes = {name: (mask.height, mask.width) for name, mask in masks.items()}
        findings += look_at_sizes(found.name, (media.height, media.width), geometry.target, sizes)
        card, faults = looker.card(window, masked=_fits(findings))
        findings += faults
        coverage = card.coverage
        pictures = {name: thumbnail(image) for name, image in panels(card, THUMB).items()}
    except (BadMedia, ValueError, OSError) as error:
        findings.append(
            Finding("unreadable", "error", found.name, str(error), "Training stops at it.")
        )
    return Seen(
        name=found.name,
        path=str(found.clip),
        size=size,
        trained=trained,
        caption=triggered(found.caption, looker.clipset.trigger),
        coverage=coverage,
        masked=bool(found.masks) or found.alpha,
        pictures=pictures,
        findings=tuple(by_severity(findings)),
    )


def _fits(findings: Sequence[Finding]) -> bool:
    """Whether the masks of a clip can be laid on it."""
    return not any(one.kind == "aspect" for one in findings)


def _trained(windows: Sequence[Window], grid: LatentGrid) -> str:
    geometry = windows[0].geometry
    height, width = geometry.target
    frames = len(geometry.picks)
    f, h, w = grid.cells(frames, height, width)
    length = f", {frames} frames" if frames > 1 else ""
    more = f", first of {len(windows)} clips" if len(windows) > 1 else ""
    return f"{width} x {height}{length} ({f} x {h} x {w} cells{more})"


def _words(clipset: Clipset, found: Found) -> Iterator[Finding]:
    if not found.caption.strip():
        yield Finding(
            "uncaptioned",
            "warning",
            found.name,
            "There is no caption" + (", only the trigger word." if clipset.trigger else "."),
            f"Write what is to be seen into {found.clip.with_suffix('.txt').name}.",
        )
    elif clipset.trigger and triggered(found.caption, clipset.trigger) != found.caption.strip():
        yield Finding(
            "trigger",
            "note",
            found.name,
            f"The caption does not hold the trigger {clipset.trigger!r}; it is put in front.",
            "Nothing has to be done, unless the word belongs elsewhere in the sentence.",
        )


def _missing(clipset: Clipset, found: Found) -> Iterator[Finding]:
    how = clipset.masking
    if how.source == "none" or found.masks or found.alpha:
        lacking = sorted(set(how.folders) - set(found.masks)) if how.source == "regions" else []
        if found.masks and lacking:
            yield Finding(
                "region missing",
                "note",
                found.name,
                f"There is no mask for {', '.join(lacking)}; it counts as not in the picture.",
                "Add the file if the region is to be seen.",
            )
        return
    wanted = ", ".join(str(path) for path in how.folders.values()) or how.source
    fix = f"Add a mask named {Path(found.name).name}.png"
    if how.source == "listed":
        wanted, fix = str(clipset.clips), "Give its line a `mask`"
    yield Finding(
        "missing",
        "error" if how.require else "warning",
        found.name,
        f"There is no mask ({wanted}): the whole clip teaches"
        + (", and `require = true` will stop the run." if how.require else "."),
        f"{fix}, or remove the clip.",
    )


def _unused_regions(weights: RegionWeights, seen: Sequence[Seen]) -> Iterator[Finding]:
    masked = [one for one in seen if one.coverage]
    for name in weights.regions:
        if masked and not any(one.coverage.get(name, 0) > 0 for one in masked):
            yield Finding(
                "unused region",
                "warning",
                "",
                f"No mask of any clip shows the region {name!r} of [regions].",
                "Check `levels`, `legend` or the folder names, or take it out of [regions].",
            )


def _gravest(seen: Sequence[Seen]) -> list[int]:
    """Positions of the clips for the contact sheets: those with findings before the others."""
    order = [*SEVERITIES, "fine"]
    usable = [place for place, one in enumerate(seen) if one.pictures]
    usable.sort(key=lambda place: order.index(seen[place].severity))
    return usable[: ON_SHEET * SHEETS]


def _write_page(
    path: Path, config: Config, seen: Sequence[Seen], findings: Sequence[Finding]
) -> None:
    masked = [one for one in seen if one.coverage]
    regions = [
        {
            "name": name,
            "colour": css_colour(index),
            "weight": weight,
            "mean": float(
                np.mean([one.coverage.get(name, 0.0) for one in masked]) if masked else 0
            ),
        }
        for index, (name, weight) in enumerate(
            (name, weight) for name, weight in config.regions.items() if name != BACKGROUND
        )
    ]
    counts = {level: sum(one.severity == level for one in findings) for level in SEVERITIES}
    page = render(
        "inspect.html.j2",
        seen=seen,
        findings=findings,
        regions=regions,
        colours={region["name"]: region["colour"] for region in regions},
        background=config.regions.get(BACKGROUND, 0.0),
        curve=config.curve,
        counts=counts,
        masked=len(masked),
        places={one.name: number for number, one in reversed(list(enumerate(seen)))},
    )
    write_whole(path, page)


def _write_sheets(out: Path, chosen: Sequence[tuple[_Looker, Found, Seen]], clips: int) -> None:
    for number, start in enumerate(range(0, len(chosen), ON_SHEET)):
        part = chosen[start : start + ON_SHEET]
        cards = [
            replace(
                looker.card(looker.windows(found)[0], masked=_fits(seen.findings))[0],
                notes=tuple(one.sentence for one in seen.findings if one.severity != "note"),
            )
            for looker, found, seen in part
        ]
        title = f"{start + 1} to {start + len(part)} of {clips} clips, those with findings first"
        name = "contact-sheet.png" if not number else f"contact-sheet-{number + 1}.png"
        with replacing(out / name) as draft:
            contact_sheet(cards, title=title).save(draft, format="PNG")

"""Seg-Mix: several subjects in one scene, cut out of their clips by their masks.

After MuDI (Jang et al. 2024, arXiv 2404.04243, section 3.2), with choices of our own: the loss is
weighted by what is visible of each region (MuDI's default weighs the whole picture), any number of
subjects, sizes as shares of their own, and any ground (MuDI's is plain).
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from frisket.data.backgrounds import ground_record, list_files
from frisket.data.cached.store import key_of
from frisket.data.captions import join_captions, name_background
from frisket.data.composites.cutouts import prepare_cutout
from frisket.data.composites.paint import MixScene, add_planes, cut_planes, resize_plane
from frisket.data.composites.places import Placement, find_places
from frisket.data.encoding import Encoding, Painting
from frisket.data.mask_pipeline import coverage_record, mask_record, read_cells
from frisket.data.records import Backdrop, Item, Mix, MixLayer, MixPlan, PaintedMix, Window
from frisket.data.rng import draw
from frisket.shapes import Plane

RULE = 1  # goes into cache keys; count up when places or painting change
POOL = 128  # partners a clip chooses among: keeps the choice linear in the number of clips
SHEET_MIXES = 12  # mixes on the contact sheet


@dataclass(frozen=True, slots=True)
class MaskedClip:
    """A training clip whose mask holds a subject, with its caption and its data set's number."""

    item: Item
    window: Window
    caption: str
    number: int


class Mixer:
    """Plans the mixes of clips: which partners, which places, which keys."""

    def __init__(self, work: Encoding, plan: MixPlan, clips: Sequence[MaskedClip]) -> None:
        """`clips` are all that lend their subjects; ValueError where no mix could be made."""
        self.work, self.plan = work, plan
        unflipped = [clip for clip in clips if not clip.item.flip]
        _check_clips(plan, unflipped)
        self.donors = heapq.nsmallest(
            POOL, unflipped, key=lambda clip: draw("partner", clip.window.content, clip.window.name)
        )
        self.several_sets = len({clip.number for clip in unflipped}) > 1
        self.scenes: list[tuple[str, str, MixScene]] = []  # those that are shown

    def add_mixes(self, clip: MaskedClip) -> Item:
        """The item with its mixes; what of them is still to be encoded is remembered."""
        mixes: list[Mix] = []
        paintings: list[Painting] = []
        partners = self._list_partners(clip)
        if len(partners) < self.plan.subjects - 1:
            self.work.tally.unmatched_clips.append(clip.item.name)
            return clip.item
        for number in range(self.plan.variants):
            question = self._make_question(clip, number)
            partners_drawn = self._choose(partners, question)
            subjects = (clip, *partners_drawn)
            backdrop = self._choose_backdrop(subjects, question)
            record = self._record(subjects, backdrop, question)
            places = self._recall_places(subjects, backdrop, record, question)
            if places is None:
                self.work.tally.crowded_mixes += 1
                continue
            scene = self._make_scene(subjects, backdrop, places)
            text, caption = self._write_caption(subjects, backdrop)
            if not mixes and len(self.scenes) < SHEET_MIXES:
                self.scenes.append((clip.item.name, caption, scene))
            if self.plan.space == "latent":
                mixes.append(self._lay(subjects, backdrop, places, text))
                continue
            latents = key_of({**self.work.latents_record(clip.window), "mix": record})
            coverage = self._cover(clip.window, scene, record)
            files = [_list_frames(other.window) for other in partners_drawn]
            files += [] if backdrop is None else list_files(backdrop)
            paintings.append(Painting(latents, scene.paint, files))
            mixes.append(Mix(latents, text, coverage))
        self.work.composites(clip.window, paintings)
        return replace(clip.item, mixes=tuple(mixes))

    def draw_shown(self) -> Iterator[PaintedMix]:
        """Some of the mixes, painted from their files (in latent space: as pixels would be)."""
        for name, caption, scene in self.scenes:
            yield PaintedMix(name, caption, scene.paint(scene.load()), scene.cover())

    def _make_question(self, clip: MaskedClip, number: int) -> tuple[Any, ...]:
        window = clip.window
        identity = (window.content, window.geometry.flip, window.geometry.picks[0])
        return (self.plan.seed, *identity, number)

    def _list_partners(self, clip: MaskedClip) -> list[MaskedClip]:
        """Clips of other data sets where several have masks; else all others of the only one."""
        return [
            other
            for other in self.donors
            if other.window.content != clip.window.content
            and (not self.several_sets or other.number != clip.number)
            and (self.plan.space == "pixel" or other.item.shape == clip.item.shape)
        ]

    def _choose(
        self, partners: Sequence[MaskedClip], question: tuple[Any, ...]
    ) -> list[MaskedClip]:
        """Each mix ranks all partners by a hash: another clip changes only the mixes it is in."""
        return heapq.nsmallest(
            self.plan.subjects - 1,
            partners,
            key=lambda clip: draw("mix", *question, clip.window.content, clip.window.name),
        )

    def _choose_backdrop(
        self, subjects: Sequence[MaskedClip], question: tuple[Any, ...]
    ) -> Backdrop | None:
        contents = {clip.window.content for clip in subjects}
        candidates = [
            backdrop
            for backdrop in self.plan.backdrops
            if backdrop.donor is None or backdrop.donor.content not in contents
        ]
        return min(
            candidates,
            key=lambda backdrop: draw("ground", *question, backdrop.content),
            default=None,
        )

    def _record(
        self,
        subjects: Sequence[MaskedClip],
        backdrop: Backdrop | None,
        question: tuple[Any, ...],
    ) -> dict[str, Any]:
        """Everything that makes a mix, places included (they are an answer to the question)."""
        plan, clip, grid = self.plan, subjects[0].window, self.work.encoders.grid
        count, size = len(clip.geometry.picks), clip.geometry.target
        return {
            "rule": RULE,
            # Places in latent space are counted in cells.
            "grid": [grid.spatial, grid.temporal] if plan.space == "latent" else None,
            "question": list(question),
            "subjects": [
                {
                    "file": other.window.content,
                    "reading": list(other.window.media.reading),
                    **mask_record(other.window, self.work.regions),
                }
                for other in subjects
            ],
            "kept": sorted(self.work.kept),
            "scale": [float(share) for share in plan.scale],
            "overlap": float(plan.overlap),
            "ground": None if backdrop is None else ground_record(backdrop, count, size),
            "despill": float(plan.despill),
        }

    def _recall_places(
        self,
        subjects: Sequence[MaskedClip],
        backdrop: Backdrop | None,
        record: Mapping[str, Any],
        question: tuple[Any, ...],
    ) -> tuple[Placement, ...] | None:
        """Where the subjects go, as remembered, or found now; None where there is no room."""
        index, slot = self.work.entries.index, f"mix {key_of({'mix': record})}"
        remembered = index.get("facts", slot)
        if remembered is not None:
            return tuple(Placement(*numbers) for numbers in remembered) or None
        latent = self.plan.space == "latent"
        planes = [self._read_subject(clip, subjects[0]) for clip in subjects]
        item, geometry = subjects[0].item, subjects[0].window.geometry
        places = find_places(
            planes,
            item.shape[1:] if latent else geometry.target,
            *question,
            stays=backdrop is None,
            scale=(1.0, 1.0) if latent else self.plan.scale,
            overlap=self.plan.overlap,
            resize=(lambda plane, _: plane) if latent else resize_plane,
        )
        numbers = [[place.scale, place.down, place.right] for place in places or ()]
        index.put("facts", slot, numbers)
        return places

    def _read_subject(self, clip: MaskedClip, first: MaskedClip) -> Plane:
        """What is cut out of a clip: pixels, or cells in latent space."""
        if self.plan.space == "latent":
            key = prepare_cutout(self.work, clip.window)
            return self.work.entries.cache.load("coverage", key).tensors["keep"][0]
        count = len(first.window.geometry.picks)
        return add_planes(cut_planes(clip.window, self.work.kept, self.work.regions, count))

    def _make_scene(
        self,
        subjects: Sequence[MaskedClip],
        backdrop: Backdrop | None,
        places: tuple[Placement, ...],
    ) -> MixScene:
        if self.plan.space == "latent":
            step = self.work.encoders.grid.spatial
            places = tuple(replace(p, down=p.down * step, right=p.right * step) for p in places)
        return MixScene(
            tuple(clip.window for clip in subjects),
            backdrop,
            places,
            self.work.kept,
            self.work.regions,
            self.plan.despill,
        )

    def _write_caption(
        self, subjects: Sequence[MaskedClip], backdrop: Backdrop | None
    ) -> tuple[str, str]:
        """Key and words of the caption: the subjects joined, then the background."""
        plan = self.plan
        caption = join_captions([clip.caption for clip in subjects], plan.template)
        if backdrop is not None:
            caption = name_background(caption, backdrop.words, plan.background_template)
        return self.work.text(caption), caption

    def _lay(
        self,
        subjects: Sequence[MaskedClip],
        backdrop: Backdrop | None,
        places: Sequence[Placement],
        text: str,
    ) -> Mix:
        """A mix in latent space: nothing to encode but the background alone."""
        layers = [
            MixLayer(
                clip.item.latents,
                prepare_cutout(self.work, clip.window),
                (place.down, place.right),
            )
            for clip, place in zip(subjects, places, strict=True)
        ]
        item, geometry = subjects[0].item, subjects[0].window.geometry
        if backdrop is None:
            return Mix(item.latents, text, item.coverage or "", tuple(layers[1:]))
        ground = self.work.ground(backdrop, len(geometry.picks), geometry.target)
        return Mix(ground, text, "", tuple(layers))

    def _cover(self, window: Window, scene: MixScene, record: Mapping[str, Any]) -> str:
        """The coverage of a mix in pixel space, made where it is missing."""
        work, how, grid = self.work, window.masking, self.work.encoders.grid
        key = key_of({**coverage_record(window, work.regions, grid), "mix": record})
        if not work.entries.ready("coverage", key):
            planes = scene.cover()
            names = [name for name in work.regions if name in planes]
            pixels = torch.stack([planes[name] for name in names])
            tensors = {"planes": read_cells(pixels, how, grid)}
            if how.prior_reading:
                tensors["prior_planes"] = read_cells(pixels, how, grid, how.prior_reading)
            notes = {
                "regions": "\n".join(names),
                "places": "; ".join(
                    f"{other.name} x {place.scale:.4f} down {place.down} right {place.right}"
                    for other, place in zip(scene.windows, scene.places, strict=True)
                ),
            }
            work.entries.store("coverage", key, tensors, notes)
            work.tally.covered += 1
        return key


def _list_frames(window: Window) -> tuple[Any, str, tuple[int, ...]]:
    return window.clip, window.content, window.geometry.picks


def _check_clips(plan: MixPlan, clips: Sequence[MaskedClip]) -> None:
    """Refuse what no mix can be made of."""
    contents = {clip.window.content for clip in clips}
    if not contents:
        raise ValueError(
            "mix: no clip has a mask that holds a region of weight above 0: nothing can be cut out;"
            " give `masks`, or set mix.rate = 0"
        )
    if len(contents) < plan.subjects:
        raise ValueError(
            f"mix: {plan.subjects} subjects need as many clips with masks, there"
            f" {'is' if len(contents) == 1 else 'are'} {len(contents)}"
            f" ({next(iter(clips)).window.clip}); add clips, or set mix.rate = 0"
        )
    visible = [clip.window.clip for clip in clips if clip.window.shown or clip.window.references]
    if visible:
        raise ValueError(
            f"mix: {visible[0]} is shown to the model besides (mask_role, reference pictures), and"
            " would still show one subject; set mix.rate = 0"
        )


def check_mixes(plan: MixPlan, clips: Sequence[MaskedClip], items: Sequence[Item]) -> None:
    """ValueError where not one mix came about, with the reason."""
    if any(item.mixes for item in items):
        return
    if plan.space == "latent" and len({clip.item.shape for clip in clips}) > 1:
        sizes = ", ".join(
            f"{clip.window.name} {' x '.join(map(str, clip.item.shape))}" for clip in clips[:4]
        )
        raise ValueError(
            f"mix: in latent space subjects come from clips of one size in cells ({sizes}, ...):"
            ' give them one resolution with buckets = false, or set mix.space = "pixel"'
        )
    raise ValueError(
        f"mix: no room for {plan.subjects} subjects in any clip, at {plan.scale[0]:g} to"
        f" {plan.scale[1]:g} of their size and at most {plan.overlap:.0%} of one hidden: lower"
        " mix.scale (pixel space), raise mix.overlap, or set mix.rate = 0"
    )

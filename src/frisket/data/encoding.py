"""What of a data set is still to be encoded: gathered while planning, then done model by model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from frisket.data.backgrounds import cut, swap_frames
from frisket.data.cached.finite import NotFinite, check_finite
from frisket.data.cached.status import Entries
from frisket.data.cached.store import key_of
from frisket.data.captions import list_subsets
from frisket.data.mask_pipeline import keep_plane, mask_record
from frisket.data.records import (
    Backdrop,
    Captions,
    Clipset,
    Encoders,
    RegionSubset,
    SwapPlan,
    Window,
)
from frisket.data.statistics import PrepareCounts
from frisket.data.varying import Varying
from frisket.disk.untrusted import show
from frisket.media.frames import BadMedia, decode, decode_stored, try_decoding
from frisket.media.geometry import Geometry
from frisket.progress import Progress
from frisket.shapes import Frames, Plane

PictureFiles = tuple[tuple[Path, str], ...]  # reference pictures of a clip, and their content


@dataclass(slots=True)
class _Job:
    """Latents of one window that are not in the cache: the plain ones, and composites."""

    window: Window
    plain: str | None
    composites: list[tuple[str, Backdrop]] = field(default_factory=list)


@dataclass(slots=True)
class Encoding:
    """Missing latents and texts of one `prepare`; nothing is loaded before `run`."""

    entries: Entries
    encoders: Encoders
    tally: PrepareCounts
    regions: tuple[str, ...]
    kept: tuple[str, ...]  # regions of weight > 0
    progress: Progress
    plan: SwapPlan = field(default_factory=lambda: SwapPlan(()))
    bad: dict[str, str] = field(default_factory=dict)  # file -> what is wrong with it
    _jobs: list[_Job] = field(default_factory=list)
    _captions: dict[str, tuple[str, PictureFiles]] = field(
        default_factory=dict
    )  # missing ones, by key
    _keys: dict[tuple[str, PictureFiles], str] = field(default_factory=dict)

    def latents(self, window: Window) -> str:
        """The key of a window's latents; remembers them where they are missing."""
        key = key_of(self.latents_record(window))
        if not self.entries.ready("latents", key):
            self._jobs.append(_Job(window, key))
        return key

    def composites(self, window: Window, backdrops: Sequence[tuple[str, Backdrop]]) -> None:
        """Remember composites whose latents are missing, by key."""
        missing = [
            (key, backdrop) for key, backdrop in backdrops if not self.entries.ready("latents", key)
        ]
        if missing:
            self._jobs.append(_Job(window, None, missing))

    def vary(self, window: Window) -> tuple[str, ...]:
        """The keys of the coverages that the draws of a masked clip take one of, made at once."""
        return Varying(self.entries, self.tally, self.regions, self.encoders.grid)(window)

    def text(self, caption: str, pictures: PictureFiles = ()) -> str:
        """The key of a caption (with the pictures the text encoder looks at)."""
        key = self._keys.get((caption, pictures))
        if key is None:
            record: dict[str, object] = {
                "kind": "text",
                "caption": caption,
                "encoder": dict(self.encoders.text_record),
            }
            if pictures:
                record["references"] = [content for _, content in pictures]
            key = self._keys[caption, pictures] = key_of(record)
            if not self.entries.ready("text", key):
                self._captions[key] = (caption, pictures)
        return key

    def subsets(
        self,
        clipset: Clipset,
        covers: Sequence[str],
        phrases: Mapping[str, str],
        pictures: PictureFiles = (),
    ) -> tuple[RegionSubset, ...]:
        """The subsets of a clip's regions that its draws take one of; () where none are asked for.

        `covers` are the regions its mask touches. ValueError where they are too many.
        """
        if not clipset.subset_caption:
            return ()
        names = [name for name in phrases if name in covers]
        return tuple(
            RegionSubset(
                self.text(caption, pictures),
                kept,
                tuple(name for name in names if name not in kept),
            )
            for caption, kept in list_subsets(covers, phrases, clipset.subset_caption)
        )

    @property
    def captions(self) -> Captions:
        """Every caption that was asked for, by key."""
        return {key: caption for caption, key in self._keys.items()}

    def latents_record(self, window: Window) -> dict[str, object]:
        """Everything that makes the latents of a window, and what the denoiser sees of it."""
        record: dict[str, object] = {
            "kind": "latents",
            "clip": window.content,
            "geometry": window.geometry.record(),
            "encoder": dict(self.encoders.pixels_record),
        }
        if window.media.reading:  # named only where something is done: other caches stay good
            record["reading"] = list(window.media.reading)
        if window.references:
            record["references"] = [content for _, content in window.references]
        if window.shown:
            record["keep"] = {
                **mask_record(window, self.regions),
                "kept": sorted(self.kept),
            }
        return record

    def check(self) -> None:
        """Decode every frame that will be encoded, so that each bad file is known before any is.

        What decoded once is remembered by its content. Fills `bad`.
        """
        frames_by_file: dict[Path, tuple[str, set[int]]] = {}
        for job in self._jobs:
            window = job.window
            files = [(window.clip, window.content, window.geometry.picks)]
            files += [(path, content, (0,)) for path, content in window.references]
            for _, backdrop in job.composites:
                if backdrop.path is not None:
                    files.append((backdrop.path, backdrop.content, (0,)))
                elif backdrop.donor is not None:
                    donor = backdrop.donor
                    files.append((donor.clip, donor.content, donor.geometry.picks))
            for path, content, picks in files:
                frames_by_file.setdefault(path, (content, set()))[1].update(picks)
        for count, (path, (content, frames)) in enumerate(frames_by_file.items(), 1):
            self._check_file(path, content, sorted(frames))
            self.progress("reading", count, len(frames_by_file))

    def _check_file(self, path: Path, content: str, picks: Sequence[int]) -> None:
        index = self.entries.index
        decodes = key_of({"decodes": f"{content}{path.suffix.lower()}", "picks": list(picks)})
        if index.get("probe", decodes):
            return
        try:
            try_decoding(path, picks)
        except BadMedia as error:
            self.bad[str(path)] = str(error)
            return
        index.put("probe", decodes, True)

    def run(self) -> None:
        """Encode the clips, let the VAE go."""
        total = sum(bool(job.plain) + len(job.composites) for job in self._jobs)
        for job in self._jobs:
            self.entries.index.commit()  # never hold its lock while a model runs
            try:
                self._encode(job, total)
            except BadMedia as error:
                self.bad[str(job.window.clip)] = str(error)
        self._jobs.clear()
        self.encoders.free()

    def embed(self) -> None:
        """Embed the captions, let the text encoder go."""
        self.entries.index.commit()
        for count, (key, (caption, pictures)) in enumerate(self._captions.items(), 1):
            tensors = self.encoders.embed(caption, [decode(path, (0,)) for path, _ in pictures])
            try:
                check_finite(tensors, "text encoder", self.encoders.text_record)
            except NotFinite as error:
                self.bad[f"caption {show(caption)}"] = str(error)
                continue
            self.entries.store("text", key, dict(tensors))
            self.entries.index.commit()
            self.tally.embedded += 1
            self.progress("captions", count, len(self._captions))
        self._captions.clear()
        self.encoders.free()

    # One clip at a time, so that a clip's latents do not depend on its neighbours.

    def _encode(self, job: _Job, total: int) -> None:
        window = job.window
        frames = decode_stored(window.clip, window.geometry.picks)
        if job.plain is not None:
            self._encode_pixels(window, job.plain, window.geometry, frames, total)
        if not job.composites:
            return
        frames = cut(window, frames)
        target = window.geometry.target
        whole = Geometry(target, target, tuple(range(len(frames))))
        for key, backdrop in job.composites:
            swapped = swap_frames(self.plan, window, frames, backdrop, self.kept, self.regions)
            self._encode_pixels(window, key, whole, swapped, total)

    def _encode_pixels(
        self, window: Window, key: str, geometry: Geometry, frames: Frames, total: int
    ) -> None:
        references = [decode(path, (0,)) for path, _ in window.references]
        shown: Plane | None = None
        if window.shown:
            shown = 1 - keep_plane(window, self.kept, self.regions)
        tensors = self.encoders.encode(geometry.pixels(frames)[None], references, shown)
        latents = tensors["latents"]
        expected = self.encoders.grid.cells(len(frames), *geometry.target)
        if tuple(latents.shape[2:]) != expected:
            raise RuntimeError(
                f"the VAE gave latents of shape {tuple(latents.shape[1:])} for {window.clip}, the"
                f" family's grid says {expected}: its LatentGrid is wrong"
            )
        check_finite(tensors, "VAE", self.encoders.pixels_record)
        self.entries.store("latents", key, _unbatch(tensors))
        self.tally.encoded += 1
        self.progress("latents", self.tally.encoded, total)


def _unbatch(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Latents without the batch axis; what the denoiser sees keeps it, as texts do."""
    return {
        name: (value[0] if name == "latents" else value).cpu() for name, value in tensors.items()
    }

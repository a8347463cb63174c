"""What of a data set is still to be encoded: gathered while planning, then done model by model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from frisket.data.backgrounds import cut, ground_record, list_files, paint_backdrop
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


SourceFrames = tuple[Path, str, tuple[int, ...]]  # a file, its content, the frames looked at


@dataclass(frozen=True, slots=True)
class Painting:
    """A composite to encode: the key of its latents, how its clip's frames become it, its files."""

    key: str
    paint: Callable[[Frames], Frames]
    files: Sequence[SourceFrames] = ()


@dataclass(slots=True)
class _Job:
    """Latents of one window that are not in the cache: the plain ones, and composites."""

    window: Window
    plain: str | None
    paintings: Sequence[Painting] = ()


@dataclass(frozen=True, slots=True)
class _Ground:
    """Latents of a background alone that are not in the cache."""

    backdrop: Backdrop
    frames: int
    size: tuple[int, int]


@dataclass(slots=True)
class Encoding:
    """Missing latents and texts of one `prepare`; nothing is loaded before `run`."""

    entries: Entries
    encoders: Encoders
    tally: PrepareCounts
    regions: tuple[str, ...]
    kept: tuple[str, ...]  # regions of weight > 0
    progress: Progress
    bad: dict[str, str] = field(default_factory=dict)  # file -> what is wrong with it
    _jobs: list[_Job] = field(default_factory=list)
    _grounds: dict[str, _Ground] = field(default_factory=dict)  # missing ones, by key
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

    def composites(self, window: Window, paintings: Sequence[Painting]) -> None:
        """Remember composites of a window whose latents are missing."""
        missing = [
            painting for painting in paintings if not self.entries.ready("latents", painting.key)
        ]
        if missing:
            self._jobs.append(_Job(window, None, missing))

    def ground(self, backdrop: Backdrop, frames: int, size: tuple[int, int]) -> str:
        """The key of a background's own latents; remembers them where they are missing."""
        record = {
            "kind": "latents",
            "ground": ground_record(backdrop, frames, size),
            "encoder": dict(self.encoders.pixels_record),
        }
        key = key_of(record)
        if key not in self._grounds and not self.entries.ready("latents", key):
            self._grounds[key] = _Ground(backdrop, frames, size)
        return key

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

    def make_subsets(
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
                kept_names,
                tuple(name for name in names if name not in kept_names),
            )
            for caption, kept_names in list_subsets(covers, phrases, clipset.subset_caption)
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
            files += [file for painting in job.paintings for file in painting.files]
            _gather(frames_by_file, files)
        for ground in self._grounds.values():
            _gather(frames_by_file, list_files(ground.backdrop))
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
        total = len(self._grounds)
        total += sum(bool(job.plain) + len(job.paintings) for job in self._jobs)
        for job in self._jobs:
            self.entries.index.commit()  # never hold its lock while a model runs
            try:
                self._encode(job, total)
            except BadMedia as error:
                self.bad[str(job.window.clip)] = str(error)
        for key, ground in self._grounds.items():
            self.entries.index.commit()
            try:
                self._encode_ground(key, ground, total)
            except BadMedia as error:
                self.bad[str(ground.backdrop.path or ground.backdrop.content)] = str(error)
        self._jobs.clear()
        self._grounds.clear()
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
        if not job.paintings:
            return
        frames = cut(window, frames)
        target = window.geometry.target
        whole = Geometry(target, target, tuple(range(len(frames))))
        for painting in job.paintings:
            self._encode_pixels(window, painting.key, whole, painting.paint(frames), total)

    def _encode_ground(self, key: str, ground: _Ground, total: int) -> None:
        backdrop, count, size = ground.backdrop, ground.frames, ground.size
        pictures = paint_backdrop(backdrop, count, size, self.regions)
        frames = pictures.expand(count, -1, -1, -1)  # a still serves every frame
        pixels = Geometry(size, size, tuple(range(count))).pixels(frames)
        tensors = self.encoders.encode(pixels[None], (), None)
        self._store(key, tensors, (count, *size), str(backdrop.path or "a background"), total)

    def _encode_pixels(
        self, window: Window, key: str, geometry: Geometry, frames: Frames, total: int
    ) -> None:
        references = [decode(path, (0,)) for path, _ in window.references]
        shown: Plane | None = None
        if window.shown:
            shown = 1 - keep_plane(window, self.kept, self.regions)
        tensors = self.encoders.encode(geometry.pixels(frames)[None], references, shown)
        self._store(key, tensors, (len(frames), *geometry.target), str(window.clip), total)

    def _store(
        self,
        key: str,
        tensors: Mapping[str, Tensor],
        size: tuple[int, int, int],
        name: str,
        total: int,
    ) -> None:
        """Write latents of a clip of `size` (F H W), once they are what the grid says."""
        latents = tensors["latents"]
        if tuple(latents.shape[2:]) != self.encoders.grid.cells(*size):
            raise RuntimeError(
                f"the VAE gave latents of shape {tuple(latents.shape[1:])} for {name}, the family's"
                f" grid says {self.encoders.grid.cells(*size)}: its LatentGrid is wrong"
            )
        check_finite(tensors, "VAE", self.encoders.pixels_record)
        self.entries.store("latents", key, _unbatch(tensors))
        self.tally.encoded += 1
        self.progress("latents", self.tally.encoded, total)


def _gather(
    frames_by_file: dict[Path, tuple[str, set[int]]], files: Sequence[SourceFrames]
) -> None:
    """Add the frames that are looked at of each file."""
    for path, content, picks in files:
        frames_by_file.setdefault(path, (content, set()))[1].update(picks)


def _unbatch(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Latents without the batch axis; what the denoiser sees keeps it, as texts do."""
    return {
        name: (value[0] if name == "latents" else value).cpu() for name, value in tensors.items()
    }

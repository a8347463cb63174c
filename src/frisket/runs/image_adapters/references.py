"""What each clip is shown while an image adapter trains: embedded once, kept in the cache."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.config.provenance import ConfigError
from frisket.config.regions import names_of
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache, CorruptEntry, key_of
from frisket.data.faces.keypoints import BadKeypoints, FacePoints, find_keypoints, read_keypoints
from frisket.data.loader import Store
from frisket.data.mask_pipeline import arrange
from frisket.data.records import Item, Prepared
from frisket.data.sample import Batch
from frisket.media.frames import decode
from frisket.media.geometry import fits
from frisket.progress import Progress
from frisket.runs.image_adapters.cutting import choose_latent_frame, crop_frame, crop_points
from frisket.runs.image_adapters.face_readers import ClipReference
from frisket.runs.image_adapters.readers import FACE_READERS, make_reader

log = logging.getLogger(__name__)
RULE = 1  # of cutting and encoding; another number makes all entries anew
STAGE = "references"
MEGABYTES = 256  # of embeddings held in memory


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """The references of a run's clips, by their keys in the cache.

    `own_keys` are those of the prepared clips, in order, `held_keys` those of clips held out, in
    order; "" where the region is not in the clip: it is shown nothing. `other_places` say for each
    prepared clip which ones it may be shown in its place, empty where a clip is shown its own.
    `blank` is what the projection reads where no picture is shown.
    """

    own_keys: tuple[str, ...]
    held_keys: tuple[str, ...]
    other_places: tuple[tuple[int, ...], ...]
    blank: Tensor
    store: Store

    def draw(self, batch: Batch, dropout: float) -> list[Tensor]:
        """What each row is shown in this step, `dropout` of them nothing.

        Two numbers a row are taken from torch's generator on the CPU, which the trainer seeds for
        each step.
        """
        choices = torch.rand(len(batch), 2).tolist()
        keys = []
        for item, (is_dropped, choice) in zip(batch.items, choices, strict=True):
            # A clip that does not show the region teaches nobody's face.
            is_other = bool(self.other_places) and bool(self.own_keys[item])
            candidates = self.other_places[item] if is_other else ()
            place = candidates[int(choice * len(candidates))] if candidates else item
            keys.append("" if is_dropped < dropout else self.own_keys[place])
        return [self._read(key) for key in keys]

    def show(self, batch: Batch) -> list[Tensor]:
        """The same without chance, for clips held out: each its own."""
        return [self._read(key) for key in self._list_keys(batch)]

    def list_points(self, batch: Batch) -> list[Float[Tensor, "5 2"] | None]:
        """Of each row the key points of the clip's own face, as shares of its sides; None: none."""
        return [self._read_points(key) for key in self._list_keys(batch)]

    def show_first(self) -> Tensor:
        """What the first prepared clip with a reference is shown, b = 1, for previews."""
        return self._read(self._find_first())[None]

    def show_first_points(self) -> Float[Tensor, "5 2"] | None:
        """The key points of the same clip."""
        return self._read_points(self._find_first())

    def _find_first(self) -> str:
        return next((key for key in self.own_keys if key), "")

    def _list_keys(self, batch: Batch) -> list[str]:
        """The keys of the clips' own references."""
        return [
            self.own_keys[item] if item >= 0 else self.held_keys[-1 - item] for item in batch.items
        ]

    def _read_points(self, key: str) -> Tensor | None:
        return self.store.load("reference", key).tensors.get("keypoints") if key else None

    def _read(self, key: str) -> Tensor:
        return self.store.load("reference", key).tensors["embedding"] if key else self.blank


def prepare_references(
    config: Config, prepared: Prepared, *, progress: Progress = lambda *_: None
) -> ReferenceSet:
    """Cut out and embed what is not in the cache yet; the encoder is loaded only for that.

    ConfigError where no clip shows the region (or a face in it), and where a clip has no other one
    beside it though `image_adapter.references` asks for others; MethodUnusable for an
    encoder that is damaged.
    """
    work = _ReferenceWork(config, prepared)
    count = len(prepared.items) + len(prepared.held)
    keys = []
    for number, item in enumerate((*prepared.items, *prepared.held), start=1):
        keys.append(work.embed(item))
        progress(STAGE, number, count, {})
    own_keys, held_keys = tuple(keys[: len(prepared.items)]), tuple(keys[len(prepared.items) :])
    _report_missing(config, own_keys, work.region)
    is_other = config.image_adapter.references == "other"
    return ReferenceSet(
        own_keys=own_keys,
        held_keys=held_keys,
        other_places=_find_others(prepared.items, own_keys) if is_other else (),
        blank=work.embed_blank(),
        store=Store(prepared.cache, MEGABYTES),
    )


def _report_missing(config: Config, keys: Sequence[str], region: str) -> None:
    """Say how many clips are shown nothing; ConfigError where none has a reference."""
    subject = repr(region)
    if config.image_adapter.kind in FACE_READERS:
        subject = "a face" + (f" where its mask has {region!r}" if region else "")
    if not any(keys):
        raise ConfigError(
            f"image_adapter: no clip shows {subject}, so there is nothing to show the model; name"
            " another region (image_adapter.region), or set image_adapter.cut = false"
        )
    if missing := keys.count(""):
        log.warning(
            "%d of %d clips do not show %s: they are trained as though no picture were shown",
            missing,
            len(keys),
            subject,
        )


def find_region(config: Config) -> str:
    """The region that references are cut out by; "" where the whole frame is shown."""
    options = config.image_adapter
    if not options.cut:
        return ""
    taught_regions = [name for name in names_of(config) if config.region_weights[name] > 0]
    return options.region or (taught_regions or list(names_of(config)))[0]


def _find_others(items: Sequence[Item], keys: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    folders: dict[Path, list[int]] = {}
    for place, item in enumerate(items):
        folders.setdefault(Path(item.clip).parent, []).append(place)
    other_places = []
    for item in items:
        neighbours = folders[Path(item.clip).parent]
        candidates = tuple(
            place for place in neighbours if keys[place] and items[place].clip != item.clip
        )
        if not candidates:
            raise ConfigError(
                f'image_adapter.references = "other": {item.clip} has no other clip beside it that'
                ' shows the region; add one to its folder, or set references = "self"'
            )
        other_places.append(candidates)
    return tuple(other_places)


class _ReferenceWork:
    """Makes the entries of references that the cache lacks."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self.reader = make_reader(config)
        self.region, self.regions = find_region(config), prepared.regions
        self.cache: Cache = prepared.cache
        with Index(self.cache.folder) as index:
            self.record = {"rule": RULE, "region": self.region, **self.reader.record(index)}

    def embed(self, item: Item) -> str:
        """The key of a clip's reference; "" where its region, or a face in it, is not there."""
        coverage = item.coverage or (item.drawn[0] if item.drawn else None)
        plane = self._read_plane(coverage) if self.region and coverage else None
        if plane is not None and not bool((plane > 0).any()):
            return ""
        record = {"clip": item.latents, "coverage": coverage if plane is not None else None}
        keypoints = find_keypoints(Path(item.clip)) if self.reader.reads_points else None
        if keypoints is not None:
            with Index(self.cache.folder) as index:
                record["keypoints"] = index.content(keypoints)
        key = key_of({**self.record, **record})
        embedding = self._keep(key, lambda: self._read_item(item, plane, keypoints))
        return key if len(embedding) else ""

    def embed_blank(self) -> Tensor:
        """What is read where no picture is shown."""
        key = key_of({**self.record, "clip": None})
        return self._keep(key, lambda: ClipReference(self.reader.read_blank()))

    def _keep(self, key: str, read: Callable[[], ClipReference | None]) -> Tensor:
        """What is read of a picture, stored unless the cache has it whole; empty for nothing."""
        try:
            return self.cache.load("reference", key).tensors["embedding"]
        except CorruptEntry:
            self.cache.need_writable("reference", key)
            reference = read()
            embedding = torch.zeros(0) if reference is None else reference.row.float()
            tensors = {"embedding": embedding}
            if reference is not None and reference.keypoints is not None:
                tensors["keypoints"] = reference.keypoints
            self.cache.store("reference", key, tensors)
            return embedding

    def _read_plane(self, coverage: str) -> Float[Tensor, "f h w"]:
        entry = self.cache.load("coverage", coverage)
        names = entry.notes["regions"].split("\n")
        planes = arrange(entry.tensors["planes"], names, self.regions)
        plane: Tensor = planes[self.regions.index(self.region)]
        return plane

    def _read_item(
        self, item: Item, plane: Tensor | None, keypoints: Path | None
    ) -> ClipReference | None:
        place = 0 if plane is None else choose_latent_frame(plane)
        picks = item.picks or (0,)
        # Latent frame 0 is frame 0; the others stand for equal shares of the rest.
        step = (len(picks) - 1) / max(1, item.shape[0] - 1)
        pick = picks[round(place * step)]
        full_frame = decode(Path(item.clip), (pick,))[0]
        frame = crop_frame(full_frame, item.crop, flip=item.flip)
        noted_faces = None if keypoints is None else _read_noted(keypoints, pick, item, full_frame)
        return self.reader.read(frame, None if plane is None else plane[place], noted_faces)


def _read_noted(keypoints: Path, pick: int, item: Item, full_frame: Tensor) -> list[FacePoints]:
    """The faces that a file beside a clip has in a frame, where they lie in what is trained on.

    ConfigError for a file that cannot be used, or of a picture of another shape.
    """
    try:
        file = read_keypoints(keypoints)
    except BadKeypoints as error:
        raise ConfigError(f"image_adapter: {error}") from error
    size = (full_frame.shape[0], full_frame.shape[1])
    if not fits(file.size, size):
        raise ConfigError(
            f"image_adapter: {keypoints}: its size is {file.size[1]} x {file.size[0]} (width x"
            f" height), its clip {size[1]} x {size[0]}: write the key points of the clip as it is"
        )
    return [
        crop_points(points, file.size, size, item.crop, flip=item.flip)
        for points in file.faces.get(pick, ())
    ]

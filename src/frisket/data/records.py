"""The plain records of this room: what `prepare` is asked for, and what it hands on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from frisket.data.cached.store import Cache
from frisket.data.control.files import ControlFile
from frisket.families.base import References
from frisket.grid import LatentGrid
from frisket.masks.coverage import CellReading
from frisket.masks.weights import Spread
from frisket.media.captions import PLAIN, Wording
from frisket.media.files import ClipFiles
from frisket.media.frames import ExtractionMode, Media
from frisket.media.geometry import Geometry
from frisket.shapes import Clip, Frames, Plane

# Of one caption, for each region that has a phrase its positions on the text axis, or () where it
# does not stand there.
PhraseRow = tuple[tuple[int, ...], ...]
# By text key: a caption, and the pictures (with their content) the text encoder looks at.
Captions = Mapping[str, tuple[str, tuple[tuple[Path, str], ...]]]
CompositeSpace = Literal["pixel", "latent"]
MaskFrom = Literal["none", "folder", "sidecar", "alpha", "regions", "listed"]


@dataclass(frozen=True, slots=True)
class Masking:
    """Where the masks of a data set come from and how they are read; lengths in pixels."""

    source: MaskFrom = "none"
    folders: Mapping[str, Path] = field(default_factory=dict)  # region -> folder; "" = all regions
    levels: Mapping[str, int] = field(default_factory=dict)
    legend: Mapping[str, int | tuple[int, int, int]] = field(default_factory=dict)
    invert: bool = False
    grow: float = 0.0
    feather: float = 0.0
    fill_holes: bool = False
    pixel_gamma: float = 1.0  # of what weighs the loss, before it is read to cells
    pixel_floor: float = 0.0
    reading: CellReading = "mean"
    prior_reading: CellReading | None = None  # of the mask the prior term sees, if it is another
    require: bool = False  # stop if a clip has no mask
    unmasked: Literal["leave out", "train"] = "leave out"  # clips without, where others have one
    fallback: Path | None = None  # mask of the clips that have none
    unsure: Callable[[ClipFiles], bool] | None = None  # whether a mask was called unsure when made
    shrink: float = 1.0  # smallest share of a mask's reach that a random disc keeps in a draw
    blur: float = 0.0  # largest random blur of a draw, as a share of the mask's shorter side
    variants: int = 8  # of each mask that are drawn from
    role: Literal["loss", "condition", "both"] = "loss"  # condition: the model is shown the rest

    @property
    def drawn(self) -> bool:
        """Whether every draw of a clip sees another variant of its mask."""
        return self.shrink < 1 or self.blur > 0

    def record(self) -> dict[str, Any]:
        """Everything that changes the planes of a clip (not the latent reading or the variants)."""
        return {
            "alpha": self.source == "alpha",
            "levels": dict(self.levels),
            "legend": {
                name: value if isinstance(value, int) else list(value)
                for name, value in self.legend.items()
            },
            "invert": self.invert,
            "grow": float(self.grow),
            "feather": float(self.feather),
            "fill_holes": self.fill_holes,
        }


@dataclass(frozen=True, slots=True)
class Windows:
    """How clips of `frames` frames are taken from longer videos (see `media.frames.extract`)."""

    frames: int | tuple[int, ...] = 1  # of several, the longest that a video has room for
    mode: ExtractionMode = "head"
    stride: int = 1
    samples: int = 1
    max_frames: int = 129
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Controls:
    """Where the control pictures of a data set lie, and what becomes of clips without one."""

    folder: Path | None = None  # None: those that its manifest lists
    leave_out: bool = False  # clips without one stay out of training; else they stop the run


@dataclass(frozen=True, slots=True)
class Clipset:
    """One data set. `resolution` is the side of a square of equal area, or (width, height)."""

    clips: Path  # a folder, or a manifest
    masking: Masking = Masking()
    captions: Path | None = None
    caption: str | None = None
    trigger: str = ""
    dropout: float = 0.0
    shuffle_tags: bool = False
    keep_tags: int | str = 0  # tags that stay in front, or the mark that ends them
    template: str = ""  # of every caption; holds {caption}
    subset_caption: str = ""  # of a draw that teaches some regions alone; holds {phrases}
    wording: Wording = PLAIN
    reject: Path | None = None  # list of clips that are left out
    repeats: int = 1
    weight: float = 1.0
    resolution: int | tuple[int, int] = 512
    keep_aspect: bool = True
    enlarge: bool = True  # clips of less area than the resolution
    windows: Windows = Windows()
    flip: bool = False
    references: Path | None = None  # folder, or manifest, of the pictures an edit model is given
    control: Controls | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """One training clip on its way: frames of a file, cut one way. Holds no pixels."""

    name: str
    clip: Path
    content: str  # hash of the file
    masks: Mapping[str, Path]
    masks_content: Mapping[str, str]
    media: Media
    geometry: Geometry
    masking: Masking
    references: tuple[tuple[Path, str], ...] = ()  # pictures and their content
    control: ControlFile | None = None

    @property
    def shown(self) -> bool:
        """Whether the model is shown what its mask leaves free."""
        return self.masked and self.masking.role != "loss"

    @property
    def masked(self) -> bool:
        """Whether it has a mask."""
        return bool(self.masks) or self.masking.source == "alpha"


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Another background: a file, a drawn one, or the surroundings of another clip (`donor`).

    `words` name it in the caption; empty leaves the caption as it is. `content` tells one from
    another in the cache.
    """

    content: str
    words: str
    path: Path | None = None
    drawn: tuple[str, str] | None = None  # kind, and the colour or the seed
    donor: Window | None = None


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """Background swap: `variants` composites a masked clip, over backdrops chosen by `seed`."""

    backdrops: Sequence[Backdrop]
    variants: int = 8
    template: str = "{caption} on {background}"
    feather: float = 0.0
    despill: float = 0.0
    seed: int = 0
    space: CompositeSpace = "pixel"
    grow: float = 0.0  # pixels the subject's cover is widened by, in latent space


@dataclass(frozen=True, slots=True)
class MixPlan:
    """Seg-Mix: `variants` scenes of `subjects` subjects a masked clip, drawn by `seed`.

    Each subject is pasted at a share of its own size within `scale`, of which at most `overlap` is
    hidden by those pasted after it. `backdrops` are what they stand before; without any, the clip's
    own picture stays and the others are pasted into it. In latent space the scale is 1.
    """

    backdrops: Sequence[Backdrop] = ()
    variants: int = 8
    subjects: int = 2
    scale: tuple[float, float] = (0.5, 1.0)
    overlap: float = 0.1
    template: str = "{a} and {b}"
    background_template: str = "{caption} on {background}"
    despill: float = 0.0
    seed: int = 0
    space: CompositeSpace = "pixel"


@runtime_checkable
class Encoders(Protocol):
    """The frozen models `prepare` needs; loaded when first called, let go by `free`.

    The two records name everything that changes what the models give (family, variant, weights,
    revision, dtype): they are part of the cache keys.
    """

    grid: LatentGrid
    pixels_record: Mapping[str, Any]
    text_record: Mapping[str, Any]

    def encode(
        self, clip: Clip, references: References = (), keep: Plane | None = None
    ) -> Mapping[str, Tensor]:
        """One clip (batch of one, pixels in [-1, 1]): `latents`, and what the denoiser sees of it.

        `references` are its pictures, `keep` (1 = shown) what of it an image-to-video model sees.
        """
        ...

    def embed(self, caption: str, references: References = ()) -> Mapping[str, Tensor]:
        """One caption to conditioning tensors, batch of one."""
        ...

    def free(self) -> None:
        """Let go of what is loaded."""
        ...


@dataclass(frozen=True, slots=True)
class Swapped:
    """One composite of a clip: the keys of its latents and of its caption.

    With `keep` the latents are of the background alone: the clip's own lie over them under that
    plane of cells, which the loader does.
    """

    latents: str
    text: str
    keep: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class MixLayer:
    """A subject of a mix in latent space: the keys of its latents, and of what is cut out of them.

    `shift` says by how many cells it moves (down, right).
    """

    latents: str
    cutout: str
    shift: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mix:
    """Several subjects in one scene: the keys of its latents, caption and coverage.

    With `layers` (latent space) the latents are of what lies below them, and `coverage` of the
    regions in that ("" where it shows none); the loader lays the layers over both.
    """

    latents: str
    text: str
    coverage: str
    layers: tuple[MixLayer, ...] = ()


@dataclass(frozen=True, slots=True)
class PaintedMix:
    """A mix to look at: frames F H W 3 and region to plane F H W, as they are trained on."""

    name: str
    caption: str
    frames: Frames
    planes: Mapping[str, Plane]


@dataclass(frozen=True, slots=True)
class RegionSubset:
    """Some of a clip's regions that have a phrase, and the key of the caption naming just these."""

    text: str
    kept: tuple[str, ...]
    left: tuple[str, ...]  # the others: they weigh nothing in this draw


@dataclass(frozen=True, slots=True)
class Item:
    """One training clip as cache keys. `coverage` is None for a clip without a mask."""

    name: str
    clip: str  # path of the file
    latents: str
    texts: tuple[str, ...]  # one, or several orders of the tags
    coverage: str | None
    shape: tuple[int, int, int]  # latent f h w: the bucket
    weight: float = 1.0
    repeats: int = 1
    dropout: float = 0.0  # share of draws that see the empty caption
    flip: bool = False
    swaps: tuple[Swapped, ...] = ()
    empty: str | None = None  # key of the empty caption, where the caption may be dropped
    weighs: bool = True  # the mask weighs the loss
    reference_sizes: tuple[tuple[int, int], ...] = ()  # pixel sizes of the reference pictures
    # Coverages that a draw takes one of, in place of `coverage`; not in `repr`, see `digest`.
    drawn: tuple[str, ...] = field(default=(), repr=False)
    subsets: tuple[RegionSubset, ...] = field(default=(), repr=False)  # a draw takes one of
    covers: tuple[str, ...] = field(default=(), repr=False)  # regions that its mask touches
    mixes: tuple[Mix, ...] = field(default=(), repr=False)
    picks: tuple[int, ...] = field(default=(), repr=False)  # frames of the file it is made of
    crop: tuple[float, ...] = field(default=(), repr=False)  # top, left, height, width: pixels
    faces: str | None = field(default=None, repr=False)  # key of its faces, where a term asks
    control: str | None = field(default=None, repr=False)  # key of its control picture's pixels
    control_latents: str | None = field(default=None, repr=False)  # of what a net reads of them

    @property
    def bucket(self) -> tuple[tuple[int, ...], ...]:
        """What the clips of one batch have in common."""
        return (self.shape, *self.reference_sizes)


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What `prepare` saw, for the banner. Counts are of training clips, flips not counted twice."""

    clips: int
    masked: int
    unmasked: tuple[str, ...]  # trained on whole
    orphans: tuple[str, ...]
    uncaptioned: tuple[str, ...]
    all_zero: tuple[str, ...]
    all_full: tuple[str, ...]
    thin: tuple[str, ...]  # "clip: region" lost at the latent grid
    silent: int  # clips whose weights are all 0 under the table, before curve and floor
    coverage: Mapping[str, Spread]  # region -> share of the clip, over clips with a mask
    hints: tuple[str, ...] = ()  # what of the folders is not read, a sentence each
    sided: int = 0  # clips that are also flipped and whose caption says left or right
    unnamed_swaps: int = 0  # composites whose caption does not name the new background
    encoded: int = 0  # VAE calls
    covered: int = 0  # coverages made
    embedded: int = 0  # captions embedded
    left: tuple[str, ...] = ()  # clips that stay out, for they have no mask and others do
    lent: tuple[str, ...] = ()  # clips with the fallback mask
    doubted: tuple[str, ...] = ()  # clips that stay out, for their masks were called unsure
    unsure: tuple[str, ...] = ()  # clips trained on with such masks, for none has another
    shared: tuple[str, ...] = ()  # clips of an evaluation set that are trained on as well
    crowded_mixes: int = 0  # mixes left out, for no place was found for their subjects
    unmatched_clips: tuple[str, ...] = ()  # clips with a mask that no other clip can be mixed with


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a run, in order; `held` is kept out of training.

    Of a clip held out it has one window, of a clip of an evaluation set all.
    """

    items: tuple[Item, ...]
    held: tuple[Item, ...]
    regions: tuple[str, ...]
    report: PrepareReport
    cache: Cache
    swap_rate: float = 0.0  # share of draws of a clip with composites that take one
    rebuild: Callable[[], object] | None = None  # makes again what is missing from the cache
    phrases: Mapping[str, PhraseRow] = field(default_factory=dict)  # by text key, where asked for
    mix_rate: float = 0.0  # share of draws of a clip with mixes that take one
    draw_mixes: Callable[[], Sequence[PaintedMix]] | None = None  # some of them, to look at
    mix_sheet: Path | None = None  # picture of these
    face_frames: int = 1  # latent frames of a clip whose faces a draw shows
    control_pixels: bool = True  # batches hold them also beside what a net reads of them

    @property
    def digest(self) -> str:
        """Hash of everything the stream of batches is drawn from, whatever the files are called."""
        whole = hashlib.blake2b(digest_size=16)
        for item in (*self.items, *self.held):
            plain = replace(item, clip="", name="")
            draws = "".join(f"{texts!r}" for texts in (item.drawn, item.subsets) if texts)
            keeps = "".join(swap.keep for swap in item.swaps)
            mixes = f"{item.mixes!r}" if item.mixes else ""
            mixes += f"faces={item.faces}" if item.faces else ""
            mixes += f"control={item.control},{item.control_latents}" if item.control else ""
            line = f"{plain!r}".replace("reference_sizes=", "seen=")  # as runs on disk have it
            whole.update(f"{line}{draws}{keeps}{mixes}\n".encode())
        whole.update(repr((len(self.held), self.regions, self.swap_rate)).encode())
        if self.mix_rate:
            whole.update(repr(self.mix_rate).encode())
        return whole.hexdigest()

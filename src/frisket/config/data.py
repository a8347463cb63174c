"""The part of the configuration that says what is taught from: clips, masks, curve, swap."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from frisket.registry import suggest

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
_Pixels = Annotated[float, Field(ge=0)]

# Named tables for [regions]. A person: the levels 255, 128 and 80 of 255 that trainers with grey
# masks use for face, body and hair.
PRESETS: dict[str, dict[str, float]] = {
    "person": {"face": 1.0, "body": 0.502, "hair": 0.314, "background": 0.0},
}


def read_regions(value: Any) -> Any:
    """The table `[regions]` with its preset laid out; a region without a phrase is its weight.

    ValueError for a region's own table with another key, or with values that have no meaning.
    """
    table = preset(value)
    if not isinstance(table, dict):
        return table
    return {
        name: _read_region(name, entry) if isinstance(entry, dict) else entry
        for name, entry in table.items()
    }


def _read_region(name: str, entry: dict[str, Any]) -> Any:
    for key in entry:
        if key not in ("weight", "phrase"):
            hint = suggest(str(key), ["weight", "phrase"])
            raise ValueError(f"regions: [regions.{name}] has no key {key!r}{hint}")
    weight, phrase = entry.get("weight", 1.0), entry.get("phrase", "")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
        raise ValueError(f"regions: `regions.{name}.weight` should be 0 or more, got {weight!r}")
    if not isinstance(phrase, str) or (phrase and not phrase.strip()):
        raise ValueError(f"regions: `regions.{name}.phrase` should be words, got {phrase!r}")
    if phrase and name == "background":
        raise ValueError("regions: `background` is what no mask covers and has no phrase")
    return {"weight": weight, "phrase": phrase.strip()} if phrase else weight


def preset(value: Any) -> Any:
    """`"person"`, or a table with `preset = "person"` and regions that differ from it."""
    table = {"preset": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("preset"), str):
        return value
    name = table["preset"]
    if name not in PRESETS:
        raise ValueError(f"regions: no preset is named {name!r}{suggest(name, list(PRESETS))}")
    regions: dict[str, Any] = dict(PRESETS[name])
    for region, entry in table.items():
        if isinstance(entry, dict) and region in regions:
            regions[region] = {"weight": regions[region], **entry}
        elif region != "preset":
            regions[region] = entry
    return regions


def _names_manifest(clips: Any) -> bool:
    """Whether `clips` names a manifest."""
    return str(clips).lower().endswith(".jsonl")


class Section(BaseModel):
    """A frozen table; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NamedRegion(Section):
    """A region whose words are known: `[regions.face] weight = 1.0, phrase = "sks"`."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """How much it teaches; may exceed 1."""
    phrase: str
    """What the captions call it: what `losses.attention` steers, and one concept for
    `losses.balance`. It must stand in every caption of a clip whose mask covers the region."""


def list_weights(regions: Mapping[str, float | NamedRegion]) -> dict[str, float]:
    """The weight of each region of a table."""
    return {
        name: entry.weight if isinstance(entry, NamedRegion) else entry
        for name, entry in regions.items()
    }


def list_phrases(regions: Mapping[str, float | NamedRegion]) -> dict[str, str]:
    """Region to phrase, of those that have one."""
    return {name: entry.phrase for name, entry in regions.items() if isinstance(entry, NamedRegion)}


class MaskSource(Section):
    """Where the masks of a data set come from, and how they are read."""

    source: Literal["folder", "sidecar", "alpha", "regions", "listed", "none"] = "folder"
    """folder: matched by stem; sidecar: `name.mask.png`, `name-masklabel.png`; alpha: the clip's
    own transparency; regions: one folder a region; listed: those a `.jsonl` manifest names (its
    default); none."""
    path: Path | None = None
    """Mask folder (source = "folder")."""
    regions: dict[str, Path] = Field(default_factory=dict)
    """Region name to mask folder (source = "regions")."""
    levels: dict[str, int] = Field(default_factory=dict)
    """Grey level of each region, the nearest wins: { face = 255, body = 128, background = 0 }."""
    legend: dict[str, int | tuple[int, int, int]] = Field(default_factory=dict)
    """Index (palette or label PNG) or RGB colour of each region; empty takes the `legend.json` that
    `frisket masks` leaves in the mask folder (for sidecars in the clip folder, for a manifest
    beside it)."""
    invert: bool = False
    """Black teaches, white does not (grey masks and alpha only)."""
    grow: float = 0.0
    """Grow (> 0) or shrink (< 0) every region by so many pixels of the clip."""
    feather: _Pixels = 0.0
    """Soften region borders by so many pixels of the clip."""
    fill_holes: bool = False
    """Close holes inside a region."""
    pixel_gamma: Positive = 1.0
    """Exponent of the mask's pixels before a cell reads them (curve.gamma comes after; grey masks
    and alpha only)."""
    pixel_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Smallest value of a pixel before a cell reads it (curve.floor comes after; grey masks and
    alpha only)."""
    reading: Literal["mean", "max", "min"] | None = None
    """How a latent cell reads its pixels: mean, max (thin or fast regions), min (exclusion); empty
    takes `mean`, or what losses.compat says."""
    fallback: Path | None = None
    """One mask for every clip that has none of its own; it must have their shape."""
    unmasked: Literal["leave out", "train"] = "leave out"
    """Clips without a mask, or with one that `frisket masks` was unsure of, in a set where others
    have one: left out of training and counted aloud, or trained on (without a mask whole). In a set
    where none has a mask all are trained on."""
    require: bool = False
    """Stop if any clip has no mask."""
    shrink: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each draw of a clip sees its mask cut to a random disc, whose radius is at least this share
    of the mask's reach (0.2 is OneTrainer's); 1 leaves masks whole."""
    blur: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Each draw of a clip sees its mask blurred by up to this share of its shorter side (0.005 is
    ai-toolkit's); 0 leaves masks sharp."""
    variants: Annotated[int, Field(ge=2, le=64)] = 8
    """How many shrunk or blurred masks are prepared for each clip, to draw from."""

    @property
    def drawn(self) -> bool:
        """Whether every draw of a clip sees another variant of its mask."""
        return self.shrink < 1 or self.blur > 0

    @model_validator(mode="after")
    def _variants_fit(self) -> "MaskSource":
        if self.drawn and self.source == "none":
            raise ValueError(
                'masks: `shrink` and `blur` change masks, source = "none" has none; leave them out'
            )
        usual = type(self).model_fields["variants"].default  # as `trained.toml` writes it out
        if self.variants != usual and not self.drawn:
            raise ValueError("masks: `variants` are of `shrink` or `blur`: give one of them too")
        return self

    @model_validator(mode="after")
    def _whole(self) -> "MaskSource":
        if self.source == "folder" and self.path is None:
            raise ValueError('masks: source = "folder" needs `path`')
        if self.source == "regions" and not self.regions:
            raise ValueError('masks: source = "regions" needs a table `regions` of name = folder')
        if self.fallback is not None and self.source in ("none", "alpha"):
            raise ValueError(
                f'masks: `fallback` is for clips that lack a mask file, source = "{self.source}"'
                " looks for none"
            )
        if self.fallback is not None and self.require:
            raise ValueError("masks: with a `fallback` no clip lacks a mask; take `require` out")
        return self

    @model_validator(mode="after")
    def _reading_fits(self) -> "MaskSource":
        if self.levels and self.legend:
            raise ValueError(
                "masks: give `levels` (grey values) or `legend` (indices, colours), not both"
            )
        bent = (self.pixel_gamma, self.pixel_floor) != (1, 0)
        if bent and (self.levels or self.legend or self.regions):
            raise ValueError(
                "masks: `pixel_gamma` and `pixel_floor` are for grey masks; with named regions set"
                " [regions], curve.gamma and curve.floor instead"
            )
        if self.invert and (self.levels or self.legend):
            raise ValueError(
                "masks: `invert` is for grey masks; with levels or a legend set the weights instead"
            )
        return self


class ControlSource(Section):
    """Where the control pictures of a data set come from."""

    source: Literal["folder", "listed"] = "folder"
    """folder: matched by stem, as masks are; listed: those a `.jsonl` manifest names."""
    path: Path | None = None
    """Folder of control pictures, videos or folders of frames (source = "folder")."""
    missing: Literal["refuse", "leave out"] = "refuse"
    """Clips without a control picture: they stop the run, or stay out of training."""

    @model_validator(mode="after")
    def _check_path(self) -> "ControlSource":
        if (self.source == "folder") != (self.path is not None):
            raise ValueError(
                'control: source = "folder" needs `path`, and "listed" takes none: the manifest'
                " names the files"
            )
        return self


class Data(Section):
    """One data set; write the table `[[data]]` once for each."""

    clips: Path
    """Folder of images and videos (sub-folders included), or a `.jsonl` manifest that lists them
    (docs/data-sets)."""
    masks: MaskSource = MaskSource(source="none")
    """A folder, "alpha", "sidecar", a table region = folder, or the full table."""
    captions: Path | None = None
    """A folder of `.txt` or a `.jsonl` file; empty reads `name.txt` beside each clip."""
    caption_extension: Annotated[str, Field(pattern=r"^\..+")] = ".txt"
    """How caption files end: `.txt`, `.caption`, ..."""
    caption_part: Literal["paragraph", "line", "file"] = "paragraph"
    """What of a caption file is the caption: its first paragraph as one line, its first line, or
    all of it as it is written."""
    caption: str | None = None
    """One caption for every clip that has none of its own."""
    template: str = ""
    """What stands around every caption, such as "a photo, {caption}"; empty adds nothing."""
    trigger: str = ""
    """Word put before every caption that does not have it."""
    subset_caption: str = ""
    """Union sampling: each draw of a clip teaches a random part of its regions that have a phrase,
    under this caption, such as "a photo of {phrases}"; empty teaches all, under its own caption."""
    caption_dropout: Fraction = 0.0
    """Share of steps that see an empty caption."""
    shuffle_tags: bool = False
    """Shuffle comma-separated tags each epoch (the trigger stays first)."""
    keep_tags: Annotated[int, Field(ge=0)] | str = 0
    """How many tags more stay in front of the shuffled ones, or a mark in the captions ("|||") that
    ends them; after a second mark tags stay at the end."""
    reject: Path | None = None
    """A text file of clips that are left out, one name a line (docs/data-sets); their files stay
    where they are."""
    repeats: Count = 1
    """How often the set is seen in one epoch."""
    weight: Positive = 1.0
    """Weight of these clips in the loss; stays out of the mask's divisor."""
    resolution: int | tuple[int, int] | None = None
    """Pixels: one number is the side of a square of equal area, two are width and height; empty
    takes the variant's own."""
    buckets: bool = True
    """Keep each clip's aspect ratio (cut to the model's steps) instead of one fixed frame."""
    enlarge: bool = True
    """Enlarge clips that are smaller than the resolution; else they keep their own size, cut to the
    model's steps (with buckets)."""
    frames: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Frames of a training clip; empty takes the variant's own, images are always one. Of a list
    each video takes the longest that it has room for."""
    extract: Literal["head", "middle", "chunk", "uniform", "slide", "full"] = "head"
    """How clips are taken from longer videos."""
    stride: Count = 1
    """Frames between two `slide` clips."""
    samples: Count = 1
    """How many `uniform` clips."""
    max_frames: Count = 129
    """Longest `full` clip."""
    fps: Positive | Literal["own"] | None = None
    """Frame rate videos are resampled to; "own" takes every frame, empty the variant's own rate."""
    flip: bool = False
    """Also train each clip mirrored (mask too)."""
    references: Path | None = None
    """Folder of the pictures an edit model is given (`name.png`, or `name_0.png`, `name_1.png`, ...
    for several); empty takes those a manifest lists. The mask is of the clip, never of them. An
    image-to-video model is shown the one picture in place of the clip's first frame."""
    control: ControlSource | None = None
    """Folder of the control pictures (pose, depth, edges) beside the clips, for `[control]`; one
    picture may stand for all frames of a video. "listed" takes those a manifest names."""
    mask_role: Literal["loss", "condition", "both"] = "loss"
    """What a mask does for an image-to-video model: weigh the loss, fill the model's own mask
    channels (1 = kept, so the inverse of the regions), or both."""

    @model_validator(mode="before")
    @classmethod
    def _manifest(cls, value: Any) -> Any:
        """A manifest brings its own masks, unless others are named."""
        if not isinstance(value, dict) or not _names_manifest(value.get("clips")):
            return value
        masks = value.get("masks", {})
        other = not isinstance(masks, dict) or set(masks) - set(MaskSource.model_fields)
        if other or {"source", "path", "regions"} & set(masks):
            return value
        return {**value, "masks": {"source": "listed", **masks}}

    @model_validator(mode="after")
    def _whole(self) -> "Data":
        if isinstance(self.frames, tuple) and self.extract == "full":
            raise ValueError('frames: a list is for videos that are cut; extract = "full" is not')
        if self.masks.drawn and self.mask_role == "condition":
            raise ValueError(
                "masks: `shrink` and `blur` change what the loss weighs, and mask_role ="
                ' "condition" does not weigh it; leave them out'
            )
        if self.masks.source == "listed" and not _names_manifest(self.clips):
            raise ValueError(f'masks: "listed" is for a .jsonl manifest, clips is {self.clips}')
        if self.template and "{caption}" not in self.template:
            raise ValueError("template: must hold {caption}, else every caption would be the same")
        if self.subset_caption and "{phrases}" not in self.subset_caption:
            raise ValueError("subset_caption: must hold {phrases}, the words of what is taught")
        return self

    @model_validator(mode="after")
    def _check_control(self) -> "Data":
        if self.control and self.control.source == "listed" and not _names_manifest(self.clips):
            raise ValueError(f'control: "listed" is for a .jsonl manifest, clips is {self.clips}')
        return self

    @field_validator("control", mode="before")
    @classmethod
    def _read_control(cls, value: Any) -> Any:
        """`"listed"`, a folder, or the full table."""
        if isinstance(value, str | Path):
            return {"source": "listed"} if str(value) == "listed" else {"path": value}
        return value

    @field_validator("masks", mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        """`"alpha"`, `"sidecar"`, a folder, or a plain table of region = folder."""
        if isinstance(value, str | Path):
            if str(value) in ("alpha", "sidecar", "listed", "none"):
                return {"source": str(value)}
            return {"source": "folder", "path": value}
        if isinstance(value, dict) and value and not set(value) & set(MaskSource.model_fields):
            return {"source": "regions", "regions": value}
        return value


class Curve(Section):
    """How coverage becomes weight; applied last, so it never needs a new `prepare`."""

    gamma: Positive = 1.0
    """Exponent of the weights: below 1 lifts soft areas, above 1 lowers them."""
    floor: Fraction = 0.0
    """Smallest weight anywhere; even 0.05 lets the background back in (docs/walk-of-a-mask), 1 is
    as if there were no masks."""
    threshold: Fraction | None = None
    """Cells that weigh more teach fully and all others not at all, before gamma and floor; empty
    keeps soft masks soft."""
    feather_t: _Pixels = 0.0
    """Extra feather in pixels at pure noise, fading to none at t = 0."""
    unmasked_probability: Fraction = 0.0
    """Share of samples, drawn at each step, that train on the whole picture."""

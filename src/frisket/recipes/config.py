"""The whole configuration: every option, its default and its meaning, in one place."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Pixels = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A frozen table; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Model(Section):
    """Which base model is trained, and where its weights lie."""

    family: str = "pocket"
    """Model family (a file name on the shelf of families)."""
    variant: str = ""
    """Variant of the family; empty takes the family's first."""
    source: str = ""
    """Folder, single file or hub id of the weights; empty takes the variant's own."""
    revision: str | None = None
    """Hub revision to pin."""
    device: str = "auto"
    """`auto` (cuda, mps or cpu), or a torch device."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the frozen base; the adapter trains in float32."""


class MaskSource(Section):
    """Where the masks of a data set come from, and how they are read."""

    source: Literal["folder", "sidecar", "alpha", "regions", "none"] = "folder"
    """folder: matched by stem; sidecar: `name.mask.png`, `name-masklabel.png`; alpha: the clip's
    own transparency; regions: one folder a region; none."""
    path: Path | None = None
    """Mask folder (source = "folder")."""
    regions: dict[str, Path] = Field(default_factory=dict)
    """Region name to mask folder (source = "regions")."""
    levels: dict[str, int] = Field(default_factory=dict)
    """Grey level of each region, the nearest wins: { face = 255, body = 128, background = 0 }."""
    legend: dict[str, int | tuple[int, int, int]] = Field(default_factory=dict)
    """Index (palette or label PNG) or RGB colour of each region."""
    invert: bool = False
    """Black teaches, white does not (grey masks and alpha only)."""
    grow: float = 0.0
    """Grow (> 0) or shrink (< 0) every region by so many pixels of the clip."""
    feather: Pixels = 0.0
    """Soften region borders by so many pixels of the clip."""
    fill_holes: bool = False
    """Close holes inside a region."""
    reading: Literal["mean", "max", "min"] = "mean"
    """How a latent cell reads its pixels: mean, max (thin or fast regions), min (exclusion)."""
    require: bool = False
    """Stop if any clip has no mask (else such clips teach everywhere, and are counted aloud)."""

    @model_validator(mode="after")
    def _whole(self) -> "MaskSource":
        if self.source == "folder" and self.path is None:
            raise ValueError('masks: source = "folder" needs `path`')
        if self.source == "regions" and not self.regions:
            raise ValueError('masks: source = "regions" needs a table `regions` of name = folder')
        if self.levels and self.legend:
            raise ValueError(
                "masks: give `levels` (grey values) or `legend` (indices, colours), not both"
            )
        if self.invert and (self.levels or self.legend):
            raise ValueError(
                "masks: `invert` is for grey masks; with levels or a legend set the weights instead"
            )
        return self


class Data(Section):
    """One data set; write the table `[[data]]` once for each."""

    clips: Path
    """Folder of images and videos (sub-folders included)."""
    masks: MaskSource = MaskSource(source="none")
    """A folder, "alpha", "sidecar", a table region = folder, or the full table."""
    captions: Path | None = None
    """A folder of `.txt` or a `.jsonl` file; empty reads `name.txt` beside each clip."""
    caption: str | None = None
    """One caption for every clip that has none of its own."""
    trigger: str = ""
    """Word put before every caption that does not have it."""
    caption_dropout: Fraction = 0.0
    """Share of steps that see an empty caption."""
    shuffle_tags: bool = False
    """Shuffle comma-separated tags each epoch (the trigger stays first)."""
    repeats: Count = 1
    """How often the set is seen in one epoch."""
    weight: Positive = 1.0
    """Weight of these clips in the loss; stays out of the mask's divisor."""
    resolution: int | tuple[int, int] | None = None
    """Pixels: one number is the side of a square of equal area, two are width and height; empty
    takes the variant's own."""
    buckets: bool = True
    """Keep each clip's aspect ratio (cut to the model's steps) instead of one fixed frame."""
    frames: Count | None = None
    """Frames of a training clip; empty takes the variant's own, images are always one."""
    extract: Literal["head", "chunk", "uniform", "slide", "full"] = "head"
    """How clips are taken from longer videos."""
    stride: Count = 1
    """Frames between two `slide` clips."""
    samples: Count = 1
    """How many `uniform` clips."""
    max_frames: Count = 129
    """Longest `full` clip."""
    fps: Positive | None = None
    """Frame rate videos are resampled to; empty takes the variant's own."""
    flip: bool = False
    """Also train each clip mirrored (mask too)."""

    @field_validator("masks", mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        """`"alpha"`, `"sidecar"`, a folder, or a plain table of region = folder."""
        if isinstance(value, str | Path):
            if str(value) in ("alpha", "sidecar", "none"):
                return {"source": str(value)}
            return {"source": "folder", "path": value}
        if isinstance(value, dict) and value and not set(value) & set(MaskSource.model_fields):
            return {"source": "regions", "regions": value}
        return value


class Curve(Section):
    """How coverage becomes weight; applied last, so it never needs a new `prepare`."""

    gamma: Positive = 1.0
    """Exponent of the weights: below 1 lifts soft areas, above 1 lowers them."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Smallest weight anywhere; even 0.05 lets the background back in (docs/walk-of-a-mask)."""
    feather_t: Pixels = 0.0
    """Extra feather in pixels at pure noise, fading to none at t = 0."""
    unmasked_probability: Fraction = 0.0
    """Share of samples, drawn at each step, that train on the whole picture."""


class Swap(Section):
    """Background swap: what the mask excludes is replaced by another background before the VAE."""

    rate: Fraction = 0.0
    """Share of steps that see a swapped clip; 0 turns it off."""
    source: Literal["bank", "folder", "clips", "flat", "gradient", "noise"] = "bank"
    """bank: sampled once from the base model by `prompts`; folder: captioned clips in `path`;
    clips: other clips of the data set outside their own masks; flat, gradient, noise: drawn."""
    path: Path | None = None
    """Folder of captioned backgrounds (source = "folder")."""
    prompts: tuple[str, ...] = ()
    """Background phrases the bank is sampled for (source = "bank")."""
    bank_prompt: str = "nothing on {background}"
    """How a phrase becomes the prompt of an empty scene."""
    bank_seeds: Count = 1
    """Pictures sampled for each phrase."""
    variants: Count = 8
    """Composites cached for each clip."""
    template: str = "{caption} on {background}"
    """How the caption names the new background."""
    feather: Pixels = 0.0
    """Softness of the seam in pixels (a mask's own soft edge is kept)."""
    despill: Fraction = 0.0
    """How strongly the old background's colour is taken out of soft edges."""

    @model_validator(mode="after")
    def _whole(self) -> "Swap":
        if self.rate > 0 and self.source == "folder" and self.path is None:
            raise ValueError('swap: source = "folder" needs `path`')
        if self.rate > 0 and self.source == "bank" and not self.prompts:
            raise ValueError('swap: source = "bank" needs `prompts`, the backgrounds to sample')
        if "{background}" not in self.template:
            raise ValueError("swap: `template` must hold {background}, else the swap goes unnamed")
        return self


class Losses(Section):
    """Loss terms by name: a strength, or a table with `strength` and the term's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, float | dict[str, Any]]

    denoise: float | dict[str, Any] = 1.0
    """Error under the weights. Options: kind = mse | l1 | huber | smooth_l1, delta."""
    prior: float | dict[str, Any] = 0.0
    """Stay with the frozen model outside the mask. Options: threshold, t_min, t_power, warmup,
    teacher."""
    normalise: Literal["sample", "batch", "none", "area", "global"] = "sample"
    """What the weighted error is divided by (docs/walk-of-a-mask)."""
    beta: Fraction = 0.5
    """Exponent of normalise = "area": 0 is `sample`, 1 is `none`."""

    @property
    def terms(self) -> dict[str, dict[str, Any]]:
        """Every term of non-zero strength, as a table with `strength`."""
        named: dict[str, Any] = {
            "denoise": self.denoise,
            "prior": self.prior,
            **(self.__pydantic_extra__ or {}),
        }
        tables = {
            name: dict(value) if isinstance(value, dict) else {"strength": value}
            for name, value in named.items()
        }
        for table in tables.values():
            table.setdefault("strength", 1.0)
        return {name: table for name, table in tables.items() if table["strength"]}


class Timesteps(Section):
    """Which noise levels are trained, and how much each counts."""

    density: Literal["uniform", "logit_normal", "mode"] = "logit_normal"
    """Distribution of t."""
    mean: float = 0.0
    """Mean of logit_normal."""
    std: Positive = 1.0
    """Spread of logit_normal."""
    scale: float = 1.29
    """Scale of mode."""
    shift: Positive | None = None
    """Push towards noise (> 1) or detail (< 1); empty takes the variant's own."""
    low: Fraction = 0.0
    """Smallest t trained."""
    high: Fraction = 1.0
    """Largest t trained."""
    weighting: Literal["none", "sigma_sqrt", "cosmap"] = "none"
    """Loss weight of a noise level."""


class Lora(Section):
    """The adapter."""

    kind: Literal["lora", "dora", "loha", "lokr"] = "lora"
    """Which low-rank form (peft)."""
    rank: Count = 16
    """Rank of the update."""
    alpha: Positive | None = None
    """Scale numerator (update times alpha / rank); empty is the rank."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input."""
    targets: tuple[str, ...] = ()
    """Module name endings (or one regular expression in slashes); empty takes the family's own."""
    exclude: tuple[str, ...] = ()
    """Module name endings to leave alone."""
    source: Path | None = None
    """LoRA file to continue from."""


class Optimizer(Section):
    """How the adapter is updated."""

    name: str = "adamw"
    """Alias (adamw, adamw8bit, prodigy, schedulefree, muon, ...) or import path of a class."""
    lr: Positive = 1e-4
    """Learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer's class."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warm-up."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of linear warm-up."""
    final: Fraction = 0.0
    """Share of the rate left at the last step (linear, cosine)."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 does not clip."""
    accumulate: Count = 1
    """Micro-batches a step."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged adapter that is saved and sampled; 0 turns it off."""


class Validation(Section):
    """Fixed noise and fixed t on held-out clips, for the base and the tuned model."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps between validations; with clips held out there is always one at the end."""
    holdout: Annotated[int, Field(ge=0)] = 0
    """How many clips are kept out of training for it."""
    t: tuple[Fraction, ...] = (0.25, 0.5, 0.75, 0.9)
    """Noise levels that are looked at."""


class Preview(Section):
    """Sample grids during training."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps between previews; 0 turns them off."""
    prompts: tuple[str, ...] = ()
    """What is sampled."""
    seeds: tuple[int, ...] = (0,)
    """One column a seed."""
    negative: str = ""
    """Negative prompt."""
    steps: Count | None = None
    """Sampling steps; empty takes the variant's own."""
    guidance: float | None = None
    """Guidance scale; empty takes the variant's own."""
    width: Count | None = None
    """Pixels; empty takes the variant's own."""
    height: Count | None = None
    """Pixels; empty takes the variant's own."""
    frames: Count | None = None
    """Frames; empty takes the variant's own."""


class Run(Section):
    """One training run."""

    output: Path = Path("runs/first")
    """Where everything the run makes is written."""
    cache: Path = Path(".frisket-cache")
    """Prepared latents, text and coverage (content-addressed: share it freely between runs)."""
    steps: Count = 1000
    """Optimizer steps."""
    batch: Count = 1
    """Clips a micro-batch."""
    seed: int = 0
    """Seed of noise, order, captions and initial weights."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Autocast precision of the forward pass."""
    checkpointing: bool = False
    """Gradient checkpointing: less memory, more time."""
    save_every: Annotated[int, Field(ge=0)] = 500
    """Steps between checkpoints; 0 saves only at the end (and when interrupted)."""
    keep: Count = 3
    """Checkpoints kept."""
    resume: bool = True
    """Go on from the newest checkpoint in `output`."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Besides metrics.jsonl, which is always written."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch; 0 leaves it to torch."""


class Config(Section):
    """A Frisket project. Paths are relative to the config file."""

    model: Model = Model()
    data: tuple[Data, ...] = ()
    regions: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=lambda: {"subject": 1.0}
    )
    """Weight of each named region, and of `background` (default 0); weights may exceed 1."""
    curve: Curve = Curve()
    swap: Swap = Swap()
    losses: Losses = Losses()
    timesteps: Timesteps = Timesteps()
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    validation: Validation = Validation()
    preview: Preview = Preview()
    run: Run = Run()

    @model_validator(mode="after")
    def _regions_known(self) -> "Config":
        if not set(self.regions) - {"background"}:
            raise ValueError("regions: name at least one region besides `background`")
        for data in self.data:
            named = set(data.masks.regions) | set(data.masks.levels) | set(data.masks.legend)
            unknown = sorted(named - set(self.regions) - {"background"})
            if unknown:
                raise ValueError(
                    f"regions: {data.clips} has masks of {unknown} but [regions] gives them no"
                    " weight"
                )
        return self

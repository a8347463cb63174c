"""The whole configuration: every option, its default and its meaning."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_serializer, model_validator

from frisket.config.composites.tables import Mixes, Swap
from frisket.config.control.tables import Control
from frisket.config.data import (
    Count,
    Curve,
    Data,
    Fraction,
    MaskSource,
    NamedRegion,
    Positive,
    Section,
    list_phrases,
    list_weights,
    read_regions,
)
from frisket.config.identity.tables import IdentityTable
from frisket.config.image_adapter.tables import ImageAdapterTraining
from frisket.config.lora import Lora
from frisket.config.maskgen import MaskGeneration
from frisket.config.presets.lay import lay_under, plan_for
from frisket.config.previews.tables import Preview
from frisket.config.timesteps import Noise, Timesteps
from frisket.config.tokens.tables import PatchMasking, Routing

__all__ = ["Config", "Data", "Lora", "MaskSource", "Preview", "Run", "Section"]

ScheduleName = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "rex",
    "warmup_stable_decay",
]  # as `frisket.training.schedules.RateSchedule`, which imports torch

FAMILY = "pocket"  # where none is named: ships with the package, for tiny pictures


class Model(Section):
    """Which base model is trained, and where its weights lie."""

    family: str = FAMILY
    """Model family (a file name on the shelf of families)."""
    variant: str = ""
    """Variant of the family; empty takes the family's first."""
    source: str = ""
    """Folder, single file or hub id of the weights; empty takes the variant's own."""
    revision: str | None = None
    """Hub revision to pin."""
    device: str = "auto"
    """`auto` (cuda, mps or cpu), or a torch device."""
    experts: Literal["both", "high", "low"] = "both"
    """Which experts of a two-expert model (Wan 2.2 A14B) are trained: high noise, low noise."""
    train: Literal["lora", "image_adapter", "controlnet", "all"] = "lora"
    """What is trained: a LoRA on the frozen base, an [image_adapter] on it, a ControlNet beside it,
    or `all` weights of the denoiser (docs/train-image-adapter, docs/control,
    docs/train-all-weights)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the frozen base; the adapter trains in float32, and so do all weights
    (`train = "all"`)."""
    clip_skip: Annotated[int, Field(ge=0, le=12)] = 0
    """Layer of the text encoder that is read, from the last (Stable Diffusion 1.5): 2 is the last
    but one, as many anime models want; 0 and 1 are the last."""
    max_tokens: Literal[75, 150, 225] = 75
    """Longest prompt (Stable Diffusion): past 75 tokens it is read in pieces of 75."""


Strength = Annotated[float, Field(ge=0)]  # below 0 a term would train away from what it is for


class Losses(Section):
    """Loss terms by name: a strength, or a table with `strength` and the term's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Strength | dict[str, Any]]

    denoise: Strength | dict[str, Any] = 1.0
    """Error under the weights. Options: kind = mse | l1 | huber | smooth_l1, delta."""
    prior: Strength | dict[str, Any] = 0.0
    """Stay with the frozen model outside the mask. Options: threshold, alone, t_min, t_power,
    warmup, teacher, normalise, kind, delta."""
    attention: Strength | dict[str, Any] = 0.0
    """The phrases of [regions] attend to their regions (docs/region-tokens). Options: form = ratio
    | mse | balanced | pixel | overlap, layers, softmax, t_min, t_max."""
    reconstruction: Strength | dict[str, Any] = 0.0
    """What lies in the noisy latents where [patch_masking] left tokens out (docs/maskdit)."""
    identity: Strength | dict[str, Any] = 0.0
    """The face in a region looks like the person (docs/identity-loss). Options: t_max, region,
    frames, embedder, embedder_source, references, detector, detector_source."""
    consistency: Strength | dict[str, Any] = 0.0
    """The decoded prediction has the structure of the clip or of its control picture
    (docs/control-terms). Options: t_max, where, extractor = edges | canny | luma | colours | depth,
    source, target, kind, frames, average."""
    teacher: Strength | dict[str, Any] = 0.0
    """Stay with the base beside its ControlNet outside the mask (docs/control-terms). Options:
    t_min, normalise, kind, delta."""
    balance: Literal["none", "concepts"] = "none"
    """concepts: regions with a phrase teach equally over the data set, however rare or small."""
    normalise: Literal["sample", "batch", "none", "area", "global"] | None = None
    """What the weighted error is divided by (docs/walk-of-a-mask); empty takes `sample`, or what
    `compat` says."""
    beta: Annotated[float, Field(ge=0)] | None = None
    """Exponent of normalise = "area": 0 is `sample`, 1 is `none`; empty takes 0.5. With compat =
    "blissful" its mask_area_scale_beta, which may be above 1; empty takes 0."""
    compat: Literal[
        "", "kohya", "onetrainer", "simpletuner", "ai-toolkit", "diffusion-pipe", "blissful"
    ] = ""
    """Compute the masked loss of another trainer, so that learning rates keep their meaning
    (docs/compat); empty is Frisket's own."""

    @model_validator(mode="after")
    def _beta_fits(self) -> "Losses":
        if self.beta is not None and self.beta > 1 and self.compat != "blissful":
            raise ValueError(
                f"`losses.beta` should be between 0 and 1, got {self.beta:g} (between `sample` and"
                ' `none`); only compat = "blissful" knows more'
            )
        return self

    @property
    def terms(self) -> dict[str, dict[str, Any]]:
        """Every term of non-zero strength, as a table with `strength`."""
        named: dict[str, Any] = {
            "denoise": self.denoise,
            "prior": self.prior,
            "attention": self.attention,
            "reconstruction": self.reconstruction,
            "identity": self.identity,
            "consistency": self.consistency,
            "teacher": self.teacher,
            **(self.__pydantic_extra__ or {}),
        }
        tables = {
            name: dict(value) if isinstance(value, dict) else {"strength": value}
            for name, value in named.items()
        }
        for table in tables.values():
            table.setdefault("strength", 1.0)
        return {name: table for name, table in tables.items() if table["strength"]}


class Memory(Section):
    """What a run does to fit its card; docs/memory says what each costs."""

    quantise: Literal["none", "nf4", "int8", "fp8"] = "none"
    """Frozen weights of the denoiser: nf4 (bitsandbytes), int8 or fp8 (torchao)."""
    storage: Literal["same", "float8"] = "same"
    """float8 keeps the frozen weights in 8 bits and computes in model.dtype, layer by layer."""
    checkpointing: bool = False
    """Gradient checkpointing: activations of a block are computed again instead of kept."""
    swap_blocks: Annotated[int, Field(ge=0)] = 0
    """Blocks of the denoiser that wait on the CPU until they are needed."""
    tile_vae: bool = False
    """Encode and decode in tiles: long or large clips on small cards."""
    compile: bool = False
    """torch.compile, block by block."""
    attention: str = ""
    """Attention backend of diffusers (`native`, `flash`, `_native_efficient`, ...); empty leaves
    it as it is."""


class Optimizer(Section):
    """How the adapter is updated."""

    name: str = "adamw"
    """Alias (adamw, adamw8bit, prodigy, schedulefree, muon, ...) or import path of a class."""
    trust: bool = False
    """Import `name` where it is a path into a module of your own choice. That runs the module: set
    it only for code you trust. Paths into the modules behind the aliases need it not."""
    lr: Positive = 1e-4
    """Learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer's class."""
    lora_plus: Annotated[float, Field(ge=0)] = 0.0
    """LoRA+: rate of B, as a multiple of A's (16 is usual); 0 gives both the same."""
    schedule: ScheduleName = "constant"
    """Learning rate after warm-up (docs/training)."""
    warmup: Annotated[int | float, Field(ge=0)] = 0
    """Steps of linear warm-up; below 1, a share of all steps."""
    cycles: Positive = 1.0
    """Restarts of cosine_with_restarts; for cosine, half waves (2 goes down and up again)."""
    power: Positive = 1.0
    """Exponent of polynomial."""
    decay: Annotated[int | float, Field(ge=0)] = 0.2
    """Steps of the decay of warmup_stable_decay; below 1, a share of all steps."""
    final: Fraction = 0.0
    """Share of the rate left at the last step (every schedule but constant)."""
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
    every_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs between validations, besides."""
    holdout: Annotated[int, Field(ge=0)] = 0
    """How many clips are kept out of training for it (of those with a mask, where some have)."""
    data: tuple[Data, ...] = ()
    """Data sets of its own: write `[[validation.data]]` once for each, with the keys of
    `[[data]]`."""
    t: tuple[Fraction, ...] = (0.25, 0.5, 0.75, 0.9)
    """Noise levels that are looked at."""

    @model_validator(mode="after")
    def _masks_stay(self) -> "Validation":
        for data in self.data:
            if data.masks.drawn:
                raise ValueError(
                    f"validation: {data.clips} is measured under its masks as they are; leave"
                    " masks.shrink and masks.blur out"
                )
        return self


class Run(Section):
    """One training run: its folders, its length, what it saves and how it computes."""

    output: Path = Path("runs/first")
    """Where everything the run makes is written."""
    cache: Path = Path(".frisket-cache")
    """Prepared latents, text and coverage (content-addressed: share it freely between runs)."""
    steps: Count = 1000
    """Optimizer steps."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the prepared clips (repeats counted); above 0 they decide, not `steps`."""
    batch: Count = 1
    """Clips a micro-batch."""
    seed: int = 0
    """Seed of noise, order, captions and initial weights."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Autocast precision of the forward pass."""
    save_every: Annotated[int, Field(ge=0)] = 500
    """Steps between checkpoints; 0 saves only at the end (and when interrupted)."""
    save_every_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs between checkpoints, besides."""
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

    preset: Literal["", "character", "object", "style", "motion"] = ""
    """Settings that were measured, under whatever the file says itself (docs/presets); `frisket
    explain` shows them. Stands above all sections; empty is the defaults."""
    model: Model = Model()
    data: tuple[Data, ...] = ()
    regions: dict[str, Annotated[float, Field(ge=0)] | NamedRegion] = Field(
        default_factory=lambda: dict[str, float | NamedRegion](subject=1.0)
    )
    """Weight of each named region, and of `background` (default 0); weights may exceed 1. A table
    `[regions.face]` has `weight` and `phrase`, what the captions call it.
    `"person"`, or `preset = "person"` in the table, is face 1.0, body 0.502, hair 0.314."""
    curve: Curve = Curve()
    swap: Swap = Swap()
    mix: Mixes = Mixes()
    losses: Losses = Losses()
    routing: Routing = Routing()
    patch_masking: PatchMasking = PatchMasking()
    timesteps: Timesteps = Timesteps()
    noise: Noise = Noise()
    lora: Lora = Lora()
    image_adapter: ImageAdapterTraining = ImageAdapterTraining()
    control: Control = Control()
    memory: Memory = Memory()
    optimizer: Optimizer = Optimizer()
    validation: Validation = Validation()
    preview: Preview = Preview()
    identity: tuple[IdentityTable, ...] = ()
    run: Run = Run()
    maskgen: MaskGeneration = MaskGeneration()

    @model_validator(mode="before")
    @classmethod
    def _lay_preset(cls, tree: Any) -> Any:
        """What the file says over what its preset says over the defaults."""
        plan = plan_for(tree, FAMILY) if isinstance(tree, dict) else None
        return lay_under(tree, plan) if plan else tree

    @model_serializer(mode="wrap")
    def _leave_out_masks(self, write: Any) -> dict[str, Any]:
        """How masks are made only where something is said of it: it is no part of a run.

        So with methods of sampling.
        """
        tree: dict[str, Any] = write(self)
        if not self.identity:
            tree.pop("identity", None)
        if self.maskgen == type(self.maskgen)():
            tree.pop("maskgen", None)
        return tree

    @property
    def region_weights(self) -> dict[str, float]:
        """The weight of each region of the table, and of `background` where it is named."""
        return list_weights(self.regions)

    @property
    def phrases(self) -> dict[str, str]:
        """Region to phrase, of those that have one, in the order of the table."""
        return list_phrases(self.regions)

    @field_validator("regions", mode="before")
    @classmethod
    def _read_regions(cls, value: Any) -> Any:
        return read_regions(value)

    @model_validator(mode="after")
    def _rates_fit(self) -> "Config":
        if self.optimizer.lora_plus and self.lora.kind in ("loha", "lokr"):
            raise ValueError(
                f"optimizer: `optimizer.lora_plus` = {self.optimizer.lora_plus:g} is for lora and"
                f" dora, a {self.lora.kind} has no A and B; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_adapter(self) -> "Config":
        options = self.lora
        acts = bool(options.rank_schedule) or options.orthogonal or options.confine is not None
        if acts and self.memory.compile:
            raise ValueError(
                "memory: `memory.compile` would freeze what the adapter is multiplied by"
                " (lora.rank_schedule, lora.orthogonal, lora.confine); set it to false"
            )
        return self

    @model_validator(mode="after")
    def _mix_fits(self) -> "Config":
        if self.mix.rate and self.mix.ground == "swap" and not self.swap.rate:
            raise ValueError(
                'mix: ground = "swap" takes the backgrounds of [swap]: set swap.rate, or another'
                " `ground`"
            )
        return self

    @model_validator(mode="after")
    def _regions_known(self) -> "Config":
        if not set(self.regions) - {"background"}:
            raise ValueError("regions: name at least one region besides `background`")
        for data in (*self.data, *self.validation.data):
            named = set(data.masks.regions) | set(data.masks.levels) | set(data.masks.legend)
            unknown = sorted(named - set(self.regions) - {"background"})
            if unknown:
                raise ValueError(
                    f"regions: {data.clips} has masks of {unknown} but [regions] gives them no"
                    " weight"
                )
        return self

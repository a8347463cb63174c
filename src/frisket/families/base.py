"""The contract of a model family: all that differs between one diffusion model and the next."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer
from frisket.attention.tokens import Spans
from frisket.families.key_map import Names
from frisket.families.routes import TokenRoutes
from frisket.families.streams import Streams
from frisket.families.suggestions import Suggestions
from frisket.grid import LatentGrid
from frisket.objectives.base import Objective
from frisket.objectives.kinds import Density, LevelWeighting
from frisket.objectives.shift import SizeShift
from frisket.objectives.timesteps import TimestepSampler
from frisket.registry import Shelf
from frisket.shapes import Clip, Latents, PerSample, Picture, Plane

Conditioning = Mapping[str, Tensor]  # what the denoiser is told; every tensor batch first
References = Sequence[Picture]  # pictures beside one clip: each 1 H W 3, uint8, at its own size
TOKENS = 75  # that CLIP reads at once, between begin and end
CLEAN_MASK = (
    "given"  # conditioning b 1 f h w: 1 where the model is handed the clean latents; no loss
)


class WeightsNotFound(FileNotFoundError):
    """A source that holds no weights of the asked-for part; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One released model of a family."""

    repo: str  # hub id of the diffusers weights, the default source
    grid: LatentGrid
    frames: int = 1  # default clip length in frames (1: an image model)
    height: int = 512
    width: int = 512
    fps: float = 16.0
    steps: int = 30  # sampling defaults
    guidance: float = 5.0
    shift: float = 1.0  # of the timestep density and the sampler, at the size above
    size_shift: SizeShift | None = None  # where its sampler's shift follows the size of the clip
    density: Density = "logit_normal"  # of the timesteps it is trained at
    mean: float = 0.0  # of that density, where it is logit_normal
    std: float = 1.0
    sees: Literal["nothing", "first_frame", "pictures"] = "nothing"  # besides the text
    hands_over: bool = False  # its latent frame 0 of a video is given clean (see `CLEAN_MASK`)
    pooled_time: bool = False  # its VAE's norms pool over the clip: later frames move earlier cells
    negative: bool = True  # sampling takes a negative prompt (classifier-free guidance)
    experts: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # name -> range of t
    clip_skip: bool = False  # its text encoder can be read some layers before the last
    max_tokens: int = TOKENS  # of the longest prompt that can be asked for, in pieces of 75
    quantises: bool = True  # its denoiser's frozen weights can be held in fewer bits
    like: str = ""  # variant of the same code path and tiny parts: tests run that one
    architecture: str = ""  # modelspec.architecture of its LoRAs, without the "/lora"
    aliases: tuple[str, ...] = ()  # as `Family.aliases`, where they say this variant
    lora_targets: tuple[str, ...] | None = None  # where they are not the family's
    lora_dead: tuple[str, ...] | None = None
    names: Names | None = None

    @property
    def auto_shift(self) -> float | SizeShift:
        """What the model's own sampler shifts by: a law of the size, or one number."""
        return self.shift if self.size_shift is None else self.size_shift

    @property
    def video(self) -> bool:
        """Whether the model makes more than one frame."""
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights lie: a folder, a single file or a hub id; empty is the variant's own."""

    variant: str
    path: str = ""
    revision: str | None = None
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    quantise: Literal["none", "nf4", "int8", "fp8"] = "none"  # the denoiser's frozen weights
    experts: tuple[str, ...] = ()  # which of the variant's experts to load; empty is all
    clip_skip: int = 0  # CLIP's hidden states are read there, counted from the last (1; so is 0)
    max_tokens: int = TOKENS  # of a prompt, begin and end not counted

    @property
    def reading(self) -> dict[str, int]:
        """How prompts are read where the model's own way was not asked for: for keys, records."""
        skip = {"clip_skip": self.clip_skip} if self.clip_skip > 1 else {}
        return skip | ({"max_tokens": self.max_tokens} if self.max_tokens != TOKENS else {})

    @property
    def local(self) -> Path | None:
        """The path on this machine, or None for a hub id."""
        return (
            Path(self.path).expanduser()
            if self.path and Path(self.path).expanduser().exists()
            else None
        )


@dataclass(slots=True)
class Parts:
    """The loaded models of one variant; any may be None while not needed (memory)."""

    variant: str
    vae: nn.Module | None = None
    text: nn.Module | None = None
    denoiser: nn.Module | None = None
    vision: nn.Module | None = None  # image encoder, where the variant has one


@runtime_checkable
class Family(Protocol):
    """One file under `families/models` binds an instance to `FAMILY`."""

    name: str
    variants: Mapping[str, Variant]
    # How ss_base_model_version and modelspec.architecture begin in other trainers' LoRA files: in
    # lower case, with a dash for whatever is no letter and no digit. The longest that fits counts.
    aliases: tuple[str, ...]
    suggestions: Suggestions  # what `init` writes and `evaluate` samples without being told
    # Module name endings (or expressions, see adapters.targets) an adapter is put on by default.
    lora_targets: tuple[str, ...]
    lora_dead: tuple[str, ...]  # `blocks.{}.name`s that never learn in the last block of their kind
    lora_conv: tuple[str, ...]  # what `lora.conv_rank` adds to the targets; () where it is not for
    # Other choices of layers by name (`lora.preset`): OneTrainer's words and layers where it has
    # them. `attn` and `full` are in all.
    lora_presets: Mapping[str, tuple[str, ...]]
    lora_prefix: str  # of the keys in a LoRA file: "transformer" or "unet"
    names: Names  # what the authors' release calls the denoiser's layers

    # Whether its denoiser leaves out the tokens that `routes.keep_tokens` does not name, from its
    # first block on, and still predicts all (MaskDiT): what [patch_masking] is for.
    leaves_out_tokens: bool

    @property
    def denoiser_folder(self) -> str:
        """Where `save` writes a denoiser of one piece, below its folder."""
        ...

    @property
    def streams(self) -> Streams:
        """Whose rows its denoiser's modules work on, and what a call of it is about."""
        ...

    @property
    def routes(self) -> TokenRoutes | None:
        """How its blocks take a part of the image's tokens; None where they cannot (UNets)."""
        ...

    @property
    def default(self) -> str:
        """The variant that is meant where none is named."""
        ...

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Objective:
        """What the model was trained to predict; `timesteps` overrides the variant's density.

        ValueError for a weighting that the objective does not know: `min_snr` (gamma; 0 is off) is
        for epsilon and v models, the `weighting` of noise levels for flow models.
        """
        ...

    def load_vae(self, source: Source) -> nn.Module:
        """Load the VAE, frozen, in eval mode."""
        ...

    def load_text(self, source: Source) -> nn.Module:
        """Load tokenizer and text encoder as one frozen module."""
        ...

    def load_tokenizer(self, source: Source) -> nn.Module:
        """Load what `read_spans` reads prompts with: tokenizers alone, no encoder or weights."""
        ...

    def load_vision(self, source: Source) -> nn.Module | None:
        """Load the image encoder, frozen; None for a variant that has none."""
        ...

    def load_denoiser(self, source: Source) -> nn.Module:
        """Load the UNet or transformer, frozen; `Experts` where the variant has several."""
        ...

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Pixels in [-1, 1] to latents, normalised as the public pipeline normalises."""
        ...

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, in [-1, 1]; gradients flow to the latents."""
        ...

    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """Prompts to conditioning tensors, batch first.

        `references` are the pictures of each prompt, for models whose text encoder looks at them;
        others leave them alone. Texts of different lengths are padded with zeros along dim 1, and
        a mask then says (1 or 0, dim 1) which tokens are there.
        """
        ...

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """For each position of a prompt's text axis, the characters of the prompt it stands for.

        `text` is what `load_tokenizer` or `load_text` gave, `references` as for `embed`. The axis
        is dim 1 of the conditioning's text as `embed` makes it of that prompt alone: a position is
        None where no character of the prompt is (specials, padding, the words of a chat template,
        a picture). The characters are those of the prompt as it is given, also where the family
        tidies it up first. Characters that no position has are not read: they were cut off.
        ValueError where a tokenizer does not say which characters a token is of.
        """
        ...

    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: References = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """What the denoiser sees besides text, of one clip (batch of one); {} for text alone.

        A `first_frame` model sees the first frame of `clip`, or the one reference in its place,
        and, where `keep` (F H W, 1 = shown) is given, those pixels of it as well. A `pictures`
        model sees `references`, resized as its pipeline does. Clean latents that are handed over
        carry no loss: see `CLEAN_MASK`.
        """
        ...

    def hold_condition(
        self, pipeline: Any, conditioning: Conditioning
    ) -> AbstractContextManager[None]:
        """Inside, `pipeline` samples under what `image_conditioning` gave of one clip.

        That is in place of what the pipeline makes of its first frame; every sample of a batch gets
        the same. ValueError where the model is shown no clip.
        """
        ...

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The model's prediction as `b c f h w`, in the sign and scale of the objective's target.

        Packing, timestep convention and extra inputs are hidden in here.
        """
        ...

    def list_attention_layers(self, denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
        """Where pictures attend to the prompt, in the order of the forward pass; () where unknown.

        `denoiser` is one plain model: wrappers and `Experts` taken off, adapters attached.
        """
        ...

    def pipeline(self, parts: Parts) -> Any:
        """The public diffusers pipeline over the loaded parts; `text` may be None (see `call`)."""
        ...

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """What the pipeline is called with besides size, steps, generator and output type.

        `positive` and `negative` are what `embed` gave (`negative` is None where nothing is guided
        away from), so that no text encoder is needed any more. `guidance` is on the variant's own
        scale. `references` are the first frame, or the pictures, of every sample alike.
        """
        ...

    def tiny(self, variant: str) -> Parts:
        """Random two-layer parts, float32 on the CPU, seeded: contract tests in seconds."""
        ...

    def rehearsal_parts(self, source: Source) -> Parts:
        """`tiny`, but what is embedded with it is about as long as with `source`.

        That is what `embed` and `image_conditioning` give. The memory prediction takes the lengths
        of the conditioning from these parts, and its widths from `conditioning_widths`.
        """
        ...

    def conditioning_widths(self, config: Mapping[str, Any]) -> Mapping[str, int]:
        """By name, what a denoiser's configuration says of the widths of conditioning tensors.

        It may say more: a tensor of `tiny` is matched with the numbers that it is as wide as.
        """
        ...

    def save(self, parts: Parts, folder: Path) -> None:
        """Write parts in the layout that `load_*` reads (diffusers' `save_pretrained`)."""
        ...


def layer_names(family: Family, variant: str) -> Names:
    """What a variant's own release calls the denoiser's layers."""
    own = family.variants[variant].names
    return family.names if own is None else own


def default_targets(family: Family, variant: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where an adapter goes by default, and what of that never learns (targets, dead)."""
    card = family.variants[variant]
    return (
        family.lora_targets if card.lora_targets is None else card.lora_targets,
        family.lora_dead if card.lora_dead is None else card.lora_dead,
    )


def choose_targets(
    family: Family, variant: str, *, preset: str = "", conv: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where an adapter goes under a preset, and on convolutions besides (targets, dead).

    ValueError for a preset that the family does not have, and where it has no convolutions.
    """
    targets, dead = default_targets(family, variant)
    if preset:
        if preset not in family.lora_presets:
            known = ", ".join(sorted(family.lora_presets))
            raise ValueError(f"{family.name} has no preset {preset!r}; there are: {known}")
        targets = family.lora_presets[preset]
    if conv and not family.lora_conv:
        raise ValueError(
            f"{family.name} has no convolutions that a LoRA is put on; leave lora.conv_rank out"
        )
    return (*targets, *(family.lora_conv if conv else ())), dead


FAMILIES: Shelf[Family] = Shelf("frisket.families.models", "FAMILY", "frisket.families")

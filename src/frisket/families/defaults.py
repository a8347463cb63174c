"""What families of diffusers components have in common: a text bundle, defaults, saving."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer
from frisket.attention.tokens import Spans
from frisket.families.base import Conditioning, Parts, References, Source, Variant
from frisket.families.experts import experts_of
from frisket.families.presets import presets
from frisket.families.routes import TokenRoutes
from frisket.families.shared.attention.layers import list_attention_layers
from frisket.families.streams import Streams, Unstated
from frisket.families.suggestions import Suggestions
from frisket.objectives.base import Objective
from frisket.objectives.flow import Flow
from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, Plane


class TextBundle(nn.Module):
    """Tokenizers, processors and text encoders as one module, under the pipeline's names."""

    def __init__(self, **parts: Any) -> None:
        """Hold them; only the modules among them have weights."""
        super().__init__()
        self.names = tuple(parts)
        for name, part in parts.items():
            setattr(self, name, part)

    def parts(self) -> dict[str, Any]:
        """By name, for the pipeline's constructor."""
        return {name: getattr(self, name) for name in self.names}


def parts_of(text: nn.Module | None, *names: str) -> dict[str, Any]:
    """What a pipeline's constructor takes for the text: the bundle's parts, or None for each."""
    if text is None:
        return dict.fromkeys(names)
    assert isinstance(text, TextBundle)
    return text.parts()


class Standard:
    """Defaults of the contract for a flow model that sees nothing but text.

    TypeError for a family written for the name `image_conditioning` had before: it would see
    nothing but text without a word.
    """

    def __init_subclass__(cls) -> None:
        """Refuse the earlier name."""
        if "observe" in vars(cls):
            raise TypeError(f"{cls.__name__}.observe is called image_conditioning now: rename it")

    variants: Mapping[str, Variant]
    aliases: tuple[str, ...] = ()
    suggestions = Suggestions()
    lora_dead: tuple[str, ...] = ()
    lora_conv: tuple[str, ...] = ()
    streams: Streams = Unstated(())
    routes: TokenRoutes | None = None
    leaves_out_tokens = False
    lora_presets: Mapping[str, tuple[str, ...]] = presets()
    lora_prefix: str

    @property
    def denoiser_folder(self) -> str:
        """As the pipeline names it, which LoRA files do too."""
        return self.lora_prefix

    @property
    def default(self) -> str:
        """The first there is."""
        return next(iter(self.variants))

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Objective:
        """Rectified flow at the variant's density, pushed towards noise by its shift."""
        if min_snr:
            raise ValueError(
                "timesteps.min_snr is for models that predict epsilon or v; this one predicts a"
                " flow: use timesteps.weighting"
            )
        card = self.variants[variant]
        sampler = timesteps or TimestepSampler(
            card.density, mean=card.mean, std=card.std, shift=card.auto_shift
        )
        return Flow(sampler, weighting)

    def load_tokenizer(self, source: Source) -> nn.Module:
        """ValueError: a family that does not say where words are cannot be asked for phrases."""
        raise ValueError(self._explain_refusal())

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """ValueError that says what the family has to write, as `load_tokenizer`."""
        raise ValueError(self._explain_refusal())

    def _explain_refusal(self) -> str:
        return (
            f"{type(self).__name__} does not say which token a word of the prompt is: leave phrases"
            " out, or write its load_tokenizer and read_spans (frisket.families.base)"
        )

    def load_vision(self, source: Source) -> nn.Module | None:
        """None: a model of text alone has no image encoder."""
        return None

    def image_conditioning(
        self,
        vae: nn.Module,
        vision: nn.Module | None,
        clip: Clip,
        references: References = (),
        keep: Plane | None = None,
    ) -> Conditioning:
        """Nothing is shown to a model of text alone: {}."""
        return {}

    def hold_condition(
        self, pipeline: Any, conditioning: Conditioning
    ) -> AbstractContextManager[None]:
        """ValueError: a family that is shown no clip samples under none."""
        raise ValueError(
            f"{type(self).__name__} has no model that goes on from a clip: take a family with an"
            " image-to-video variant, or write its hold_condition (frisket.families.base)"
        )

    def list_attention_layers(self, denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
        """Those of diffusers' own models; () for a model of another class."""
        return list_attention_layers(denoiser)

    def pipeline(self, parts: Parts) -> Any:
        """Every family has a pipeline of its own."""
        raise NotImplementedError

    def tiny(self, variant: str) -> Parts:
        """Every family has tiny parts of its own."""
        raise NotImplementedError

    def rehearsal_parts(self, source: Source) -> Parts:
        """`tiny`, where the conditioning it makes is about as long as the released models'."""
        return self.tiny(source.variant)

    def conditioning_widths(self, config: Mapping[str, Any]) -> dict[str, int]:
        """The whole numbers of the configuration; of a list, its last."""
        widths = {}
        for name, value in config.items():
            last = value[-1] if isinstance(value, list | tuple) and value else value
            if type(last) is int:
                widths[name] = last
        return widths

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the whole pipeline as diffusers folders, safetensors only.

        ValueError where a part is missing or an adapter sits on the denoiser.
        """
        lacking = [name for name in ("vae", "text", "denoiser") if getattr(parts, name) is None]
        if lacking or parts.denoiser is None:
            raise ValueError(f"nothing written to {folder}: {', '.join(lacking)} not loaded")
        if any(
            getattr(model, "peft_config", None) for model in experts_of(parts.denoiser).values()
        ):
            raise ValueError(
                f"nothing written to {folder}: an adapter is attached to the denoiser. Save it"
                " with frisket.adapters.lora.save and detach it first."
            )
        self.pipeline(parts).save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def encode_kl(vae: nn.Module, clip: Clip, scale: float, shift: float = 0.0) -> Latents:
    """Posterior mode of a picture VAE, frame by frame, then (z - shift) * scale; float32."""
    weight = next(vae.parameters())
    kl: Any = vae
    frames = clip.transpose(1, 2).flatten(0, 1).to(weight.device, weight.dtype)
    raw: Tensor = kl.encode(frames).latent_dist.mode().float()
    return ((raw - shift) * scale).unflatten(0, (len(clip), -1)).transpose(1, 2).contiguous()


def decode_kl(vae: nn.Module, latents: Latents, scale: float, shift: float = 0.0) -> Clip:
    """The inverse of `encode_kl`, float32."""
    weight = next(vae.parameters())
    kl: Any = vae
    raw = (latents.to(weight.device).float() / scale + shift).to(weight.dtype)
    frames = raw.transpose(1, 2).flatten(0, 1)
    pictures: Tensor = kl.decode(frames, return_dict=False)[0].float()
    return pictures.unflatten(0, (len(latents), -1)).transpose(1, 2).contiguous()

"""The pocket family: small models of 32-pixel pictures and clips that ship with the package.

UNets of 4 M parameters, one for pictures and one for clips, and a transformer for pictures (`dit`).

The real thing in small: rectified flow, cross-attention to a caption, classifier-free guidance,
peft adapters, a diffusers pipeline, causal latent frames. Its VAE folds 2 x 2 pixels (and 4
frames) into channels and loses nothing, its text encoder is a frozen word embedding, so that
everything a job does runs on a laptop offline.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    WanTransformer3DModel,
)
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from safetensors.torch import load_file
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer
from frisket.attention.tokens import Spans
from frisket.families.base import (
    Conditioning,
    Family,
    Parts,
    References,
    Source,
    Variant,
    WeightsNotFound,
)
from frisket.families.defaults import Standard
from frisket.families.key_map import Names
from frisket.families.models.pocket.routes import PocketRoutes
from frisket.families.models.pocket.streams import PocketStreams
from frisket.families.models.pocket.transformer import (
    build_transformer,
    is_transformer,
    predict_velocity,
)
from frisket.families.presets import presets
from frisket.families.shared.attention.cross import list_unet_layers, list_wan_layers
from frisket.families.shared.pocket.suggestions import SUGGESTIONS
from frisket.families.shared.pocket.text import WIDTH, PocketText, embed, find_spans
from frisket.families.shared.pocket.vae import IMAGE_CHANNELS, PocketVae
from frisket.grid import LatentGrid
from frisket.objectives.base import Objective
from frisket.objectives.kinds import LevelWeighting
from frisket.objectives.timesteps import TimestepSampler
from frisket.shapes import Clip, Latents, PerSample

CHANNELS = {"image": IMAGE_CHANNELS, "video": 2 * 4 * IMAGE_CHANNELS}  # that the UNet reads
TRANSFORMER_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
LEAST = 0.1  # smallest t the clip model trains at: its velocity is an error divided by t
CLEAREST = 0.02  # smallest t it is divided by


def build_net(channels: int, widths: tuple[int, int, int] = (64, 96, 96)) -> Any:
    """A fresh UNet of the shipped shape: about 4 M parameters at the default widths."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=16,
        norm_num_groups=8,
    )


def build_denoiser(variant: str) -> Any:
    """A fresh denoiser of the shape that ships as `variant`."""
    return build_transformer() if variant == "dit" else build_net(CHANNELS[variant])


class PocketOutput(BaseOutput):
    """Samples in [0, 1], b F 3 H W."""

    frames: Any


class PocketPipeline(DiffusionPipeline):
    """Text to picture or clip with classifier-free guidance; the call follows WanPipeline."""

    model_cpu_offload_seq = "denoiser"

    def __init__(self, denoiser: Any, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] = "",
        height: int = 32,
        width: int = 32,
        num_frames: int = 1,
        num_inference_steps: int = 20,
        guidance_scale: float = 3.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pt",
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> PocketOutput:
        """Sample; `output_type` is "pt", or "latent" for `b c f h w`."""
        embeddings = _tokens(prompt, 1) if prompt_embeds is None else prompt_embeds
        guided = guidance_scale != 1.0
        if guided:
            without = negative_prompt_embeds
            without = _tokens(negative_prompt, len(embeddings)) if without is None else without
            tokens = {"tokens": torch.cat([without, embeddings]).to(self.device)}
        else:
            tokens = {"tokens": embeddings.to(self.device)}
        vae = PocketVae(_temporal(self.denoiser))
        grid = LatentGrid(channels=12 * vae.temporal, spatial=2, temporal=vae.temporal)
        shape = (len(embeddings), grid.channels, *grid.cells(num_frames, height, width))
        latents = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        for timestep in self.progress_bar(self.scheduler.timesteps):
            doubled = torch.cat([latents, latents]) if guided else latents
            t = (timestep / 1000).float().expand(len(doubled))
            velocity = FAMILY.predict(self.denoiser, doubled, t, tokens)
            if guided:
                away, towards = velocity.chunk(2)
                velocity = away + guidance_scale * (towards - away)
            latents = self.scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if output_type == "latent":
            return PocketOutput(frames=latents)
        clip = vae.decode(latents).transpose(1, 2)
        return PocketOutput(frames=(clip / 2 + 0.5).clamp(0, 1))


def _tokens(prompt: str | list[str] | None, count: int) -> Tensor:
    """Embeddings of prompts; one prompt serves `count` samples."""
    if prompt is None:
        raise ValueError("give a prompt, or prompt_embeds")
    return embed([prompt] * count if isinstance(prompt, str) else prompt)


def _temporal(denoiser: nn.Module) -> int:
    """Pixel frames behind a latent frame: 1 for the image model, 4 for the clip model."""
    bare: Any = getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel
    return 4 if bare.config.in_channels == CHANNELS["video"] else 1


class Pocket(Standard):
    """The family; see `frisket.families.base.Family` for the contract."""

    name = "pocket"
    suggestions = SUGGESTIONS
    streams = PocketStreams()
    routes = PocketRoutes()
    lora_prefix = "unet"
    denoiser_folder = "denoiser"
    names = Names()  # it has no other release than ours
    lora_conv: tuple[str, ...] = ("conv1", "conv2")
    lora_presets: Mapping[str, tuple[str, ...]] = presets("attn", blocks="")
    lora_targets: tuple[str, ...] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "proj_in",
        "proj_out",
        "conv1",
        "conv2",
    )
    variants: Mapping[str, Variant] = {
        "image": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=12, spatial=2, temporal=1, patch=4),
            height=32,
            width=32,
            steps=20,
            guidance=3.0,
        ),
        "video": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=48, spatial=2, temporal=4, patch=4),
            frames=5,
            height=32,
            width=32,
            fps=8.0,
            steps=20,
            guidance=3.0,
        ),
        "dit": Variant(
            repo="packaged with frisket",
            quantises=False,
            grid=LatentGrid(channels=12, spatial=2, temporal=1, patch=2),
            height=32,
            width=32,
            steps=20,
            guidance=3.0,
            lora_targets=TRANSFORMER_TARGETS,
        ),
    }

    def objective(
        self,
        variant: str,
        timesteps: TimestepSampler | None = None,
        *,
        weighting: LevelWeighting = "none",
        min_snr: float = 0.0,
    ) -> Objective:
        """Rectified flow at the density the base was trained with."""
        low = LEAST if variant == "video" else 0.0
        sampler = timesteps or TimestepSampler(shift=self.variants[variant].shift, low=low)
        return super().objective(variant, sampler, weighting=weighting, min_snr=min_snr)

    def load_vae(self, source: Source) -> nn.Module:
        """The VAE, which only folds pixels: nothing is read from the source."""
        return PocketVae(self.variants[source.variant].grid.temporal)

    def load_text(self, source: Source) -> nn.Module:
        """The text encoder, whose vectors come from the words: nothing is read from the source."""
        return PocketText()

    def load_tokenizer(self, source: Source) -> nn.Module:
        """As `load_text`: nothing is read from the source."""
        return PocketText()

    def load_denoiser(self, source: Source) -> nn.Module:
        """The packaged denoiser, or one saved by `save` under `source.path`/denoiser."""
        if not source.path:
            packaged = Path(str(files("frisket") / "pocket" / f"{source.variant}.safetensors"))
            if not packaged.is_file():
                raise WeightsNotFound(f"{packaged} is missing: install frisket again")
            net = build_denoiser(source.variant)
            state = load_file(packaged)
            net.load_state_dict({name: value.float() for name, value in state.items()})
            net = net.to(source.device)
            net = net if source.dtype == torch.float32 else net.to(source.dtype)
        else:
            folder = Path(source.path).expanduser() / "denoiser"
            if not (folder / "config.json").is_file():
                raise WeightsNotFound(
                    f"{source.path} holds no pocket model: {folder / 'config.json'} is missing."
                    " Point model.source at a folder written by Frisket, or leave it empty for"
                    " the packaged base."
                )
            kind = WanTransformer3DModel if source.variant == "dit" else UNet2DConditionModel
            config = kind.load_config(folder)
            if config["_class_name"] != kind.__name__:
                raise ValueError(
                    f"{folder} holds a {config['_class_name']}, and pocket {source.variant} is a"
                    f" {kind.__name__}: check model.variant"
                )
            net = kind.from_pretrained(
                folder, torch_dtype=source.dtype, use_safetensors=True, local_files_only=True
            ).to(source.device)
        return net.requires_grad_(False).eval()

    def encode(self, vae: nn.Module, clip: Clip) -> Latents:
        """Folded; already of unit scale."""
        latents: Latents = vae.encode(clip)  # type: ignore[operator]
        return latents

    def decode(self, vae: nn.Module, latents: Latents) -> Clip:
        """The inverse of `encode`, exact but for the copies of frame 0, whose mean it takes."""
        clip: Clip = vae.decode(latents)  # type: ignore[operator]
        return clip

    def embed(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> Conditioning:
        """`tokens` b 12 64."""
        return {"tokens": embed(prompts)}

    def read_spans(
        self, text: nn.Module, prompts: Sequence[str], references: Sequence[References] = ()
    ) -> list[Spans]:
        """12 slots a prompt; what is dropped between two words counts to the later one."""
        return [find_spans(prompt) for prompt in prompts]

    def predict(
        self, denoiser: nn.Module, noisy: Latents, t: PerSample, conditioning: Conditioning
    ) -> Latents:
        """The velocity. The UNet of pictures takes frames one by one, that of clips two of them.

        A still (f = 1) is for the clip model a clip in which nothing moves: its latent frame twice.
        Inside, the clip model names the clean clip (96 channels of noise do not fit through its 64
        features, a clean clip does), so that its velocity is (noisy - clean) / t.
        """
        if is_transformer(denoiser):
            return predict_velocity(denoiser, noisy, t, conditioning["tokens"])
        weight = next(denoiser.parameters())
        tokens, t = conditioning["tokens"].to(noisy.device, weight.dtype), t.to(noisy.device)
        count = noisy.shape[2]
        if _temporal(denoiser) == 1:
            slots, tokens = 1, tokens.repeat_interleave(count, 0)
            t = t.repeat_interleave(count, 0)
        elif count > 2:
            raise ValueError(
                f"the pocket clip model makes 1 or 5 frames, not {1 + 4 * (count - 1)}"
            )
        else:
            slots = 2
            noisy = noisy.expand(-1, -1, 2, -1, -1) if count == 1 else noisy
        pictures = noisy.transpose(1, 2).flatten(0, 1).unflatten(0, (-1, slots)).flatten(1, 2)
        velocity = denoiser(pictures.to(weight.dtype), t * 1000, tokens, return_dict=False)[0]
        if slots == 2:
            velocity = (pictures - velocity.float()) / t.clamp_min(CLEAREST).view(-1, 1, 1, 1)
        velocity = velocity.unflatten(1, (slots, -1)).flatten(0, 1)
        velocity = velocity.unflatten(0, (len(conditioning["tokens"]), -1)).transpose(1, 2)
        return velocity[:, :, :count].float()

    def list_attention_layers(self, denoiser: nn.Module) -> tuple[AttentionLayer, ...]:
        """Cross-attention; the UNet of pictures has frames in the batch, the others none."""
        if is_transformer(denoiser):
            return list_wan_layers(denoiser)
        return list_unet_layers(denoiser, folded=_temporal(denoiser) == 1)

    def pipeline(self, parts: Parts) -> Any:
        """A diffusers pipeline over the denoiser."""
        shift = self.variants[parts.variant].shift
        return PocketPipeline(parts.denoiser, FlowMatchEulerDiscreteScheduler(shift=shift))

    def call(
        self,
        variant: str,
        positive: Conditioning,
        negative: Conditioning | None,
        *,
        guidance: float,
        references: References = (),
    ) -> dict[str, Any]:
        """Embeddings by PocketPipeline's names."""
        return {
            "prompt_embeds": positive["tokens"],
            "negative_prompt_embeds": None if negative is None else negative["tokens"],
            "guidance_scale": guidance,
        }

    def tiny(self, variant: str) -> Parts:
        """A narrower random denoiser."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if variant == "dit":
                net = build_transformer(blocks=2, heads=2, width=16, hidden=64)
            else:
                net = build_net(CHANNELS[variant], (16, 32, 32))
        vae = PocketVae(self.variants[variant].grid.temporal)
        return Parts(variant, vae, PocketText(), net.requires_grad_(False).eval())

    def save(self, parts: Parts, folder: Path) -> None:
        """Write the denoiser under `folder`/denoiser (the other parts have no weights)."""
        if not isinstance(parts.denoiser, UNet2DConditionModel | WanTransformer3DModel):
            raise ValueError(f"nothing to save in {folder}: the denoiser is not loaded")
        parts.denoiser.save_pretrained(folder / "denoiser")


FAMILY: Family = Pocket()

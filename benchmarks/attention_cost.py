"""A training step that captures the attention of four layers, against the same step without.

Target: at most 1.10 times the plain step, on every model. The captured step pays for the maps, a
loss of them (each phrase's attention to stay in its half of the picture) and that loss's gradient.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import measure  # first: it sets the number of threads torch starts with
import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.attention.base import AttentionLayer, PhrasePositions
from frisket.attention.capture import capture, choose_layers
from frisket.attention.maps import lay_on_grid
from frisket.families.base import FAMILIES, Family, Source

LAYERS = 4
SIDE = 64  # latent cells: 1024 tokens of 2 x 2
PHRASES = [[[3], [5, 6]]]


@dataclass
class Model:
    """A denoiser with an adapter, and one batch for it."""

    family: Family
    denoiser: nn.Module
    latents: Tensor
    conditioning: Mapping[str, Tensor]

    def predict(self) -> Tensor:
        """At one noise level."""
        t = torch.full((len(self.latents),), 0.6)
        return self.family.predict(self.denoiser, self.latents, t, self.conditioning)

    @property
    def phrases(self) -> PhrasePositions:
        """The same two for every sample."""
        return PHRASES * len(self.latents)

    def choose(self) -> tuple[AttentionLayer, ...]:
        """Four layers in the middle."""
        layers = self.family.list_attention_layers(self.denoiser)
        start = (len(layers) - LAYERS) // 2
        return choose_layers(layers, [layer.name for layer in layers[start : start + LAYERS]])


def attach(family: Family, denoiser: nn.Module) -> nn.Module:
    spec = lora.LoraSpec(rank=measure.RANK, targets=family.lora_targets, dead=family.lora_dead)
    lora.attach(denoiser.requires_grad_(False), spec, seed=0)
    return denoiser.train()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def build_pocket() -> Model:
    family = FAMILIES.load("pocket")
    source = Source("image")
    denoiser, text = family.load_denoiser(source), family.load_text(source)
    given = family.embed(text, ["a red circle on a blue wall"] * 4)
    return Model(family, attach(family, denoiser), draw(4, 12, 1, 16, 16), given)


def build_wan() -> Model:
    """1024 image tokens, 512 of text, 16 layers of 256 channels."""
    torch.manual_seed(0)
    denoiser = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=16,
        out_channels=16,
        text_dim=64,
        freq_dim=256,
        ffn_dim=1024,
        num_layers=16,
        rope_max_seq_len=64,
    )
    family = FAMILIES.load("wan")
    latents, text = draw(1, 16, 1, SIDE, SIDE), draw(1, 512, 64)
    return Model(family, attach(family, denoiser), latents, {"text": text})


def build_flux() -> Model:
    """1024 image tokens, 128 of text, 8 + 8 layers of 256 channels."""
    torch.manual_seed(0)
    denoiser = FluxTransformer2DModel(
        in_channels=64,
        num_layers=8,
        num_single_layers=8,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        axes_dims_rope=(16, 24, 24),
    )
    family = FAMILIES.load("flux")
    given = {"text": draw(1, 128, 64), "pooled": draw(1, 64)}
    return Model(family, attach(family, denoiser), draw(1, 16, 1, SIDE, SIDE), given)


def compute_loss(maps: Mapping[str, Tensor], cells: tuple[int, int, int]) -> Tensor:
    """The share of each phrase's attention outside its half of the picture."""
    losses = []
    for values in maps.values():
        laid = lay_on_grid(values, cells)
        inside = laid[..., : cells[2] // 2].sum((2, 3, 4)) / laid.sum((2, 3, 4))
        losses.append((1 - inside).square().mean())
    return torch.stack(losses).mean()


def make_cases(model: Model) -> dict[str, Callable[[], object]]:
    cells: Any = tuple(model.latents.shape[2:])
    layers = model.choose()
    trained = list(lora.trainable(model.denoiser).values())

    def step(softmax: Any = None) -> None:
        for value in trained:
            value.grad = None
        if softmax is None:
            model.predict().square().mean().backward()
            return
        with capture(layers, model.phrases, softmax=softmax) as seen:
            loss = model.predict().square().mean()
            (loss + compute_loss(seen.maps, cells)).backward()

    @torch.no_grad()
    def forward(softmax: Any = None) -> None:
        if softmax is None:
            model.predict()
            return
        with capture(layers, model.phrases, softmax=softmax):
            model.predict()

    return {
        "step": step,
        "step, captured": lambda: step("all"),
        "step, captured within the text": lambda: step("text"),
        "forward": forward,
        "forward, captured": lambda: forward("all"),
    }


def main() -> None:
    """Measure the models named on the command line (all), as often as its number says."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    repeats = numbers[0] if numbers else 9
    builds = {"pocket": build_pocket, "wan": build_wan, "flux": build_flux}
    measure.title(f"Capturing {LAYERS} layers in the middle against not capturing")
    for name in [word for word in sys.argv[1:] if word in builds] or builds:
        model = builds[name]()
        seconds = measure.interleaved(make_cases(model), repeats=repeats, warm_up=1)
        layers = len(model.family.list_attention_layers(model.denoiser))
        rows = []
        for case, values in seconds.items():
            ratio = measure.ratio(values, seconds[case.split(",")[0]])
            count = f"{LAYERS} of {layers}"
            rows.append((name, count, case, measure.spread(values), f"{ratio:.3f}"))
        measure.table(("model", "layers", "case", "CPU ms (quartiles)", "/ plain"), rows)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

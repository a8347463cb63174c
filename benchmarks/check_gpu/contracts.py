"""The contract of the families, on the card: the CPU's numbers, and the law of masks."""

from copy import deepcopy
from typing import Any

import torch
from benchmarks.check_gpu.checking import Failed, Place
from benchmarks.check_gpu.models import agree, drawn, joined
from torch import Tensor

from frisket.adapters import lora
from frisket.families.base import FAMILIES, default_targets
from frisket.losses.base import weighted_mse

PROMPTS = ("a red fox on a stone wall", "two boats")
NEAR = 1e-3  # float32 without TF32: other sums of the same products


class Case:
    """One variant as tiny parts, on the CPU and on the device, with the same inputs."""

    def __init__(self, place: Place, family: Any, variant: str) -> None:
        self.family, self.variant, self.place = family, variant, place
        self.card = family.variants[variant]
        self.here = family.tiny(variant)
        self.there = deepcopy(self.here)
        for part in (self.there.vae, self.there.text, self.there.vision, self.there.denoiser):
            if part is not None:
                part.to(place.device)
        self.frames = 1 + self.card.grid.temporal if self.card.video else 1
        side = self.card.grid.step
        self.size = (2 * side, 3 * side)
        self.clip = torch.tanh(drawn(2, 3, self.frames, *self.size))
        cells = self.card.grid.cells(self.frames, *self.size)
        self.noisy = drawn(2, self.card.grid.channels, *cells, seed=1)
        low, high = next(iter(self.card.experts.values()), (0.25, 0.95))
        self.t = torch.tensor([low + 0.1 * (high - low), low + 0.9 * (high - low)])

    def pictures(self, index: int) -> list[Tensor]:
        """What goes with a clip, where the model looks at pictures."""
        if self.card.sees != "pictures":
            return []
        values = drawn(1, *self.size, 3, seed=index).abs().mul(80).clamp(0, 255)
        return [values.to(torch.uint8)]

    def told(self, parts: Any, clip: Tensor) -> dict[str, Tensor]:
        """Texts, and what the denoiser sees of the clips."""
        pictures = [self.pictures(index) for index in range(2)]
        given = dict(self.family.embed(parts.text, PROMPTS, pictures))
        seen = [
            self.family.image_conditioning(parts.vae, parts.vision, clip[i : i + 1], pictures[i])
            for i in range(2)
        ]
        return given | {name: torch.cat([one[name] for one in seen]) for name in seen[0]}

    def step(self, parts: Any, told: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Prediction, its gradient, the weights, and the adapter's gradients."""
        denoiser = parts.denoiser
        device = next(denoiser.parameters()).device
        prediction = self.family.predict(denoiser, self.noisy.to(device), self.t.to(device), told)
        prediction.retain_grad()
        chance = torch.rand(2, 1, *prediction.shape[2:], generator=torch.Generator().manual_seed(3))
        weights = ((chance > 0.5) * chance).to(device)
        target = drawn(*prediction.shape, seed=2).to(device)
        weighted_mse(prediction, target, weights).sum().backward()
        assert prediction.grad is not None
        found = [
            torch.zeros_like(value) if value.grad is None else value.grad
            for value in lora.trainable(denoiser).values()
        ]
        return prediction.detach(), prediction.grad, weights, joined(found)


def family(place: Place, name: str) -> str:
    """Every variant of a family: encode, decode, embed, predict, the gradient law, a LoRA file."""
    shelf = FAMILIES.load(name)
    said = []
    for variant, card in shelf.variants.items():
        if not card.like:
            try:
                worst = _variant(Case(place, shelf, variant))
            except Failed as wrong:
                raise Failed(f"{variant}: {wrong}") from wrong
            said.append(f"{variant or name} {worst:.0e}")
    return ", ".join(said)


def _variant(case: Case) -> float:
    """The largest relative distance from the CPU."""
    family, device = case.family, case.place.device
    with torch.no_grad():
        latents = family.encode(case.here.vae, case.clip)
        clip = family.decode(case.here.vae, latents)
        ours, theirs = (case.told(parts, case.clip) for parts in (case.here, case.there))
        worst = [
            agree("encode", family.encode(case.there.vae, case.clip.to(device)), latents, NEAR),
            agree("decode", family.decode(case.there.vae, latents.to(device)), clip, NEAR),
        ]
    if ours.keys() != theirs.keys():
        raise Failed(f"embed: {sorted(theirs)} there, {sorted(ours)} here")
    for name, value in ours.items():
        worst.append(agree(f"embed {name}", theirs[name].float(), value.float(), NEAR))
    given = {name: value.to(device) for name, value in ours.items()}
    targets, dead = default_targets(family, case.variant)
    spec = lora.LoraSpec(rank=2, alpha=3.0, targets=targets, dead=dead)
    for parts in (case.here, case.there):
        lora.attach(parts.denoiser, spec, seed=0)
        parts.denoiser.to(next(parts.denoiser.parameters()).device)
        with torch.no_grad():
            for index, value in enumerate(lora.trainable(parts.denoiser).values()):
                value.add_(0.1 * drawn(*value.shape, seed=index).to(value.device))
    expected, *_, gradients = case.step(case.here, ours)
    found, slope, weights, others = case.step(case.there, given)
    worst.append(agree("predict", found, expected, NEAR))
    worst.append(agree("the adapter's gradients", others, gradients, 5 * NEAR))
    moved = (slope != 0).any(1, keepdim=True)
    if not torch.equal(moved, weights > 0):
        raise Failed("the gradient of the prediction is not exactly 0 where the weight is 0")
    _comes_back(case, given)
    return max(worst)


def _comes_back(case: Case, given: dict[str, Tensor]) -> None:
    """The adapter as a file and back, both on the device."""
    family, path = case.family, case.place.scratch / "lora.safetensors"
    denoiser, device = case.there.denoiser, case.place.device
    fresh = family.tiny(case.variant).denoiser.to(device)
    lora.save(denoiser, path, {}, prefix=family.lora_prefix)
    lora.load(fresh, path, prefix=family.lora_prefix)
    fresh.to(device)
    with torch.no_grad():
        one, other = (
            family.predict(each.eval(), case.noisy.to(device), case.t.to(device), given)
            for each in (denoiser, fresh)
        )
    agree("the adapter from its file", other, one, 1e-6)
    for file in case.place.scratch.glob("lora*"):
        file.unlink()

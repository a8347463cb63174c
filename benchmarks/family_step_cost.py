"""A masked training step against a plain MSE step for every family's tiny model.

Target: at most 1.02 times the plain step. Whole optimizer steps; the same model, noise and batch.
The tiny models are two layers wide awake: on real sizes the ratio is nearer to 1.

Run: python benchmarks/family_step_cost.py [FAMILY ...]
"""

import sys

import measure  # first: it sets the number of threads torch starts with
import torch
from torch.nn import functional

from frisket.adapters import lora
from frisket.families.base import FAMILIES, Family, default_targets
from frisket.families.experts import first
from frisket.losses.base import TERMS, Step, divisors
from frisket.masks.weights import RegionWeights
from frisket.training import optim

REPEATS, CELLS = 25, 32  # repeats of either step; cells a side of a picture (a video has 2 frames)


def cost(family: Family, name: str) -> tuple[str, str, str]:
    """Milliseconds of a plain and a masked step, and their ratio."""
    card, parts = family.variants[name], family.tiny(name)
    objective, denoiser = family.objective(name), parts.denoiser
    assert denoiser is not None
    targets, dead = default_targets(family, name)
    spec = lora.LoraSpec(rank=measure.RANK, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0)
    denoiser.train()
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec())
    frames, grid = (1 + card.grid.temporal if card.video else 1), card.grid
    side = CELLS * grid.spatial // (1 if grid.patch > 1 else 2)
    generator = torch.Generator().manual_seed(0)
    shape = (1, grid.channels, *grid.cells(frames, side, side))
    latents = torch.randn(shape, generator=generator)
    clip = torch.rand(1, 3, frames, side, side, generator=generator) * 2 - 1
    pictures = torch.randint(256, (1, side, side, 3), generator=generator).to(torch.uint8)
    seen = [pictures] if card.sees == "pictures" else []
    told = {
        **family.embed(parts.text, ["a red fox on a wall"], [seen] if seen else ()),
        **family.image_conditioning(parts.vae, parts.vision, clip, seen),
    }
    coverage = torch.zeros(1, 1, *shape[2:])
    coverage[..., side // grid.spatial // 2 :] = 1
    table, term, masked = (
        RegionWeights({"subject": 1.0}),
        TERMS.load("denoise")(),
        torch.tensor([True]),
    )
    low, high = next(iter(card.experts.values()), (0.0, 1.0))

    def predicted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        noise = torch.randn(shape, generator=generator)
        t = low + (high - low) * objective.sample_t(1, generator)
        noisy, target = objective.corrupt(latents, noise, t)
        return family.predict(denoiser, noisy, t, told), target, t

    def finish(loss: torch.Tensor) -> None:
        loss.backward()
        optim.clip(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def plain_step() -> None:
        prediction, target, t = predicted()
        finish((objective.weight(t) * functional.mse_loss(prediction, target)).mean())

    def masked_step() -> None:
        prediction, target, t = predicted()
        weights = table(coverage, masked)
        divisor = divisors(weights, grid.channels)
        step = Step(
            prediction=prediction,
            target=target,
            t=t,
            weights=weights,
            coverage=coverage,
            divisor=divisor,
        )
        finish((objective.weight(t) * term(step)).mean())

    seconds = measure.interleaved({"plain": plain_step, "masked": masked_step}, REPEATS, warm_up=2)
    plain, ours = seconds["plain"], seconds["masked"]
    return measure.spread(plain), measure.spread(ours), f"{measure.ratio(ours, plain):.3f}"


def main() -> None:
    measure.title("Masked step against plain step, tiny models, LoRA rank 8, batch 1")
    rows = []
    for family in map(FAMILIES.load, sys.argv[1:] or FAMILIES.names()):
        for name, card in family.variants.items():
            if not card.like:
                size = sum(
                    value.numel() for value in first(family.tiny(name).denoiser).parameters()
                )
                rows.append((f"{family.name} {name}", f"{size / 1e3:.0f} k", *cost(family, name)))
    header = ("model", "parameters", "plain, CPU ms (quartiles)", "masked", "/ plain")
    measure.table(header, rows)


if __name__ == "__main__":
    main()

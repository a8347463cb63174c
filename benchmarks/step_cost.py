"""A masked training step against a plain MSE step, same model, same optimizer, same batch.

Target: at most 1.02 times the plain step.
"""

import measure  # first: it sets the number of threads torch starts with
import torch
from torch.nn import functional

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.losses.base import TERMS, Step, divisors
from frisket.masks.weights import RegionWeights
from frisket.training import optim

REPEATS = 40


def main() -> None:
    family = FAMILIES.load("wan")
    objective = family.objective("2.1-t2v-1.3b")
    denoiser = measure.tiny_wan()
    lora.attach(denoiser, lora.LoraSpec(rank=measure.RANK, targets=family.lora_targets), seed=0)
    denoiser.train()
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec())
    generator = torch.Generator().manual_seed(0)
    latents, text, coverage = measure.draw()
    table, term = RegionWeights({"subject": 1.0}), TERMS.load("denoise")()
    masked = torch.ones(measure.BATCH, dtype=torch.bool)

    def finish(loss: torch.Tensor) -> None:
        loss.backward()
        optim.clip(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def predicted() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        noise = torch.randn(latents.shape, generator=generator)
        t = objective.sample_t(measure.BATCH, generator)
        noisy, target = objective.corrupt(latents, noise, t)
        return family.predict(denoiser, noisy, t, {"text": text}), target, t

    def plain_step() -> None:
        prediction, target, _ = predicted()
        finish(functional.mse_loss(prediction, target))

    def masked_step() -> None:
        prediction, target, t = predicted()
        weights = table(coverage, masked)
        divisor = divisors(weights, latents.shape[1])
        step = Step(
            prediction=prediction,
            target=target,
            t=t,
            weights=weights,
            coverage=coverage,
            divisor=divisor,
        )
        finish((objective.weight(t) * term(step)).mean())

    measure.title("Masked step against plain step: tiny Wan, 2 x 16 x 1 x 32 x 32, LoRA rank 8")
    seconds = measure.interleaved({"plain MSE": plain_step, "masked": masked_step}, REPEATS)
    measure.table(
        ("step", "CPU ms (quartiles)", "/ plain"),
        [
            (name, measure.spread(each), f"{measure.ratio(each, seconds['plain MSE']):.3f}")
            for name, each in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()

"""FLOPs of a configuration's training step, counted on shapes alone."""

import gc
from dataclasses import replace

import torch

from frisket.adapters import lora
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.families.experts import experts_of, first
from frisket.losses.base import BASE, EMA
from frisket.routing.flops import StepCost, count_step
from frisket.runs.memory.clip_sizes import find_size
from frisket.runs.memory.conditioning_shapes import Unpredictable, build_conditioning
from frisket.runs.memory.estimate import build_shapes, make_source
from frisket.runs.refusals import terms_of
from frisket.training.memory.dry_run import META, Rehearsal


def count_training(config: Config) -> StepCost:
    """A micro-batch of the largest clip: the trained pass, its backward pass, the teachers' passes.

    Of several experts one counts; they are alike. Raises WeightsNotFound where the shape of the
    denoiser is not known here, UnknownRows for one without tokens, ValueError for a family without
    routes, Unpredictable where its code asks for values.
    """
    family = FAMILIES.load(config.model.family)
    if family.routes is None:
        raise ValueError(f"{family.name} has no tokens that could pass by its blocks")
    # Layers of 4 bits multiply as plain ones do, but in operations of their own, uncounted.
    source = replace(make_source(config, family), quantise="none")
    variant = family.variants[source.variant]
    size = find_size(config, variant)
    try:
        denoiser = build_shapes(config, family, source)
        conditioning = build_conditioning(family, source, denoiser, size, config.run.batch)
        shape = (config.run.batch, variant.grid.channels, *variant.grid.cells(*size))
        noisy = torch.empty(shape, device=META)
        name = next(iter(experts_of(denoiser)))
        level = sum(variant.experts[name]) / 2 if name in variant.experts else 0.5
        t = torch.full(shape[:1], level)
        blocks = {block.name: block.module for block in family.routes.list_blocks(first(denoiser))}

        def count() -> StepCost:
            return count_step(
                denoiser,
                family.streams,
                lambda: family.predict(denoiser, noisy, t, conditioning),
                blocks=blocks,
                checkpointed=config.memory.checkpointing,
            )

        with Rehearsal():
            cost = count()
            terms = (term for term, _ in terms_of(config).values())
            for _ in {need for term in terms for need in term.needs} & {BASE, EMA}:
                with torch.no_grad(), lora.frozen(denoiser):
                    cost += count()
    except NotImplementedError as error:
        raise Unpredictable(
            f"{family.name} {source.variant} cannot be rehearsed on shapes: {error}"
        ) from error
    finally:
        gc.collect()  # the autograd graph of the rehearsal holds itself
    return cost

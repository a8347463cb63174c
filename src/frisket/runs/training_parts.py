"""What the trainer is built from, by the configuration: noise levels, experts, adapter; and it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from frisket.adapters import lora
from frisket.adapters.forms import check_form
from frisket.adapters.routed.peft_variant import route
from frisket.config.compat import bare_of, betas_of, compat_of, normalise_of
from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.config.variant_checks import targets_of
from frisket.data.loader import Loader
from frisket.data.records import Prepared
from frisket.data.sample import Batch
from frisket.families.base import Family, Source, Variant, layer_names
from frisket.families.whole_model import open_weights
from frisket.losses.base import ATTENTION, DECODED, LEFT_OUT
from frisket.masks.weights import RegionWeights
from frisket.objectives.noise import NoiseSampler
from frisket.objectives.timesteps import TimestepSampler
from frisket.runs.card import shift_of, variant_of
from frisket.runs.concepts.balance import add_concepts
from frisket.runs.concepts.terms import terms_of
from frisket.runs.control.showing import ShownControls
from frisket.runs.epochs import rates_of
from frisket.runs.faces.watching import make_watch
from frisket.runs.image_adapters.setup import attach_image_adapter
from frisket.runs.image_adapters.showing import ShownReferences
from frisket.runs.methods.patch_masking import make_masking
from frisket.runs.methods.token_routing import make_routing
from frisket.runs.refusals import optimizer_of
from frisket.runs.structure.asking import has_frozen_net
from frisket.runs.structure.watching import watch_structure
from frisket.training import optim, schedules
from frisket.training.confine import Confinement
from frisket.training.distributed import Team
from frisket.training.ema import Average
from frisket.training.focus import Focus
from frisket.training.memory import plan as memory_plan
from frisket.training.plan import Plan
from frisket.training.trainer import Trainer

QUANTILE_DRAWS, QUANTILE_STEPS = 16384, 32


def timesteps_of(config: Config, variant: Variant) -> TimestepSampler:
    """The density of t; what [timesteps] leaves empty is the variant's own.

    A model of several experts trains each batch within the range of one of those asked for.
    """
    options = config.timesteps
    own_options = {"density", "mean", "std", "shift", "experts", "weighting", "min_snr"}
    fixed = options.model_dump(exclude=own_options)
    return TimestepSampler(
        density=options.density or variant.density,
        mean=variant.mean if options.mean is None else options.mean,
        std=variant.std if options.std is None else options.std,
        shift=shift_of(config, variant),
        ranges=tuple(variant.experts[name] for name in list_experts(config, variant)),
        even=options.experts == "even",
        **fixed,
    )


def may_idle(config: Config, variant: Variant) -> bool:
    """Whether a step may pass without a gradient for some of the trained parameters.

    Of all weights some never get one: what the last block makes of the text is thrown away. So of
    a ControlNet's.
    """
    is_whole = config.model.train in ("all", "controlnet")
    several = len(list_experts(config, variant)) > 1 or is_whole
    return several or config.lora.module_dropout > 0 or bool(config.lora.preset)


def list_experts(config: Config, variant: Variant) -> tuple[str, ...]:
    """Names of the experts that get an adapter; none where the model is one piece."""
    experts = config.model.experts
    return tuple(name for name in variant.experts if experts in ("both", name))


def spec_of(config: Config, family: Family) -> lora.LoraSpec:
    """The adapter of a configuration."""
    options = config.lora
    targets, dead = targets_of(config, family, variant_of(config))
    return lora.LoraSpec(
        kind=options.kind,
        rank=options.rank,
        alpha=options.alpha,
        dropout=options.dropout,
        targets=targets,
        exclude=options.exclude,
        dead=dead,
        conv_rank=options.conv_rank,
        conv_alpha=options.conv_alpha,
        factor=options.factor,
        full_matrix=options.full_matrix,
        rank_dropout=options.rank_dropout,
        module_dropout=options.module_dropout,
        rank_schedule=options.rank_schedule,
        rank_min=options.least_rank if options.rank_schedule else 1,
        rank_power=options.rank_power,
        rank_quantiles=list_quantiles(config, family) if options.rank_by == "quantile" else (),
        orthogonal=options.orthogonal,
        confine=options.confine,
        focus=options.focus,
    )


def list_quantiles(config: Config, family: Family) -> tuple[float, ...]:
    """Noise levels at equal steps of probability in this run's training, from 0 to 1.

    Where the shift follows the size of a clip, of the configured size; drawn, with a seed.
    """
    variant = family.variants[variant_of(config)]
    sampler = timesteps_of(config, variant)
    size = (variant.frames, variant.height, variant.width)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat(
        [sampler(64, generator, variant.grid.cells(*size)) for _ in range(QUANTILE_DRAWS // 64)]
    )
    steps = torch.linspace(0, 1, QUANTILE_STEPS + 1)[1:-1]
    inner = draws.double().quantile(steps.double()).tolist()
    return (0.0, *(round(level, 6) for level in inner), 1.0)


def load_trainable(
    config: Config, family: Family, source: Source, plan: memory_plan.MemoryPlan
) -> torch.nn.Module:
    """The denoiser (of experts those that are trained) with what is trained asking for a gradient.

    That is all of it, or its adapter (a LoRA, or one for pictures), fresh or from a file; nothing
    yet where it is a ControlNet.
    """
    variant = family.variants[source.variant]
    device = memory_plan.load_device(plan, source.device)
    if config.model.train == "all":
        denoiser = family.load_denoiser(replace(source, device=device))
        open_weights(denoiser)
        return denoiser
    if config.model.train == "image_adapter":
        denoiser = family.load_denoiser(replace(source, device=device))
        attach_image_adapter(config, family, denoiser)
        return denoiser
    if config.model.train == "controlnet":
        # The net comes when the base is where it stays (`connect_controls`).
        return family.load_denoiser(replace(source, device=device)).requires_grad_(False)
    experts = list_experts(config, variant)
    denoiser = family.load_denoiser(replace(source, device=device, experts=experts))
    spec, names = spec_of(config, family), layer_names(family, source.variant)
    layers = lora.attach(denoiser, spec, seed=config.run.seed, streams=family.streams)
    # Once more on the model itself: before it was loaded its shape may not have been known.
    for prefix in [f"experts.{name}." for name in experts] or [""]:
        own_layers = [layer.removeprefix(prefix) for layer in layers if layer.startswith(prefix)]
        check_form(names, spec.kind, config.lora.format, own_layers)
    if config.lora.source is not None:
        lora.load(
            denoiser,
            config.lora.source,
            prefix=family.lora_prefix,
            names=names,
            streams=family.streams,
        )
    return denoiser


def make_plan(config: Config) -> Plan:
    """What the trainer does with the terms: how often, and divided by what."""
    compat, (beta, raw_beta) = compat_of(config), betas_of(config)
    return Plan(
        steps=config.run.steps,
        accumulate=config.optimizer.accumulate,
        seed=config.run.seed,
        clip=config.optimizer.clip,
        normalise=normalise_of(config),
        beta=beta,
        raw_beta=raw_beta,
        draw=(compat.draw if compat else None) or "sample",
        unscaled_by=_list_unscaled(config),
        unmasked_probability=config.curve.unmasked_probability,
        feather_t=config.curve.feather_t,
        max_norm=config.lora.max_norm,
        noise=make_noise(config),
    )


def _list_unscaled(config: Config) -> dict[str, frozenset[str]]:
    """What terms are not multiplied by: a noise level weighs what was predicted of the clean.

    Neither attention is of it, nor what is reconstructed where tokens were left out, nor what a
    term sees in the decoded picture.
    """
    unscaled = {
        name: frozenset({"t"})
        for name, (term, _) in terms_of(config).items()
        if term.needs & {ATTENTION, LEFT_OUT, DECODED}
    }
    return bare_of(config) | unscaled


def make_noise(config: Config) -> NoiseSampler:
    """The `[noise]` table in plain values."""
    settings = config.noise
    return NoiseSampler(
        settings.offset,
        settings.offset_random,
        settings.multires_iterations,
        settings.multires_discount,
    )


def build_trainer(
    config: Config,
    family: Family,
    source: Source,
    team: Team,
    denoiser: torch.nn.Module,
    prepared: Prepared,
    shown_rows: ShownReferences | ShownControls | None = None,
) -> Trainer:
    """Everything a trainer stands on, wired; nothing resumed yet, nothing recorded.

    `shown_rows` are what an image adapter on the denoiser, or the ControlNet beside it, is shown.
    """
    run, settings = config.run, config.optimizer
    variant = family.variants[source.variant]
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optimizer_of(config))
    schedule = schedules.schedule(optimizer, rates_of(config))
    accelerator = team.accelerator
    loader = Loader(
        prepared,
        batch=run.batch,
        seed=run.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    weights = weights_of(config)
    limits = limit_adapter(config, family, denoiser, weights, shown_rows)
    faces = make_watch(config, family, source)
    wrapped = accelerator.prepare(denoiser) if accelerator.num_processes > 1 else denoiser
    return Trainer(
        family=family,
        grid=variant.grid,
        denoiser=wrapped,
        parameters=parameters,
        objective=family.objective(
            source.variant,
            timesteps_of(config, variant),
            weighting=config.timesteps.weighting,
            min_snr=config.timesteps.min_snr,
        ),
        weights=weights,
        terms=terms_of(config),
        optimizer=optimizer,
        schedule=schedule,
        batches=loader.stream,
        plan=add_concepts(
            config,
            replace(make_plan(config), epoch=loader.schedule.length),
            prepared,
            loader.schedule,
        ),
        team=team,
        routing=make_masking(config, family, denoiser) or make_routing(config, family, denoiser),
        faces=faces,
        structure=watch_structure(config, family, source, faces.decode if faces else None),
        controlled=has_frozen_net(config),
        average=Average(parameters, settings.ema) if settings.ema else None,
        generator=shown_rows.generator
        if isinstance(shown_rows, ShownControls)
        else torch.Generator(),
        **limits,
    )


def limit_adapter(
    config: Config,
    family: Family,
    denoiser: torch.nn.Module,
    weights: RegionWeights,
    shown_rows: ShownReferences | ShownControls | None = None,
) -> dict[str, Any]:
    """What a trainer is told of where and on which words the adapter acts, and is aligned by."""
    lora, limits = config.lora, list[Callable[[Batch], AbstractContextManager[Any]]]()
    if shown_rows is not None:
        limits.append(shown_rows.draw)
    if lora.confine is not None:
        limits.append(Confinement(route(denoiser, family.streams), weights, lora.confine))
    options: dict[str, Any] = {}
    if lora.focus:
        place = len(config.phrases)
        focus = Focus(
            route(denoiser, family.streams),
            place,
            place + 1 if lora.align else None,
            lora.align_strength,
            family.streams.find,
        )
        limits.append(focus)
        options["extra"] = focus.take

    @contextmanager
    def limit(batch: Batch) -> Iterator[None]:
        with ExitStack() as stack:
            for enter in limits:
                stack.enter_context(enter(batch))
            yield

    return {**options, "confine": limit} if limits else {}

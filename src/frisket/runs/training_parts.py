"""What the trainer is built from, by the configuration: noise levels, experts, the adapter."""

from frisket.adapters import lora
from frisket.config.noise_levels import shift_of
from frisket.config.tree import Config
from frisket.config.variant_checks import targets_of
from frisket.families.base import Family, Variant
from frisket.objectives.timesteps import TimestepSampler
from frisket.runs.card import variant_of


def timesteps_of(config: Config, variant: Variant) -> TimestepSampler:
    """The density of t; what [timesteps] leaves empty is the variant's own.

    A model of several experts trains each batch within the range of one of those asked for.
    """
    chosen = config.timesteps
    fixed = chosen.model_dump(exclude={"density", "shift", "experts", "weighting", "min_snr"})
    return TimestepSampler(
        density=chosen.density or variant.density,
        shift=shift_of(config, variant),
        ranges=tuple(variant.experts[name] for name in trained_experts(config, variant)),
        even=chosen.experts == "even",
        **fixed,
    )


def may_idle(config: Config, variant: Variant) -> bool:
    """Whether a step may pass without a gradient for some of the adapter's parameters."""
    several = len(trained_experts(config, variant)) > 1
    return several or config.lora.module_dropout > 0 or bool(config.lora.preset)


def trained_experts(config: Config, variant: Variant) -> tuple[str, ...]:
    """Names of the experts that get an adapter; none where the model is one piece."""
    asked = config.model.experts
    return tuple(name for name in variant.experts if asked in ("both", name))


def spec_of(config: Config, family: Family) -> lora.LoraSpec:
    """The adapter of a configuration."""
    chosen = config.lora
    targets, dead = targets_of(config, family, variant_of(config))
    return lora.LoraSpec(
        kind=chosen.kind,
        rank=chosen.rank,
        alpha=chosen.alpha,
        dropout=chosen.dropout,
        targets=targets,
        exclude=chosen.exclude,
        dead=dead,
        conv_rank=chosen.conv_rank,
        conv_alpha=chosen.conv_alpha,
        factor=chosen.factor,
        full_matrix=chosen.full_matrix,
        rank_dropout=chosen.rank_dropout,
        module_dropout=chosen.module_dropout,
    )

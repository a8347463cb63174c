"""Patch masking by the configuration: what it is built from, what it says."""

from torch import nn

from frisket.config.tree import Config
from frisket.families.base import Family
from frisket.families.experts import first
from frisket.routing.patches import PatchSelection, RatioPlan
from frisket.training.token_routing import PatchMasker


def make_masking(config: Config, family: Family, denoiser: nn.Module) -> PatchMasker | None:
    """What the trainer is told of it (checked by `config.load`); None where all tokens are seen."""
    options = config.patch_masking
    if not options.ratio or family.routes is None:
        return None
    return PatchMasker(
        select=PatchSelection(zero_weight_first=options.zero_weight_first),
        ratios=_plan_ratios(config),
        patch=family.routes.find_patch(first(denoiser)),
    )


def describe_masking(config: Config) -> str:
    """How many of the tokens the model does not see, which, and until when."""
    options = config.patch_masking
    ratio = f"{options.ratio:.0%} of the tokens"
    if options.schedule == "cosine":
        ratio = f"{ratio} at first, falling by cos^{options.power:g},"
    order = "those without weight first" if options.zero_weight_first else "drawn from all alike"
    end = f"; none after {options.full_from:.0%} of the run" if options.full_from < 1 else ""
    return f"{ratio} left out, {order}{end}; those left out carry no denoising loss"


def _plan_ratios(config: Config) -> RatioPlan:
    options = config.patch_masking
    return RatioPlan(
        ratio=options.ratio,
        schedule=options.schedule,
        power=options.power,
        full_from=options.full_from,
    )

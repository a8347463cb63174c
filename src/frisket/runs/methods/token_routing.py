"""Token routing by the configuration: what is refused, what it is built from, what it says."""

from collections.abc import Iterable

import torch
from torch import nn

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.families.base import FAMILIES, Family, Source, WeightsNotFound
from frisket.families.experts import experts_of, first
from frisket.families.routes import TokenRoutes
from frisket.losses.base import BASE, EMA
from frisket.routing.router import Router, find_window
from frisket.routing.selection import BackgroundSelection
from frisket.runs.card import variant_of
from frisket.runs.concepts.terms import terms_of
from frisket.shapes import CellPlanes
from frisket.training.attention import watch_layers
from frisket.training.token_routing import TokenRouting


def is_routed(config: Config) -> bool:
    """Whether any token may pass by a block."""
    return config.routing.background < 1


def check_routing(config: Config) -> None:
    """Refuse routing that cannot be, before any work; ValueError with the fix."""
    if not is_routed(config):
        return
    family = FAMILIES.load(config.model.family)
    _find_routes(config, family)
    terms = terms_of(config)
    needs = {need for term, _ in terms.values() for need in term.needs}
    if config.routing.background == 0 and needs & {BASE, EMA}:
        raise ValueError(
            "routing.background = 0 and losses.prior do not go together: what never goes through"
            " the blocks cannot be held; set routing.background to 0.25, or losses.prior to 0"
        )
    model = config.model
    source = Source(variant_of(config), model.source, revision=model.revision, device="meta")
    try:
        shapes = family.load_denoiser(source)
    except WeightsNotFound:
        return
    check_window(config, family, shapes)


def check_window(config: Config, family: Family, denoiser: nn.Module) -> None:
    """Refuse a window outside the blocks, and one with layers whose attention a term reads."""
    routes = _find_routes(config, family)
    for model in experts_of(denoiser).values():
        blocks = routes.list_blocks(model)
        if not blocks:
            raise ValueError(_refuse_family(config))
        try:
            begin, end = find_window(config.routing.start, config.routing.end, len(blocks))
        except ValueError as error:
            raise ValueError(f"routing.start and routing.end: {error}") from error
        routed = tuple(f"{block.name}." for block in blocks[begin:end])
        watch = watch_layers(family, model, terms_of(config))
        names = [layer.name for layers in watch.layers.values() for layer in layers]
        inside = [name for name in names if f"{name}.".startswith(routed)]
        if inside:
            outside = [
                layer.name
                for layer in family.list_attention_layers(model)
                if not f"{layer.name}.".startswith(routed)
            ]
            layers = f"layers outside ({', '.join(outside)}), or " if outside else ""
            raise ValueError(
                f"losses.attention reads {', '.join(inside)}, which tokens pass by in blocks"
                f" [{begin}, {end}) (routing): choose {layers}another window (routing.start and"
                " routing.end)"
            )


def make_routing(config: Config, family: Family, denoiser: nn.Module) -> TokenRouting | None:
    """What the trainer is told of it; None where every token is carried."""
    if not is_routed(config):
        return None
    check_window(config, family, denoiser)
    options, routes = config.routing, _find_routes(config, family)
    variant = family.variants[variant_of(config)]
    return TokenRouting(
        router=Router(denoiser, routes, family.streams, options.start, options.end),
        select=make_selection(config),
        patch=routes.find_patch(first(denoiser)),
        seed=config.run.seed,
        full_step_probability=options.full_step_probability,
        full_from=options.full_from,
        first_frame=variant.sees == "first_frame",
    )


def make_selection(config: Config) -> BackgroundSelection:
    """The rule by which tokens are kept."""
    options = config.routing
    return BackgroundSelection(
        background=options.background,
        dilate=options.dilate,
        max_kept=options.max_kept,
        multiple=options.multiple,
    )


def describe_routing(config: Config, prepared: Prepared, coverages: Iterable[CellPlanes]) -> str:
    """What passes by which blocks; or why nothing does, and of how many clips.

    `coverages` are those of clips with a mask, each k f h w; not all where there are very many.
    """
    options, weights, yes = config.routing, weights_of(config), torch.tensor([True])
    shares = [float((weights(planes[None], yes) > 0).float().mean()) for planes in coverages]
    covered = sum(share == 1 or share > options.max_kept for share in shares)
    unmasked = sum(item.coverage is None for item in prepared.items)
    whole_clips = [
        f"; {count} of {total} clips {reason} are carried whole"
        for count, total, reason in (
            (unmasked, len(prepared.items), "without a mask"),
            (covered, len(shares), f"with weight in over {options.max_kept:.0%} of their cells"),
        )
        if count
    ]
    if covered == len(shares):
        return (
            f"off: nothing could pass by{''.join(whole_clips)} (a mask, background = 0, floor = 0?)"
        )
    return (
        f"blocks {options.start} to {options.end}: what has weight, grown by {options.dilate}, and"
        f" {options.background:.0%} of the other tokens; those that pass by carry no loss;"
        f" {options.full_step_probability:.0%} of steps and all after {options.full_from:.0%} of"
        f" the run are whole{''.join(whole_clips)}"
    )


def _find_routes(config: Config, family: Family) -> TokenRoutes:
    if family.routes is None:
        raise ValueError(_refuse_family(config))
    return family.routes


def _refuse_family(config: Config) -> str:
    able = [name for name in FAMILIES.names() if FAMILIES.load(name).routes is not None]
    return (
        f"routing.background = {config.routing.background:g}: {config.model.family}"
        f" {variant_of(config)} has no tokens that could pass by its blocks; these have:"
        f" {', '.join(able)}. Leave [routing] out"
    )

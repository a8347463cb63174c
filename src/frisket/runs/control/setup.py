"""The ControlNet of a configuration: refused before any work, loaded or begun, in words."""

from dataclasses import replace

import torch
from torch import nn

from frisket.adapters.targets import unwrap_model
from frisket.config.checks.control import TRAINED, has_control
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Family, Source, WeightsNotFound
from frisket.families.experts import experts_of
from frisket.runs.card import variant_of
from frisket.runs.control.nets import check_fit, load_net, load_support, start_net
from frisket.runs.prepare import source_of


def is_control_run(config: Config) -> bool:
    """Whether a ControlNet is what a run trains."""
    return config.model.train == "controlnet"


def check_control(config: Config) -> None:
    """Refuse a ControlNet that this model has no place for, or of another one; before any work.

    ConfigError names the option and the fix. Of the net its shapes are read, of the model nothing
    that is not here already.
    """
    if not has_control(config):
        return
    family, variant, source = FAMILIES.load(config.model.family), variant_of(config), config.control
    option = "control.source" if source.source is not None else TRAINED
    support = load_support(family, variant, option)
    shapes = load_shapes(config, family)
    if source.source is not None:
        net = load_net(support, source.source, variant, dtype=torch.float32, device="meta")
        if shapes is not None:
            check_fit(support, net, shapes, option, source.source)
        return
    denoiser = shapes or family.tiny(variant).denoiser
    assert denoiser is not None
    start_net(support, denoiser.to("meta"), source.layers)


def load_shapes(config: Config, family: Family) -> nn.Module | None:
    """The denoiser on the meta device, of several the first; None where its shape is not known."""
    try:
        denoiser = family.load_denoiser(
            replace(source_of(config, family), device="meta", quantise="none")
        )
    except WeightsNotFound:
        return None
    return unwrap_model(next(iter(experts_of(denoiser).values())))


def open_net(config: Config, family: Family, denoiser: nn.Module, source: Source) -> nn.Module:
    """The net of a run for its loaded denoiser: frozen from its folder, or to be trained.

    To be called before the denoiser's weights are put away (block swap) or changed (float8): one
    that begins from the base copies them. On the CPU, but one that begins on the denoiser's device.
    ConfigError as `check_control`.
    """
    variant, path = source.variant, config.control.source
    support = load_support(family, variant, "control")
    if path is None:
        layers, seed = config.control.layers, config.run.seed
        return start_net(support, unwrap_model(denoiser), layers, seed=seed)
    dtype = torch.float32 if is_control_run(config) else source.dtype
    device = "meta" if source.device == "meta" else "cpu"
    net = load_net(support, path, variant, dtype=dtype, device=device)
    first = unwrap_model(next(iter(experts_of(denoiser).values())))
    check_fit(support, net, first, "control.source", path)
    return net


def describe_control(config: Config) -> str:
    """What is under control and how, in a line of the banner."""
    options = config.control
    places = {"none": "", "inside": ", inside the regions alone", "outside": ", outside them alone"}
    place = places[options.confine]
    if is_control_run(config):
        begin = f"from {options.source.name}" if options.source is not None else "from the base"
        return f"a ControlNet, begun {begin}{place}; the base is frozen, no LoRA"
    assert options.source is not None
    least, most = options.drawn_scale
    return (
        f"{options.source.name}, frozen, at {least:g} to {most:g}, off in"
        f" {options.drawn_dropout:.0%} of the draws{place}"
    )


def warn_free_cells(config: Config) -> list[str]:
    """What to say of a trained ControlNet that nothing holds outside the mask; [] where not."""
    background = config.region_weights.get("background", 0.0)
    is_held = background > 0 or config.curve.floor > 0 or "prior" in config.losses.terms
    if not is_control_run(config) or is_held:
        return []
    return [
        "the background has no weight, so that nothing is learnt of control there and the"
        " ControlNet drifts freely: set curve.floor (0.1), a weight of regions.background, or"
        " losses.prior"
    ]

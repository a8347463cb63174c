"""A run's ControlNet on the meta device, for foretelling its memory."""

from dataclasses import replace

import torch
from torch import nn

from frisket.config.tree import Config
from frisket.families.base import Family, Source, WeightsNotFound
from frisket.families.control.base import CONTROLS
from frisket.families.control.branch import connect_control
from frisket.runs.control.connect import place_net
from frisket.runs.control.setup import open_net
from frisket.runs.memory.clip_sizes import find_size


def rehearse_controls(config: Config, family: Family, source: Source, denoiser: nn.Module) -> float:
    """Show a net on the meta device controls without content, for foretelling memory.

    Returns the bytes of a frozen one, which lies on the device besides.
    """
    support, card = CONTROLS.load(family.name), family.variants[source.variant]
    # From the base as it is loaded, before its weights are narrowed.
    base = family.load_denoiser(replace(source, device="meta", quantise="none"))
    net = open_net(config, family, base, source)
    part = place_net(config, denoiser, net)
    branch = connect_control(family, denoiser, net)
    size, count = find_size(config, card), config.run.batch
    with torch.no_grad():
        vae = _load_vae_shapes(family, source) if support.reads == "latents" else None
        if support.reads == "pixels" or vae is not None:
            read = support.read(net, vae, torch.empty(1, 3, *size, device="meta"))
        else:
            read = torch.empty(1, card.grid.channels, *card.grid.cells(*size), device="meta")
    # The strengths are numbers: whether any is above 0 is asked.
    branch.set_rows(read.expand(count, *read.shape[1:]), torch.ones(count), None)
    return 0.0 if part is not None else float(sum(value.nbytes for value in net.parameters()))


def _load_vae_shapes(family: Family, source: Source) -> nn.Module | None:
    try:
        return family.load_vae(replace(source, quantise="none")).to("meta")
    except WeightsNotFound:
        return None

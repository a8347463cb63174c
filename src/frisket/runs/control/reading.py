"""What the ControlNet of a run reads of control pictures through the VAE, for the cache."""

import gc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.targets import unwrap_model
from frisket.config.checks.control import has_control
from frisket.config.tree import Config
from frisket.data.cached.index import Index
from frisket.data.sample import Batch
from frisket.families.base import FAMILIES, Family, Source
from frisket.families.control.base import CONTROLS, ControlSupport
from frisket.families.experts import experts_of
from frisket.runs.control.nets import load_net, start_net
from frisket.training.memory.precision import tile


class ControlReader:
    """The VAE of a family and a net's shapes, loaded when first asked; see `ControlEncoder`."""

    def __init__(
        self,
        config: Config,
        family: Family,
        source: Source,
        support: ControlSupport,
        record: Mapping[str, Any],
    ) -> None:
        self.config, self.family, self.source, self.support = config, family, source, support
        self.record = record
        self._vae: nn.Module | None = None
        self._net: nn.Module | None = None

    @torch.no_grad()
    def read(self, control: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 c f h w"]:
        """One control clip, RGB in [0, 1], to what the net reads of it; on the CPU."""
        if self._vae is None:
            self._vae = self.family.load_vae(self.source).to(self.source.device)
            if self.config.memory.tile_vae:
                tile(self._vae)
            self._net = self._load_net_shapes()
        assert self._net is not None
        pixels = control.to(self.source.device)  # rounded once, by the VAE's own encode
        return self.support.read(self._net, self._vae, pixels).cpu()

    def _load_net_shapes(self) -> nn.Module:
        """The net on the meta device: what is read depends on its configuration alone."""
        path, variant = self.config.control.source, self.source.variant
        if path is not None:
            return load_net(self.support, path, variant, dtype=self.source.dtype, device="meta")
        shapes = self.family.load_denoiser(replace(self.source, device="meta", quantise="none"))
        model = unwrap_model(next(iter(experts_of(shapes).values())))
        return start_net(self.support, model.to("meta"), self.config.control.layers)

    def unload(self) -> None:
        """Let go of the models, on the device too."""
        if self._vae is None:
            return
        self._vae = self._net = None
        gc.collect()
        if self.source.device.startswith("cuda"):
            torch.cuda.empty_cache()


def make_control_reader(
    config: Config, source: Source, index: Index, pixels: Mapping[str, Any]
) -> ControlReader | None:
    """What encodes the controls of a run; None where there is no net, or it reads pixels.

    `pixels` is the record of the VAE that encodes the clips (`Loaded.pixels_record`).
    """
    if not has_control(config) or config.model.family not in CONTROLS.names():
        return None
    support = CONTROLS.load(config.model.family)
    if support.reads == "pixels":
        return None
    options = config.control
    net: Any = {"layers": options.layers}
    if options.source is not None:
        path = options.source / "config.json"
        net = index.content(path) if path.is_file() else str(path)
    record = {**pixels, "control net": net}
    return ControlReader(config, FAMILIES.load(config.model.family), source, support, record)


def read_batch(support: ControlSupport, net: nn.Module, batch: Batch) -> Tensor:
    """What a net reads of a batch's controls, b c f h w, float32.

    ValueError where the batch has none.
    """
    control = batch.control_latents if support.reads == "latents" else batch.control
    if control is None:
        raise ValueError(
            f"the clips {', '.join(batch.names)} have no control picture: set `control` of every"
            " [[data]]"
        )
    if support.reads == "latents":
        return control.float()
    return torch.cat([support.read(net, None, row[None].float()) for row in control])

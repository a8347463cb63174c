"""From an image adapter's file to an adapter on a denoiser's layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.layouts import LAYOUTS, ImageAdapterFile
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.timed import TimedProjection
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.attention.base import AttentionLayer
from frisket.families.base import Family
from frisket.families.experts import experts_of
from frisket.inference.methods.identity.image_attention import BranchRows, ImageAdapter
from frisket.inference.methods.identity.reference_tokens import ReferenceTokens
from frisket.inference.methods.plugin import MethodUnusable


def refuse_places(family: Family, variant: str) -> str:
    """Why no image adapter runs on a variant; empty where one can. Nothing is read."""
    card = family.variants[variant]
    try:
        number_tiny_layers(family, card.like or variant)
    except AdapterMismatch:
        return (
            f"no attention layer of {family.name} {variant} has a place for a second attention"
            " (its blocks take prompt and picture as one sequence), and no image adapter is"
            " published for it"
        )
    return ""


def number_tiny_layers(family: Family, variant: str) -> Mapping[int, str]:
    """`number_layers` of a variant's tiny parts: what can be said before the denoiser is loaded."""
    return _number_layers_once(family, variant)  # type: ignore[arg-type] # a Family hashes


@lru_cache(maxsize=64)
def _number_layers_once(family: Family, variant: str) -> Mapping[int, str]:
    denoiser = family.tiny(variant).denoiser
    assert denoiser is not None
    return number_layers(family, denoiser)


def refuse_file(file: ImageAdapterFile, source: str, family: Family, variant: str) -> None:
    """MethodUnusable for a file that was made for another kind of model, before that is loaded."""
    home = file.family or LAYOUTS[file.kind].family
    if home and home != family.name:
        raise MethodUnusable(f"{source} ({file.kind}) was made for {home}, not {family.name}")
    tiny = family.variants[variant].like or variant
    numbers = number_tiny_layers(family, tiny)
    if min(numbers) != min(file.numbers):
        kinds = ("a transformer", "a UNet") if min(file.numbers) else ("a UNet", "a transformer")
        raise MethodUnusable(
            f"{source} ({file.kind}) numbers its layers as {kinds[1]}'s, and {family.name} is"
            f" {kinds[0]}: it was made for another model"
        )


def list_expert_places(family: Family, denoiser: nn.Module) -> list[AttentionLayer]:
    """The layers with a place of all experts, those of one name side by side."""
    models = [unwrap_model(expert) for expert in experts_of(denoiser).values()]
    return [layer for model in models for layer in list_places(family, model).values()]


def name_layers(
    file: ImageAdapterFile, source: str, family: Family, denoiser: nn.Module
) -> dict[int, str]:
    """Names of a file's layers in a model by number; MethodUnusable where they are another's."""
    numbers = number_layers(family, denoiser)
    if set(numbers) != set(file.numbers):
        raise MethodUnusable(
            f"{source} has keys and values for {len(file.numbers)} layers, this {family.name}"
            f" has {len(numbers)}: it was made for another model"
        )
    places = list_places(family, denoiser)
    for number, width in zip(file.numbers, file.inner, strict=True):
        module: Any = places[numbers[number]].module
        if module.to_q.out_features != width:
            raise MethodUnusable(
                f"{source}: its layer {number} is {width} channels wide,"
                f" {numbers[number]} of this {family.name} {module.to_q.out_features}: it was made"
                " for another model"
            )
    return numbers


@dataclass(eq=False, slots=True)
class PlacedModule:
    """A module that follows what it is called with: to its device, in its dtype.

    Denoisers may be swapped, quantised or moved after an adapter was built.
    """

    module: nn.Module

    def __call__(self, *inputs: Any) -> Any:
        """The module's output; the last input says where."""
        weight = next(self.module.parameters())
        if (weight.device, weight.dtype) != (inputs[-1].device, inputs[-1].dtype):
            self.module.to(inputs[-1].device, inputs[-1].dtype)
        return self.module(*inputs)


@dataclass(eq=False, slots=True)
class TimedTokens:
    """Tokens of states by the time; those of the last call are kept, as all its layers ask."""

    projection: PlacedModule
    pictures: int
    states: Tensor | None = None
    timestep: Tensor | None = None
    tokens: tuple[Tensor, Tensor] | None = None

    def read(
        self, states: Float[Tensor, "r m s"], timestep: Tensor
    ) -> tuple[Float[Tensor, "r t c"], Float[Tensor, "r e"]]:
        """Tokens of all pictures of each row, and the time's embedding."""
        if self.tokens is None or not self._is_last(states, timestep):
            pictures = states.unflatten(1, (self.pictures, -1)).flatten(0, 1)
            times = timestep.float().repeat_interleave(self.pictures)
            tokens, time = self._project(pictures, times)
            tokens = tokens.unflatten(0, (len(states), -1)).flatten(1, 2)
            self.tokens = tokens, time[:: self.pictures]
            self.states, self.timestep = states, timestep
        return self.tokens

    def _is_last(self, states: Tensor, timestep: Tensor) -> bool:
        assert self.states is not None
        assert self.timestep is not None
        return all(
            last.shape == now.shape and last.device == now.device and torch.equal(last, now)
            for last, now in ((self.states, states), (self.timestep, timestep))
        )

    def _project(self, states: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        module = self.projection.module
        module.to(states.device, states.dtype)
        tokens, time = module(states, timestep)
        return tokens, time


@dataclass(frozen=True, slots=True)
class TimedImageAdapter(ImageAdapter):
    """InstantX's adapter for SD3: tokens follow the time, and the picture reads itself beside them.

    `keys` are its layers (and `values` too, for the contract); `tokens` the encoder's states.
    """

    timed: TimedTokens | None = field(default=None)

    def read_tokens(self, rows: BranchRows) -> Float[Tensor, "r n heads d"]:
        """As InstantX's; ValueError where the layer does not say what it projected, or when."""
        if rows.projected is None or rows.timestep is None or self.timed is None:
            raise ValueError(
                f"{rows.place.layer} gives an image adapter no projections or no time, which"
                " instantx-sd3 reads"
            )
        tokens, time = self.timed.read(rows.tokens, rows.timestep)
        layer: Callable[..., Tensor] = self.keys[rows.place.layer]
        return layer(rows.projected, tokens, time)


def build_image_adapter(
    file: ImageAdapterFile,
    tokens: ReferenceTokens,
    *,
    scale: float,
    names: Mapping[int, str],
) -> ImageAdapter:
    """The adapter of a file, given projected references, on the layers that `name_layers` said."""
    if file.kind == "instantx-sd3":
        layers = {
            names[number]: PlacedModule(layer)
            for number, layer in file.build_timed_layers().items()
        }
        projection = file.build_projection()
        assert isinstance(projection, TimedProjection)
        timed = TimedTokens(PlacedModule(projection.eval()), tokens.pictures)
        return TimedImageAdapter(layers, layers, tokens.tokens, tokens.negative, scale, timed=timed)
    pairs: Any = file.build_layers()
    keys, values = (
        {names[int(number)]: PlacedModule(getattr(pair, part)) for number, pair in pairs.items()}
        for part in ("to_k_ip", "to_v_ip")
    )
    return ImageAdapter(keys, values, tokens.tokens, tokens.negative, scale)

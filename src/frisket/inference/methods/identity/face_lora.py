"""The LoRA in a FaceID file: on for a call, confined to where the adapter acts, then gone.

It lies on query, key, value and out projection of every attention, self-attention too. It goes on
by hooks, beside any LoRA of the user's, and no weight is touched.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.attention import number_attentions
from frisket.adapters.image.layouts import ImageAdapterFile
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.methods.identity.region_masks import lay_on_rows
from frisket.inference.methods.identity.strict import blend_predictions
from frisket.inference.methods.plugin import MethodUnusable
from frisket.shapes import Cells

PARTS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
PICTURE = ".transformer_blocks."  # what comes before is the module that is given the picture


@dataclass(eq=False, slots=True)
class LowRank:
    """One pair of factors: x to up(down(x)), in the dtype and on the device of x."""

    down: Float[Tensor, "r i"]
    up: Float[Tensor, "o r"]

    def update(self, states: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """What is added to the layer's output, before its scale."""
        if (self.down.device, self.down.dtype) != (states.device, states.dtype):
            self.down, self.up = (factor.to(states) for factor in (self.down, self.up))
        return states @ self.down.mT @ self.up.mT


@dataclass(eq=False, slots=True)
class FaceLora:
    """A FaceID file's LoRA on a UNet; `layers` are its factors by the name of the attention.

    `scale` multiplies it: the authors leave it at 1 whatever the adapter's own scale is. It is off
    where `attention`, the adapter's own, is.
    """

    model: nn.Module
    layers: Mapping[str, Mapping[str, LowRank]]
    scale: float = 1.0
    off: bool = False  # within the pass that is blended in outside the mask
    cells: dict[str, Cells] = field(default_factory=dict)  # by the name of the picture's module

    @contextmanager
    def attach(
        self, attention: ImageAttention, mask: Float[Tensor, "m f h w"] | None = None
    ) -> Iterator[None]:
        """Inside, it acts; with a mask each attention runs twice and is blended by its rows.

        Where the mask is 0, an attention gives what it gives without the LoRA, exactly. One mask
        for all samples; ValueError for more.
        """
        if mask is not None and len(mask) != 1:
            raise ValueError(f"{len(mask)} masks for FaceID's LoRA: one for all samples")
        with ExitStack() as stack:
            for name, parts in self.layers.items():
                module = self.model.get_submodule(name)
                for part, factors in parts.items():
                    # First of its hooks: others are to see the query that the model uses.
                    handle = module.get_submodule(PARTS[part]).register_forward_hook(
                        partial(self._add, attention, factors), prepend=True
                    )
                    stack.callback(handle.remove)
                if mask is not None:
                    self._limit_layer(stack, name, attention, mask)
            yield

    def _add(
        self,
        attention: ImageAttention,
        factors: LowRank,
        _: nn.Module,
        args: tuple[Any, ...],
        output: Tensor,
    ) -> Tensor | None:
        if self.off or attention.side == "off":
            return None
        return output + self.scale * factors.update(args[0])

    def _limit_layer(
        self, stack: ExitStack, name: str, attention: ImageAttention, mask: Tensor
    ) -> None:
        picture = name.split(PICTURE, maxsplit=1)[0]
        grid = self.model.get_submodule(picture).register_forward_pre_hook(
            partial(self._take_cells, picture), with_kwargs=True
        )
        blend = self.model.get_submodule(name).register_forward_hook(
            partial(self._blend, picture, mask, attention), with_kwargs=True, prepend=True
        )
        stack.callback(grid.remove)
        stack.callback(blend.remove)

    def _take_cells(self, name: str, _: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        self.cells[name] = (1, *states.shape[-2:])

    def _blend(
        self,
        name: str,
        mask: Tensor,
        attention: ImageAttention,
        module: nn.Module,
        args: Any,
        kwargs: Mapping[str, Any],
        output: Tensor,
    ) -> Tensor | None:
        if attention.side == "off":
            return None
        forward: Callable[..., Tensor] = module.forward
        self.off = True
        try:
            bare = forward(*args, **kwargs)
        finally:
            self.off = False
        frames = mask.shape[1]  # those of a sample are rows of their own
        factors = lay_on_rows(mask, self.cells[name], torch.zeros(1).long(), frames)
        factors = factors.repeat(len(output) // frames, 1, 1)
        return blend_predictions(output, bare, factors.to(output))


def build_face_lora(
    file: ImageAdapterFile, source: str, model: nn.Module, scale: float
) -> FaceLora | None:
    """The LoRA of a FaceID file on a UNet; None where it has none, or `scale` is 0.

    MethodUnusable for a file whose LoRA does not fit the model.
    """
    if not file.loras or scale == 0:
        return None
    processors: Any = getattr(model, "attn_processors", {})
    names = {
        number: name.removesuffix(".processor")
        for name, number in number_attentions(processors).items()
    }
    layers: dict[str, dict[str, LowRank]] = {}
    for key in file.loras:
        if not key.endswith(".down.weight"):
            continue
        number, part = key.removesuffix("_lora.down.weight").split(".to_")
        if int(number) not in names:
            raise MethodUnusable(
                f"{source}: its LoRA has {key}, and this model has {len(names)} attention layers:"
                " it was made for another model"
            )
        factors = LowRank(file.loras[key], file.loras[key.replace(".down.", ".up.")])
        name = names[int(number)]
        _check_fit(source, key, factors, model.get_submodule(f"{name}.{PARTS[part]}"))
        layers.setdefault(name, {})[part] = factors
    return FaceLora(model, layers, scale)


def _check_fit(source: str, key: str, factors: LowRank, projection: Any) -> None:
    sizes = (projection.out_features, projection.in_features)
    if (len(factors.up), factors.down.shape[1]) != sizes:
        raise MethodUnusable(
            f"{source}: {key} is for a layer of {factors.down.shape[1]} inputs and"
            f" {len(factors.up)} outputs, this model's has {sizes[1]} and {sizes[0]}: it was made"
            " for another model"
        )

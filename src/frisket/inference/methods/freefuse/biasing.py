"""Hands the bias to the attention layers that take one: by the argument they have for a mask."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, PhrasePositions, Projections
from frisket.attention.maps import lay_on_grid
from frisket.inference.methods.freefuse.bias import Bias, bias_cells, bias_words

ARGUMENT = "attention_mask"
Owners = Sequence[int | None]  # of each row of a call: whose prompt it has; None for another


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What a layer attends to: how many keys, which of them are the prompt, which cells."""

    keys: int
    text: slice
    image: slice | None
    cells: tuple[int, int, int]


def refuse_unbiased(layers: Sequence[AttentionLayer]) -> None:
    """ValueError for a layer that has no place for a bias, naming the first."""
    for layer in layers:
        module = layer.module
        takes_bias = ARGUMENT in inspect.signature(type(module).forward).parameters
        # diffusers' older joint attention makes a mask of its own from the prompt's padding.
        if not takes_bias or (layer.kind == "joint" and isinstance(module, Attention)):
            raise ValueError(
                f"the attention of {layer.name} ({type(module).__name__}) takes no bias: leave it"
                " out; the masks on the LoRAs do most of the work"
            )


@contextmanager
def watch_shapes(layers: Sequence[AttentionLayer], shapes: dict[str, LayerShape]) -> Iterator[None]:
    """Inside, `shapes` gets those of every layer's last call."""

    def listen(name: str) -> Callable[[Projections], None]:
        def receive(projections: Projections) -> None:
            shapes[name] = LayerShape(
                projections.key.shape[1], projections.text, projections.image, projections.cells
            )

        return receive

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.tap(listen(layer.name)))
        yield


@contextmanager
def bias_layers(
    layers: Sequence[AttentionLayer],
    shapes: Mapping[str, LayerShape],
    masks: Float[Tensor, "b T f h w"],
    phrases: PhrasePositions,
    bias: Bias,
    find_owners: Callable[[], Owners],
) -> Iterator[None]:
    """Inside, these layers' logits are pushed by `bias`; rows of other prompts are left alone."""
    with ExitStack() as stack:
        for layer in layers:
            pushes = build_pushes(shapes[layer.name], masks, phrases, bias)
            add_bias = _hand_over(layer, pushes, find_owners)
            handle = layer.module.register_forward_pre_hook(add_bias, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def build_pushes(
    shape: LayerShape, masks: Float[Tensor, "b T f h w"], phrases: PhrasePositions, bias: Bias
) -> Float[Tensor, "b rows keys"]:
    """What is added to a layer's logits for each sample: all its queries, all its keys."""
    lowered_masks = lay_masks(masks, shape.cells).flatten(2)
    length = shape.text.stop - shape.text.start
    cells = bias_cells(lowered_masks, phrases, length, bias)
    if shape.image is None:
        pushes = cells.new_zeros(*cells.shape[:2], shape.keys)
        pushes[:, :, shape.text] = cells
        return pushes
    pushes = cells.new_zeros(len(cells), shape.keys, shape.keys)
    pushes[:, shape.image, shape.text] = cells
    pushes[:, shape.text, shape.image] = bias_words(lowered_masks, phrases, length, bias)
    return pushes


def lay_masks(
    masks: Float[Tensor, "b T f h w"], cells: tuple[int, int, int]
) -> Float[Tensor, "b T F H W"]:
    """Masks on a layer's grid: copies where it is finer, area means where it is coarser."""
    if masks.shape[2] <= cells[0] and all(
        have <= want for have, want in zip(masks.shape[3:], cells[1:], strict=True)
    ):
        return lay_on_grid(masks, cells)
    return nn.functional.adaptive_avg_pool3d(masks, cells)


def _hand_over(
    layer: AttentionLayer, pushes: Float[Tensor, "b rows keys"], find_owners: Callable[[], Owners]
) -> Callable[..., Any]:
    names = list(inspect.signature(type(layer.module).forward).parameters)[1:]
    place = names.index(ARGUMENT)
    folds = isinstance(layer.module, Attention)  # it repeats a mask for every head

    def add_bias(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        current_bias = args[place] if len(args) > place else kwargs.get(ARGUMENT)
        if current_bias is not None:
            raise ValueError(f"{layer.name} has an attention mask of its own: leave the bias out")
        rows = [
            torch.zeros_like(pushes[0]) if owner is None else pushes[owner]
            for owner in find_owners()
        ]
        state: Tensor = args[0] if args else kwargs["hidden_states"]
        added = torch.stack(rows).to(state)
        added = added if folds else added[:, None]
        if len(args) > place:
            return (*args[:place], added, *args[place + 1 :]), kwargs
        return args, {**kwargs, ARGUMENT: added}

    return add_bias

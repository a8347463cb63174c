"""An image adapter's branches on a denoiser that trains: every row attends to its own picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from frisket.adapters.image.adapter import ImageAdapterModules, find_image_adapter
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.targets import unwrap_model
from frisket.attention.base import BranchCall, get_samples
from frisket.families.base import Family
from frisket.families.streams import bind_call
from frisket.inference.methods.identity import image_attention
from frisket.inference.methods.identity.image_attention import (
    LayerPlace,
    Projection,
    RowOwners,
    compute_branch,
)
from frisket.inference.methods.identity.instantid.control import (
    mask_residual,
    measure_picture,
    predict_residuals,
)
from frisket.inference.methods.identity.region_masks import lay_on_rows
from frisket.inference.methods.identity.rescale import put_tokens
from frisket.inference.methods.identity.residuals import UNetResiduals, join_residuals
from frisket.inference.methods.identity.token_layers import name_layers
from frisket.shapes import Weights


@dataclass(eq=False, slots=True)
class ReferenceBranches:
    """What the adapter on a denoiser attends to in the calls that come.

    `rows` are the embeddings of their pictures, one a row, None where the adapter is off; `place`
    is where it acts, b 1 f h w in [0, 1] (None: everywhere), and `draw_pictures` gives
    IdentityNet's pictures b 3 H W, RGB in [0, 1], at a height and width in pixels. They stay until
    they are set anew, for a block that is computed again in the backward pass must see what it saw
    before.
    """

    adapter: ImageAdapterModules
    keys: Mapping[str, Projection]
    values: Mapping[str, Projection]
    rows: Sequence[Tensor] | None = None
    place: Weights | None = None
    draw_pictures: Callable[[int, int], Tensor] | None = None
    tokens: Tensor | None = field(default=None, init=False)  # of the call that is under way

    def set_rows(
        self,
        rows: Sequence[Tensor] | None,
        place: Weights | None = None,
        draw_pictures: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        """From now on, calls of the denoiser have these rows; None turns the adapter off."""
        self.rows, self.place, self.draw_pictures = rows, place, draw_pictures

    @contextmanager
    def show(
        self,
        rows: Sequence[Tensor] | None,
        draw_pictures: Callable[[int, int], Tensor] | None = None,
    ) -> Iterator[None]:
        """Inside, calls of the denoiser have these rows, everywhere; after, the adapter is off."""
        self.set_rows(rows, None, draw_pictures)
        try:
            yield
        finally:
            self.set_rows(None)

    def begin_call(self, _module: nn.Module, _args: Any) -> None:
        """Before the denoiser's forward pass: the tokens of its rows, by the weights of now."""
        if self.rows is None or self.adapter.is_silent:
            self.tokens = None
            return
        weight = next(self.adapter.parameters())
        self.tokens = self.adapter.project_rows(torch.stack(list(self.rows)).to(weight))

    def update(self, name: str, call: BranchCall) -> Tensor | None:
        """What the adapter adds in one call of the layer `name`."""
        if self.tokens is None:
            return None
        samples = tuple(range(len(self.tokens))) if call.samples is None else call.samples
        owners = RowOwners(torch.tensor(samples), (True,) * len(samples))
        adapter = image_attention.ImageAdapter(
            keys={name: self.keys[name]}, values={name: self.values[name]}, tokens=self.tokens
        )
        branch = compute_branch(adapter, call, owners, LayerPlace(name, 0))
        if branch is None or self.place is None:
            return branch
        # Multiplied, not skipped where nothing is left: every parameter has a gradient.
        frames = len(call.query) // len(samples)
        factors = lay_on_rows(self.place[:, 0].float(), call.cells, owners.samples, frames)
        return branch * factors.to(branch.device, branch.dtype)

    def change_call(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a UNet's forward pass: residuals of IdentityNet, or a face's words in the prompt.

        None, and the call is as it was, where the adapter is off or is of another kind. ValueError
        where IdentityNet is shown no pictures of key points.
        """
        if self.tokens is None:
            return None
        call = bind_call(model, args, kwargs)
        rows = self._list_rows(len(call["sample"]))
        tokens = self.tokens[rows]
        if self.adapter.identity_net is None:
            text = call["encoder_hidden_states"]
            call["encoder_hidden_states"] = put_tokens(text, tokens)
        else:
            call = join_residuals(call, self._predict_residuals(call, rows, tokens))
        call.pop("self", None)
        return (), call

    def _list_rows(self, count: int) -> list[int]:
        """The row of the batch that each of a call is of: a sample's frames lie side by side."""
        assert self.tokens is not None
        samples = get_samples()
        numbers = list(range(len(self.tokens)) if samples is None else samples)
        return [number for number in numbers for _ in range(count // len(numbers))]

    def _predict_residuals(
        self, call: Mapping[str, Any], rows: Sequence[int], tokens: Tensor
    ) -> UNetResiduals:
        if self.draw_pictures is None:
            raise ValueError("InstantID trains with a picture of key points a row, and has none")
        net, sample = cast(ControlNetModel, self.adapter.identity_net), call["sample"]
        factor = measure_picture(net)
        height, width = (factor * side for side in sample.shape[-2:])
        picture = self.draw_pictures(height, width)[rows].to(sample.device)
        residuals = predict_residuals(net, call, tokens=tokens, picture=picture)
        if self.place is None:
            return residuals
        mask = self.place[:, 0].float()[rows]
        return residuals.change(partial(mask_residual, mask=mask))


def connect_branches(family: Family, denoiser: nn.Module) -> ReferenceBranches:
    """Let the adapter that was put on a denoiser join its layers, for as long as it lives.

    AdapterMismatch for a model without a place; ValueError where no adapter was put on it.
    """
    model = unwrap_model(denoiser)
    adapter = find_image_adapter(model)
    if adapter is None:
        raise ValueError("no image adapter was put on the denoiser")
    places = list_places(family, model)
    # UniID's text branch has no attention of its own.
    numbers = number_layers(family, model) if len(adapter.ip_adapter) else {}
    layers = name_layers(adapter.ip_adapter, numbers)
    branches = ReferenceBranches(adapter, layers.keys, layers.values)
    model.register_forward_pre_hook(branches.begin_call)
    if adapter.identity_net is not None or adapter.kind == "uniid-text":
        model.register_forward_pre_hook(branches.change_call, with_kwargs=True)
    for name in layers.keys:
        add_branch = places[name].add_branch
        assert add_branch is not None
        add_branch(partial(branches.update, name))
    return branches

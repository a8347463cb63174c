"""A second attention to an image's tokens, added to the layers that attend to the prompt.

out += scale * mask * Attention(query, key_image, value_image), as IP-Adapter (arXiv 2308.06721,
equation 5), with masks of our own, for every family whose layers have a place for it. With scale 0
or a mask of zeros nothing is computed, so that the model is the bare one bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from frisket.attention.base import AttentionLayer, BranchCall
from frisket.inference.methods.identity.region_masks import lay_on_rows
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Cells

Projection = Callable[[Float[Tensor, "r t c"]], Float[Tensor, "r t i"]]
MergeBranch = Callable[[Float[Tensor, "r n i"], Float[Tensor, "r n i"]], Float[Tensor, "r n i"]]
# Whose image tokens rows get: their own side's, everyone the image's, everyone the negative's; off.
RowSide = Literal["own", "image", "negative", "off"]


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """Which layer is called, and in which denoising step (from 0)."""

    layer: str
    step: int


# How a branch attends: queries r n heads d, keys and values r t heads d; gives r n heads d.
Attend = Callable[[Tensor, Tensor, Tensor, LayerPlace], Tensor]


def attend_plainly(query: Tensor, key: Tensor, value: Tensor, _: LayerPlace) -> Tensor:
    """Softmax attention, the same in every layer and step."""
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class BranchRows:
    """What the rows that an adapter has tokens for attend with, in one call of one layer.

    Samples are rows of `tokens` and `timestep`, with `frames` rows each in the others. `projected`
    as in `BranchCall`.
    """

    query: Float[Tensor, "r n heads d"]
    tokens: Float[Tensor, "s t c"]
    place: LayerPlace
    frames: int
    timestep: Tensor | None = None
    projected: tuple[Tensor, Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class ImageAdapter:
    """One image adapter, and the image that it is given for each sample.

    `keys` and `values` project tokens by the name of a layer; layers without are left alone.
    `tokens` are the image's, one sample each or one for all; `negative` those of the guidance's
    other side (None: that side has no branch). `scale` is one number, or one a step, of which the
    last holds on. `mask` m f h w in [0, 1], on any grid (the latent's, say), is where it acts; None
    everywhere. `merge` (branch, output) changes the branch by what it is added to, before mask and
    scale.
    """

    keys: Mapping[str, Projection]
    values: Mapping[str, Projection]
    tokens: Float[Tensor, "b t c"]
    negative: Float[Tensor, "o t c"] | None = None
    scale: float | Sequence[float] = 1.0
    mask: Float[Tensor, "m f h w"] | None = None
    attend: Attend = attend_plainly
    merge: MergeBranch | None = None

    def __post_init__(self) -> None:
        """ValueError for keys without values, and for tokens or a mask of other dimensions."""
        if self.keys.keys() != self.values.keys():
            lone = sorted(self.keys.keys() ^ self.values.keys())
            raise ValueError(f"an image adapter has keys without values (or the reverse) at {lone}")
        for name, tensor, dimensions in (("tokens", self.tokens, 3), ("mask", self.mask, 4)):
            if tensor is not None and tensor.ndim != dimensions:
                raise ValueError(
                    f"{name} of an image adapter have {dimensions} dimensions, got"
                    f" {tuple(tensor.shape)}"
                )

    def scale_at(self, step: int) -> float:
        """The scale of a step."""
        if isinstance(self.scale, Sequence):
            return self.scale[min(step, len(self.scale) - 1)]
        return self.scale

    @property
    def is_masked_out(self) -> bool:
        """Whether the mask leaves nothing."""
        return self.mask is not None and not bool((self.mask > 0).any())

    def read_tokens(self, rows: BranchRows) -> Float[Tensor, "r n heads d"]:
        """What each query reads of its tokens; adapters that read more than tokens have another."""
        heads = rows.query.shape[-2:]
        key, value = (
            project[rows.place.layer](rows.tokens)
            .unflatten(-1, heads)
            .repeat_interleave(rows.frames, 0)
            for project in (self.keys, self.values)
        )
        return self.attend(rows.query, key, value, rows.place)


@dataclass(frozen=True, slots=True)
class RowOwners:
    """Of each sample's row in a call: which sample, and whether it is on the prompt's side."""

    samples: Int[Tensor, "r"]
    positive: tuple[bool, ...]

    def turn(self, side: RowSide) -> "RowOwners":
        """All on one side, where `side` says so."""
        if side not in ("image", "negative"):
            return self
        return RowOwners(self.samples, (side == "image",) * len(self.positive))


def compute_branch(
    adapter: ImageAdapter, call: BranchCall, owners: RowOwners, place: LayerPlace
) -> Float[Tensor, "r n i"] | None:
    """What one adapter adds in one call of one layer; None where that is nothing.

    Rows are computed by themselves: none reads another's tokens, mask or norm.
    """
    scale = adapter.scale_at(place.step)
    rows = choose_rows(adapter, owners)
    if place.layer not in adapter.keys or scale == 0 or adapter.is_masked_out or not rows:
        return None
    frames = len(call.query) // len(owners.positive)
    branch = adapter.read_tokens(_make_rows(adapter, call, owners, rows, place)).flatten(2)
    if adapter.merge is not None:
        branch = adapter.merge(branch, _take_rows(call.output, rows, frames))
    if adapter.mask is not None:
        samples = owners.samples[rows] if len(adapter.mask) > 1 else torch.zeros(len(rows)).long()
        factors = lay_on_rows(adapter.mask, call.cells, samples, frames)
        branch = branch * factors.to(branch.device, branch.dtype)
    return _spread_rows(scale * branch, rows, len(owners.positive))


def _make_rows(
    adapter: ImageAdapter,
    call: BranchCall,
    owners: RowOwners,
    rows: Sequence[int],
    place: LayerPlace,
) -> BranchRows:
    count = len(owners.positive)
    frames = len(call.query) // count
    query = _take_rows(call.query, rows, frames)
    tokens = torch.stack([_pick_tokens(adapter, owners, row) for row in rows])
    timestep = call.timestep
    if timestep is not None:
        timestep = torch.as_tensor(timestep).to(query.device).flatten()
        timestep = timestep.expand(count)[list(rows)] if len(timestep) in (1, count) else None
    projected = call.projected
    if projected is not None:
        first, second, third = (_take_rows(part, rows, frames) for part in projected)
        projected = (first, second, third)
    tokens = tokens.to(query.device, query.dtype)
    return BranchRows(query, tokens, place, frames, timestep, projected)


def choose_rows(adapter: ImageAdapter, owners: RowOwners) -> list[int]:
    """The rows of a call that the adapter has tokens for."""
    positive = owners.positive
    return [row for row, side in enumerate(positive) if side or adapter.negative is not None]


def _spread_rows(branch: Tensor, rows: Sequence[int], count: int) -> Tensor:
    """Back among all the rows of a call, with 0 in the others."""
    if len(rows) == count:
        return branch
    frames = len(branch) // len(rows)
    spread = branch.new_zeros(count, frames, *branch.shape[1:])
    spread[list(rows)] = branch.unflatten(0, (-1, frames))
    return spread.flatten(0, 1)


def _take_rows(tensor: Tensor, rows: Sequence[int], frames: int) -> Tensor:
    if len(rows) * frames == len(tensor):
        return tensor
    return tensor.unflatten(0, (-1, frames))[list(rows)].flatten(0, 1)


def _pick_tokens(adapter: ImageAdapter, owners: RowOwners, index: int) -> Tensor:
    tokens = adapter.tokens if owners.positive[index] else adapter.negative
    assert tokens is not None
    return tokens[int(owners.samples[index]) if len(tokens) > 1 else 0]


@dataclass(slots=True)
class StepCount:
    """Which denoising step a call is of, from the noise levels that came so far."""

    level: float | None = None
    index: int = -1

    def read(self, timestep: Tensor | None) -> int:
        """The step, from 0; a level that was not the last call's is the next step."""
        level = None if timestep is None else float(torch.as_tensor(timestep).amax())
        if self.index < 0 or level != self.level:
            self.level, self.index = level, self.index + 1
        return self.index


@dataclass(eq=False, slots=True)
class ImageAttention:
    """Image adapters on the layers of a denoiser, several adding up; a method of sampling.

    `side` is whose image tokens rows get now: other methods change it for a pass of their own.
    """

    layers: Sequence[AttentionLayer]
    adapters: Sequence[ImageAdapter]
    side: RowSide = "own"
    cells: Cells | None = None  # the picture's grid in the layer that was called last
    steps: StepCount = field(default_factory=StepCount)

    def __post_init__(self) -> None:
        """ValueError for a layer that is unknown or has no place for a branch, by name."""
        places = {layer.name for layer in self.layers if layer.add_branch is not None}
        for adapter in self.adapters:
            if unknown := sorted(adapter.keys.keys() - places):
                raise ValueError(
                    f"the image adapter is for the layer {unknown[0]}, where this model has no"
                    f" place for one (it has {len(places)}); it was made for another model"
                )

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, every adapter acts; after, the model is as before, bit for bit."""
        check_counts(self.adapters, len(specs))
        with self.attach_branches(make_row_finder(call(), specs)):
            yield

    @contextmanager
    def attach_branches(self, find_owners: Callable[[BranchCall], RowOwners]) -> Iterator[None]:
        """The same around calls of the denoiser alone; `find_owners` says whose its rows are."""
        self.steps = StepCount()
        used = {name for adapter in self.adapters for name in adapter.keys}
        with ExitStack() as stack:
            for layer in self.layers:
                if layer.name in used and layer.add_branch is not None:
                    update = partial(self._update, layer.name, find_owners)
                    stack.callback(layer.add_branch(update))
            yield

    @contextmanager
    def turn(self, side: RowSide) -> Iterator[None]:
        """Inside, rows get the image tokens of `side`."""
        before, self.side = self.side, side
        try:
            yield
        finally:
            self.side = before

    def _update(
        self, name: str, find_owners: Callable[[BranchCall], RowOwners], call: BranchCall
    ) -> Tensor | None:
        self.cells = call.cells
        if self.side == "off":
            return None
        place = LayerPlace(name, self.steps.read(call.timestep))
        owners = find_owners(call).turn(self.side)
        branches = [
            branch
            for adapter in self.adapters
            if (branch := compute_branch(adapter, call, owners, place)) is not None
        ]
        return torch.stack(branches).sum(0) if len(branches) > 1 else next(iter(branches), None)


def check_counts(adapters: Sequence[ImageAdapter], count: int) -> None:
    """ValueError for tokens or masks that are neither one for all nor one a sample."""
    for adapter in adapters:
        for name, tensor in (
            ("images", adapter.tokens),
            ("negative images", adapter.negative),
            ("masks", adapter.mask),
        ):
            if tensor is not None and len(tensor) not in (1, count):
                raise ValueError(
                    f"{len(tensor)} {name} for {count} samples: give one for all, or one each"
                )


def make_row_finder(
    kwargs: Mapping[str, Any], specs: Sequence[SampleSpec]
) -> Callable[[BranchCall], RowOwners]:
    """`find_row_owners` for the calls that a pipeline makes when it is called with `kwargs`."""
    # By guidance 1 pipelines ask about the prompt alone, whatever they are handed beside it.
    is_guided = any(spec.guidance != 1 for spec in specs)
    return partial(
        find_row_owners,
        count=len(specs),
        text=kwargs.get("prompt_embeds"),
        negative=kwargs.get("negative_prompt_embeds") if is_guided else None,
    )


def find_shown_rows(call: BranchCall, count: int) -> RowOwners:
    """Whose the rows of a training call are in a batch of `count`, a row each, all with the prompt.

    ValueError where they are not as many.
    """
    samples = torch.arange(count) if call.samples is None else torch.tensor(call.samples)
    if len(call.query) != len(samples):
        raise ValueError(
            f"the denoiser was called with {len(call.query)} rows for {len(samples)} faces"
        )
    return RowOwners(samples, (True,) * len(samples))


def find_row_owners(
    call: BranchCall, *, count: int, text: Any = None, negative: Any = None
) -> RowOwners:
    """Whose the rows of a call are, in a pipeline that samples `count` at once.

    Pipelines that guide in one call have the negative rows first, then those of the prompts;
    others call once a side, and the side is told by the text. ValueError where the call cannot be
    read, and where both sides' texts are the same in calls apart.
    """
    rows = len(call.query) if not call.folded or call.prompt is None else len(call.prompt)
    return tell_row_owners(
        rows, call.prompt, samples=call.samples, count=count, text=text, negative=negative
    )


def tell_row_owners(
    rows: int,
    prompt: Any,
    *,
    count: int,
    text: Any = None,
    negative: Any = None,
    samples: Sequence[int] | None = None,
) -> RowOwners:
    """The same of a call with so many rows and that text (None: it is not known)."""
    if samples is not None:
        owners = torch.tensor(samples)
        return RowOwners(owners, (not _is_negative(prompt, text, negative),) * len(owners))
    if rows == 2 * count and negative is not None:
        sample_rows = torch.arange(count).repeat(2)
        return RowOwners(sample_rows, (False,) * count + (True,) * count)
    if rows == count:
        return RowOwners(torch.arange(count), (not _is_negative(prompt, text, negative),) * count)
    raise ValueError(f"the denoiser was called with {rows} rows for {count} samples")


def _is_negative(prompt: Any, text: Any, negative: Any) -> bool:
    """Whether a call of one side is the negative's."""
    if negative is None or prompt is None:
        return False
    is_other, is_own = (_is_same(prompt[0], side[0]) for side in (negative, text))
    if is_other and is_own:
        raise ValueError(
            "the prompt and the negative prompt are the same words, and this model is asked about"
            " them apart: image adapters cannot tell which side is meant. Give another negative"
            " prompt, or sample with guidance 1"
        )
    return is_other


def _is_same(row: Tensor, prompt: Tensor) -> bool:
    """Equal where both are, zeros beyond."""
    prompt, length = prompt.to(row.device, row.dtype), min(len(row), len(prompt))
    beyond = (row[length:], prompt[length:])
    return torch.equal(row[:length], prompt[:length]) and not any(rest.any() for rest in beyond)

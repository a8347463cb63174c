"""A ControlNet on a denoiser: residuals in every call of it, for training and sampling alike."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frisket.attention.base import get_samples
from frisket.families.base import Family
from frisket.families.control.base import CONTROLS, ControlNotUsable, ControlSupport, Residuals
from frisket.families.control.computing import is_training, unwrap_net
from frisket.families.control.masking import MaskSide, mask_residuals
from frisket.families.experts import Experts
from frisket.families.streams import bind_call


@runtime_checkable
class NeedsPlaces(Protocol):
    """A support whose denoiser has no arguments for residuals: it makes places for them."""

    def prepare(self, denoiser: nn.Module) -> None:
        """Let a plain denoiser take what `join` writes; again, and last, for each ControlNet."""
        ...


class _SharedPass(NamedTuple):
    """The residuals of a call that the guidance's other pass may share."""

    sample: Any
    timestep: Tensor
    residuals: Residuals


@dataclass(eq=False, slots=True)
class ControlBranch:
    """What a ControlNet on a denoiser is shown in the calls that come.

    `control` is b c f h w as `ControlSupport.read` gives it (one for all rows where b is 1), None
    where it is off; `scale` one number a row; `place` b 1 f h w in [0, 1] where it acts on `side`
    (None: everywhere). They stay until they are set anew. Residuals travel in a call's arguments,
    so that a block that is computed again in the backward pass sees those it saw before.
    """

    support: ControlSupport
    nets: Mapping[str, nn.Module]  # by the expert's name; a plain denoiser is ""
    control: Tensor | None = None
    scale: Tensor | None = None
    place: Tensor | None = None
    side: MaskSide = "inside"
    _shared: _SharedPass | None = field(default=None, init=False)
    _handles: list[RemovableHandle] = field(default_factory=list, init=False)

    def set_rows(
        self,
        control: Float[Tensor, "b c _ _ _"] | None,
        scale: float | Float[Tensor, " _"] = 1.0,
        place: Float[Tensor, "_ 1 f h w"] | None = None,
        side: MaskSide = "inside",
    ) -> None:
        """From now on, calls of the denoiser have these rows; None turns the net off.

        ValueError where there is not one scale, or one mask, for each row (or one for all).
        """
        self._shared = None
        self.control, self.place, self.side = control, place, side
        self.scale = None
        if control is None:
            return
        scales = torch.as_tensor(scale, dtype=torch.float32).reshape(-1)
        for name, values in (("scale", scales), ("place", place)):
            if values is not None and len(values) not in (1, len(control)):
                raise ValueError(
                    f"control of {len(control)} rows with a {name} of {len(values)}: give one for"
                    " each, or one for all"
                )
        self.scale = scales.expand(len(control))

    @contextmanager
    def show(
        self,
        control: Float[Tensor, "b c _ _ _"] | None,
        scale: float | Float[Tensor, " _"] = 1.0,
        place: Float[Tensor, "_ 1 f h w"] | None = None,
        side: MaskSide = "inside",
    ) -> Iterator[None]:
        """Inside, calls of the denoiser have these rows; after, those that there were."""
        before = (self.control, self.scale, self.place, self.side)
        self.set_rows(control, scale, place, side)
        try:
            yield
        finally:
            self._shared = None
            self.control, self.scale, self.place, self.side = before

    def remove(self) -> None:
        """Take the net off the denoiser, which is then as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def change_call(
        self, expert: str, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a forward pass of a plain denoiser: residuals among its arguments.

        None, and the call is as it was, where the net is off or all scales of its rows are 0.
        """
        if self.control is None or self.scale is None:
            return None
        call = bind_call(model, args, kwargs)
        sample = _find_sample(call)
        rows = list_rows(len(sample), len(self.control))
        scale = self.scale[rows]
        if not bool(scale.any()):
            return None
        residuals = self._find_shared(call, sample)
        if residuals is None:
            residuals = self._compute(self.nets[expert], model, call, rows)
            self._share(call, sample, residuals)
        joined = self.support.join(call, residuals)
        joined.pop("self", None)
        return (), joined

    def _compute(
        self, net: nn.Module, model: nn.Module, call: Mapping[str, Any], rows: Sequence[int]
    ) -> Residuals:
        assert self.control is not None
        assert self.scale is not None
        with _follow(net):
            residuals = self.support.compute(
                net, model, call, self.control[list(rows)], self.scale[list(rows)]
            )
            if self.place is not None:
                of = [row if len(self.place) > 1 else 0 for row in rows]
                residuals = mask_residuals(residuals, self.place[of], self.side)
        return residuals

    def _share(self, call: Mapping[str, Any], sample: Any, residuals: Residuals) -> None:
        shares = getattr(self.support, "shares_guidance", False)
        if shares and not torch.is_grad_enabled():
            self._shared = _SharedPass(sample, torch.as_tensor(call["timestep"]), residuals)

    def _find_shared(self, call: Mapping[str, Any], sample: Any) -> Residuals | None:
        """Those of the pass before, where this one is of the very same tensor at the same level.

        As the public pipelines with a negative prompt in a pass of its own do: the prompt's
        residuals serve both.
        """
        shared = self._shared
        if shared is None or shared.sample is not sample or torch.is_grad_enabled():
            return None
        is_same_level = torch.equal(shared.timestep, torch.as_tensor(call["timestep"]))
        return shared.residuals if is_same_level else None


def connect_control(
    family: Family, denoiser: nn.Module, net: nn.Module | Mapping[str, nn.Module]
) -> ControlBranch:
    """Let a ControlNet add its residuals to a denoiser's calls until the branch is removed.

    Wrappers (DistributedDataParallel, torch.compile, peft) are looked through, and every expert of
    an `Experts` takes part: with one net for all, or a mapping of nets by the expert's name. The
    net is off until `set_rows`. UnknownPlugin for a family that no ControlNet is made for;
    ControlNotUsable for a net that does not fit the denoiser, and where an expert has none.
    """
    support = CONTROLS.load(family.name)
    models = list_models(denoiser)
    nets = dict(net) if isinstance(net, Mapping) else dict.fromkeys(models, net)
    lacking = sorted(set(models) - set(nets))
    if lacking:
        raise ControlNotUsable(
            f"no ControlNet is given for the expert {', '.join(lacking)}: give one for each"
        )
    for name, model in models.items():
        reason = support.compare(nets[name], model)
        if reason:
            raise ControlNotUsable(reason)
    branch = ControlBranch(support, nets)
    for name, model in models.items():
        change_call = partial(branch.change_call, name)
        branch._handles.append(model.register_forward_pre_hook(change_call, with_kwargs=True))
        if isinstance(support, NeedsPlaces):
            support.prepare(model)
    return branch


def list_models(denoiser: nn.Module) -> dict[str, Any]:
    """The plain models in a denoiser by the expert's name ("" where there is one), unwrapped."""
    bare = _unwrap(denoiser)
    if isinstance(bare, Experts):
        return {name: _unwrap(expert) for name, expert in bare.experts.items()}
    return {"": bare}


def list_rows(count: int, rows: int) -> list[int]:
    """Which row of a control each row of a call has.

    A call of part of a batch (`attention.base.name_samples`) has those rows; guidance repeats all
    of them, one after the other. ValueError where rows are left over.
    """
    if rows == 1:
        return [0] * count
    samples = get_samples()
    numbers = list(range(rows) if samples is None else samples)
    if count % len(numbers):
        raise ValueError(
            f"the denoiser was called with {count} rows and control is there for {len(numbers)}:"
            " give one control for all, or one a row"
        )
    return [numbers[index % len(numbers)] for index in range(count)]


@contextmanager
def _follow(net: nn.Module) -> Iterator[None]:
    """Inside, autograd follows a net that trains and no other.

    Without autograd, autocast keeps none of the weights that it casts: some nets compute with
    layers of the denoiser, whose own pass must not be handed those.
    """
    if is_training(net):
        yield
        return
    keeps = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_autocast_cache_enabled(keeps)


def _find_sample(call: Mapping[str, Any]) -> Any:
    """What is denoised, rows first, under the name that the model's class has for it."""
    return next(call[name] for name in ("sample", "hidden_states", "x") if name in call)


def _unwrap(denoiser: nn.Module) -> Any:
    """The model inside wrappers; peft's holds it under `base_model.model`."""
    inner = unwrap_net(denoiser)
    base = getattr(inner, "base_model", None)
    return getattr(base, "model", inner) if isinstance(base, nn.Module) else inner

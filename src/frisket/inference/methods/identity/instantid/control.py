"""IdentityNet (InstantID, arXiv 2401.07519, section 3.3) beside a UNet: residuals of a face.

A ControlNet whose picture is the face's key points and whose text is the face's tokens; the prompt
does not reach it, but for the pooled text that SDXL adds to the time's embedding, as theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers import ControlNetModel
from jaxtyping import Float
from torch import Tensor

from frisket.attention.base import BranchCall, get_samples
from frisket.families.control.masking import resample_area
from frisket.inference.methods.identity.image_attention import RowOwners, RowSide, StepCount
from frisket.inference.methods.identity.residuals import UNetResiduals

FindOwners = Callable[[BranchCall], RowOwners]


@dataclass(frozen=True, slots=True)
class FaceControl:
    """What IdentityNet is told, and how far it acts.

    `tokens` are the faces', one sample each or one for all, `negative` those of the guidance's
    other side. `picture` has key points in RGB, in [0, 1], at the sample's size in pixels. `mask`
    (m f h w in [0, 1], on any grid; None everywhere) is where its residuals act. `start` and `end`
    are the shares of the steps between which they do.
    """

    tokens: Float[Tensor, "b t c"]
    negative: Float[Tensor, "o t c"]
    picture: Float[Tensor, "p 3 H W"]
    scale: float = 1.0
    mask: Float[Tensor, "m f h w"] | None = None
    start: float = 0.0
    end: float = 1.0

    def is_active(self, step: int, steps: int) -> bool:
        """Whether it does in a step (from 0) of so many: as diffusers' control_guidance_start."""
        is_within = step / steps >= self.start and (step + 1) / steps <= self.end
        is_masked_out = self.mask is not None and not bool((self.mask > 0).any())
        return is_within and self.scale != 0 and not is_masked_out


@dataclass(eq=False, slots=True)
class ResidualSource:
    """IdentityNet in one pipeline call, or one training step: give it to `add_residuals`.

    `find_owners` says whose a call's rows are; `get_side` whose tokens they get now ("off": no
    residuals), so that methods which make passes of their own turn both halves of InstantID.
    `steps` is how many the call has; 1 where every call is its own.
    """

    net: ControlNetModel
    control: FaceControl
    find_owners: FindOwners
    get_side: Callable[[], RowSide] = lambda: "own"
    steps: int = 1
    count: StepCount = field(default_factory=StepCount)

    def compute(self, call: Mapping[str, Any]) -> UNetResiduals | None:
        """What one call of the UNet has added; None, and nothing is computed, where that is 0."""
        side, control, sample = self.get_side(), self.control, call["sample"]
        step = self.count.read(torch.as_tensor(call["timestep"])) if self.steps > 1 else 0
        if side == "off" or not control.is_active(step, self.steps):
            return None
        owners = self.find_owners(describe_call(call)).turn(side)
        residuals = predict_residuals(
            self.net,
            call,
            tokens=gather_tokens(control, owners).to(sample.device),
            picture=_pick_rows(control.picture, owners).to(sample.device),
            scale=control.scale,
        )
        if control.mask is None:
            return residuals
        mask = _pick_rows(control.mask, owners)
        return residuals.change(partial(mask_residual, mask=mask))


def predict_residuals(
    net: ControlNetModel,
    call: Mapping[str, Any],
    *,
    tokens: Float[Tensor, "r t c"],
    picture: Float[Tensor, "r 3 H W"],
    scale: float = 1.0,
) -> UNetResiduals:
    """What IdentityNet makes of a UNet's call (its arguments by name), times `scale`.

    It computes in its own weights' dtype; residuals come in the sample's. ValueError where the
    picture is not the size that the sample has in pixels.
    """
    sample, dtype = call["sample"], net.conv_in.weight.dtype
    if net.conv_in.weight.device != sample.device:
        net.to(sample.device)
    added = call.get("added_cond_kwargs")
    if added is not None:
        added = {name: added[name] for name in ("text_embeds", "time_ids") if name in added}
    _check_picture(net, sample, picture)
    down, middle = net(
        sample.to(dtype),
        call["timestep"],
        encoder_hidden_states=tokens.to(dtype),
        controlnet_cond=picture.to(dtype),
        conditioning_scale=scale,
        class_labels=call.get("class_labels"),
        added_cond_kwargs=added,
        return_dict=False,
    )
    residuals = UNetResiduals(tuple(down), middle)
    return residuals.change(lambda residual: residual.to(sample.dtype))


def _check_picture(net: ControlNetModel, sample: Tensor, picture: Tensor) -> None:
    pixels = tuple(measure_picture(net) * side for side in sample.shape[-2:])
    if tuple(picture.shape[-2:]) != pixels:
        raise ValueError(
            f"IdentityNet's picture of key points has {tuple(picture.shape[-2:])} pixels, where"
            f" a sample of {tuple(sample.shape[-2:])} cells has {pixels}"
        )


def measure_picture(net: ControlNetModel) -> int:
    """How many pixels on a side IdentityNet's picture has for each cell of the sample."""
    channels: tuple[int, ...] = net.config.conditioning_embedding_out_channels
    return int(2 ** (len(channels) - 1))


def mask_residual(
    residual: Float[Tensor, "r c h w"], mask: Float[Tensor, "r f h_mask w_mask"]
) -> Float[Tensor, "r c h w"]:
    """A residual times what each of its cells has of the mask, and exactly 0 where that is 0.

    The authors' full pipeline resizes bilinearly to a list of sizes that SDXL has, here it is the
    area, at the residual's own size (departure; the same where no cell lies across an edge).
    """
    factor = resample_area(mask, (1, *residual.shape[-2:])).to(residual.device, residual.dtype)
    return torch.where(factor == 0, torch.zeros_like(residual), residual * factor)


def describe_call(call: Mapping[str, Any]) -> BranchCall:
    """A UNet's call as those that say whose rows it has (`find_row_owners`) are told of it."""
    sample = call["sample"]
    return BranchCall(
        query=sample.flatten(2)[..., None],
        output=sample.flatten(2),
        cells=(1, *sample.shape[-2:]),
        timestep=torch.as_tensor(call["timestep"]),
        prompt=call["encoder_hidden_states"],
        samples=get_samples(),
    )


def gather_tokens(control: FaceControl, owners: RowOwners) -> Float[Tensor, "r t c"]:
    """Each row's tokens: of its own sample, or of the guidance's other side."""
    return torch.stack(
        [
            _pick_row(control.tokens if is_positive else control.negative, int(sample))
            for sample, is_positive in zip(owners.samples, owners.positive, strict=True)
        ]
    )


def _pick_rows(tensor: Tensor, owners: RowOwners) -> Tensor:
    return torch.stack([_pick_row(tensor, int(sample)) for sample in owners.samples])


def _pick_row(tensor: Tensor, index: int) -> Tensor:
    return tensor[index if len(tensor) > 1 else 0]

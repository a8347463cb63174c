"""The picture that a prediction stands for: which latents are decoded, and what lies around."""

from collections.abc import Callable

import torch

from frisket.shapes import CellShares, Clip, ClipLatents, Latents, WindowLatents

CONTEXT = 2  # latent frames before the one that is looked at, decoded with it
Decode = Callable[[Latents], Clip]  # differentiable in the latents


def cut_window(
    estimate: ClipLatents, clean: ClipLatents, inside: CellShares, frame: int
) -> WindowLatents:
    """Latents up to a frame: in it the estimate where `inside` is 1, the clean ones elsewhere.

    The frames before it, at most CONTEXT, are clean and get no gradient; neither do cells of 0.
    """
    begin = max(0, frame - CONTEXT)
    before = clean[:, begin:frame].detach().float()
    at, around = estimate[:, frame, None].float(), clean[:, frame, None].detach().float()
    share = inside[:, frame, None].clamp(0, 1)
    # Not a lerp: where the share is 0 nothing of the estimate may count, were it infinite.
    blended = torch.where(share > 0, around + share * (at - around), around)
    return torch.cat([before, blended], 1)

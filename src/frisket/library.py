"""The library: masked losses in a trainer of one's own, with torch and numpy alone."""

from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from frisket.grid import LatentGrid
from frisket.losses.base import ErrorKind, Normalise, check_kind, divisors, weighted_error
from frisket.masks.axes import to_fractions
from frisket.masks.coverage import CellReading, lay_clips
from frisket.masks.weights import BACKGROUND, RegionWeights

NORMALISE = ("sample", "batch", "none", "area")
ALL_AXES = "b c h w (stills) or b c f h w (clips)"


def masked_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    weights: RegionWeights | None = None,
    normalise: Normalise = "sample",
    beta: float = 0.5,
    kind: ErrorKind = "mse",
    delta: float = 1.0,
    spatial: int | None = None,
    temporal: int | None = None,
    reading: CellReading = "mean",
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """The error of a prediction where the mask teaches, and nothing elsewhere.

    `prediction` and `target` are latents b c h w or b c f h w of any float dtype. `mask` is in
    [0, 1] (bool or float), 1 where it teaches, at the size of the latents or of the pixels behind
    them; none teaches everywhere. For stills it is H W (one for the whole batch), b H W, b k H W or
    b k 1 H W; for clips H W (one still for all), b F H W or b k F H W, where one frame stands for
    all. k is 1, or the number of regions in the table `weights`.

    A mask of pixels is averaged over each cell, by causal groups in time (`frisket.coverage`).
    `spatial` and `temporal` are the strides of the VAE. Without them the sizes tell: sides a whole
    number of times those of the latents, F = f, or F = 1 + (f - 1) t with t a power of two (no clip
    that a VAE of such a stride cut short gives another). `reading` as in `frisket.coverage`.

    `normalise` is what the weighted sum of each sample is divided by: "sample" C sum(w), so that
    every sample pulls equally hard; "batch" the batch's mean of that; "none" all elements, as most
    trainers do (small masks pull less); "area" is between "sample" (`beta` 0) and "none" (1).
    `kind` with `delta`: mse, l1, huber, smooth_l1 as torch has them.

    Returns the mean over the batch, or with reduction "none" one number a sample (shape b):
    float32, with a gradient in the prediction's dtype that is exactly 0 where the mask is 0, and
    none to target or mask. A mask of ones gives torch's `mse_loss` of the float32 tensors bit for
    bit, an empty one 0. ValueError for shapes that do not fit or may be read two ways, values
    outside [0, 1], NaN, and options without meaning.
    """
    _check_latents(prediction, target)
    _check_options(kind, delta, normalise, beta, reduction)
    clip, clean = (
        latents.unsqueeze(2) if latents.ndim == 4 else latents
        for latents in (prediction, target.detach())
    )
    if mask is None:
        shape = (len(clip), 1, *clip.shape[2:])
        cells = torch.ones(shape, device=clip.device)
    else:
        table = RegionWeights() if weights is None else weights
        planes = _lay(mask, prediction, len(table.regions), spatial, temporal, reading)
        cells = table(planes.to(clip.device)).expand(len(clip), -1, -1, -1, -1)
    # Of ones every `normalise` is the plain mean, and so is the mean of the samples' means, but by
    # way of their formulas the last bit may differ.
    all_ones = bool((cells == 1).all())
    if all_ones and kind == "mse" and reduction == "mean":
        return functional.mse_loss(clip.float(), clean.float())
    divisor = None if all_ones else divisors(cells, clip.shape[1], normalise, beta=beta)
    losses = weighted_error(kind, delta, clip, clean, cells, divisor)
    return losses.mean() if reduction == "mean" else losses


def read_mask(
    path: str | PathLike[str],
    *,
    alpha: bool = False,
    levels: dict[str, int] | None = None,
    legend: dict[str, int | tuple[int, int, int]] | None = None,
    invert: bool = False,
) -> Tensor:
    """A mask file as planes k F H W, float32 in [0, 1], read as the trainer reads it.

    A picture (8 or 16 bits, palette) has one frame; a video or a folder of frames has them all.
    `torch.stack` of the masks of a batch is what `frisket.coverage` and `masked_loss` take. k is 1,
    white teaches, `alpha` reads the file's own transparency instead. `levels` (region to grey value
    0 to 255) and `legend` (region to index or RGB colour) give a plane a region, in their order,
    without `background`. `invert` turns grey round.

    ValueError (BadMedia) names the file, the value and the fix. Needs OpenCV, Pillow, PyAV and
    jaxtyping; ImportError says which one is missing.
    """
    try:
        from frisket.masks.read import read  # noqa: PLC0415 - decoders, which a loss has no need of
        from frisket.media.frames import BadMedia, probe  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"frisket.read_mask decodes files, and {error.name} is not installed: pip install"
            " opencv-python-headless pillow av jaxtyping",
            name=error.name,
        ) from error
    file = Path(path)
    media = probe(file)
    regions = [name for name in (levels or legend or {"subject": 0}) if name != BACKGROUND]
    planes = read(
        {} if alpha else {"": file},
        clip=media,
        alpha=alpha,
        picks=range(media.frames),
        regions=regions,
        levels=levels,
        legend=legend,
        invert=invert,
    )
    if not planes:
        raise BadMedia(f"{file} has no transparency: leave `alpha` out to read its grey values")
    return torch.stack([*planes.values()])


def _check_latents(prediction: Tensor, target: Tensor) -> None:
    if prediction.ndim not in (4, 5) or 0 in prediction.shape:
        packed = "; unpack tokens first" if prediction.ndim == 3 else ""
        raise ValueError(
            f"the prediction has shape {tuple(prediction.shape)}; give {ALL_AXES}{packed}"
        )
    if prediction.shape != target.shape:
        raise ValueError(
            f"the target has shape {tuple(target.shape)}, the prediction {tuple(prediction.shape)}:"
            " give both the same (they would broadcast)"
        )
    for name, latents in (("prediction", prediction), ("target", target)):
        if not latents.is_floating_point():
            raise ValueError(f"the {name} is {latents.dtype}; give floats")


def _check_options(kind: str, delta: float, normalise: str, beta: float, reduction: str) -> None:
    check_kind("masked_loss", kind, delta)
    if normalise not in NORMALISE:
        pooled = ': one call knows one batch, use "batch"' if normalise == "global" else ""
        raise ValueError(f"normalise {normalise!r} is not one of {', '.join(NORMALISE)}{pooled}")
    if not 0 <= beta <= 1:
        raise ValueError(f'beta is {beta}; use 0 (as "sample") to 1 (as "none")')
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction {reduction!r} is not "mean" or "none" (one number a sample)')


def _lay(
    mask: Tensor,
    prediction: Tensor,
    regions: int,
    spatial: int | None,
    temporal: int | None,
    reading: CellReading,
) -> Tensor:
    """Coverage b k f h w of a mask of any accepted shape; b is 1 where one is for all."""
    planes = _to_planes(to_fractions("the mask", mask), prediction, regions)
    frames = prediction.shape[2] if prediction.ndim == 5 else 1
    space = _find_spatial(planes, prediction, spatial)
    time = _find_temporal(planes.shape[2], frames, temporal, pixels=space > 1)
    if (space, time) != (1, 1):
        grid = LatentGrid(channels=1, spatial=space, temporal=time)
        planes = lay_clips(planes, grid, reading).clamp(0, 1)  # bicubic overshoots
    return planes.expand(-1, -1, frames, -1, -1)


def _to_planes(mask: Tensor, prediction: Tensor, regions: int) -> Tensor:
    """The mask as b k F H W; ValueError for what may be read two ways, batches and regions."""
    still = prediction.ndim == 4
    if mask.ndim == 2:
        return mask[None, None, None]
    if mask.ndim == 3 and still:
        planes = mask[:, None, None]
    elif mask.ndim == 4 and still:
        planes = mask.unsqueeze(2)
    elif mask.ndim == 4 and regions == 1:
        planes = mask.unsqueeze(1)
    elif mask.ndim == 5:
        planes = mask
    else:
        raise ValueError(_refuse_axes(mask, prediction, regions))
    if len(planes) != len(prediction):
        raise ValueError(
            f"{_describe_sizes(mask, prediction)}: give each of {len(prediction)} samples its own,"
            " or one of shape H W to all (or mask.expand)"
        )
    if planes.shape[1] != regions:
        raise ValueError(
            f"{_describe_sizes(mask, prediction)}: {planes.shape[1]} planes where the table has"
            f" {regions} (take mask[:, :1] of a repeated mask, or name the regions: weights ="
            " frisket.RegionWeights({...}))"
        )
    return planes


def _refuse_axes(mask: Tensor, prediction: Tensor, regions: int) -> str:
    sizes = _describe_sizes(mask, prediction)
    if mask.ndim == 3:
        return (
            f"{sizes}: three axes may be F H W or b H W; give b F H W: mask[None] if it is one"
            " video, mask[:, None] if each sample has a still"
        )
    if mask.ndim == 4:
        return (
            f"{sizes}: with {regions} regions four axes may be b F H W or b k H W; give b k F H W:"
            " mask[:, :, None] if each region has a still"
        )
    forms = "H W, b H W or b k H W" if prediction.ndim == 4 else "H W, b F H W or b k F H W"
    return f"{sizes}: give the mask as {forms}"


def _find_spatial(planes: Tensor, prediction: Tensor, spatial: int | None) -> int:
    """Pixels of the mask a side of a latent cell."""
    mask, cells = tuple(planes.shape[-2:]), tuple(prediction.shape[-2:])
    if mask == cells:
        return 1
    stride = max(1, mask[0] // cells[0]) if spatial is None else spatial
    pixels = (cells[0] * stride, cells[1] * stride)
    if mask != pixels:
        need = "a multiple of that" if spatial is None else f"{pixels[0]} x {pixels[1]} pixels"
        raise ValueError(
            f"a mask of {mask[0]} x {mask[1]} does not fit latents of {cells[0]} x {cells[1]}: give"
            f" it at their size or {need} (cut and resize it as the picture was)"
        )
    return stride


def _find_temporal(mask: int, frames: int, temporal: int | None, *, pixels: bool) -> int:
    """Frames of the mask in a latent frame, but for the first; 1 where one stands for all."""
    cells = mask == frames and (temporal in (None, 1) or not pixels)
    if mask == 1 or cells:
        return 1
    stride = _guess_temporal(mask, frames) if temporal is None else temporal
    if stride is not None and mask == 1 + (frames - 1) * stride:
        return stride
    raise ValueError(
        f"a mask of {mask} frames does not fit {frames} latent frame{'s' * (frames > 1)}:"
        f" give it {_describe_frames(frames, temporal)}"
    )


def _guess_temporal(mask: int, frames: int) -> int | None:
    """The power of two above 1 by which the frames after the first are folded; None for others."""
    if frames == 1:
        return None
    stride, rest = divmod(mask - 1, frames - 1)
    return stride if rest == 0 and stride > 1 and stride & (stride - 1) == 0 else None


def _describe_frames(frames: int, temporal: int | None) -> str:
    """How many frames a mask for so many latent frames may have."""
    if frames == 1:
        return "1 frame"
    if temporal is None:
        return (
            f"1 frame, {frames}, or 1 + {frames - 1} t for a VAE that folds t frames into one (say"
            " `temporal` where t is no power of two)"
        )
    return f"1 or {1 + (frames - 1) * temporal} frames (temporal = {temporal})"


def _describe_sizes(mask: Tensor, prediction: Tensor) -> str:
    return (
        f"a mask of shape {tuple(mask.shape)} does not fit a prediction of shape"
        f" {tuple(prediction.shape)}"
    )

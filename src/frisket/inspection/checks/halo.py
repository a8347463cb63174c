"""How far a VAE carries what is outside a mask into the latents inside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from frisket.grid import LatentGrid
from frisket.inspection.findings import Finding
from frisket.shapes import Clip, Latents

HEARD = 0.1  # change of a latent, in its own standard deviations, from which the outside is heard
LIVELY = 0.25  # least spread (pixels are -1 to 1) of what is put outside
LEAST = 8  # cells at one distance, below which they tell nothing


@dataclass(frozen=True, slots=True)
class Halo:
    """What changing everything outside a mask does to the latents inside.

    `change`: by distance from the mask's border in latent cells, 0 the first cells that lie wholly
    inside; the root of the mean square over channels and cells, in standard deviations of the
    clip's latents. `shrink`: pixels from the border beyond which it stays below `HEARD`; None where
    it never does (a VAE that pools over the picture).
    """

    change: tuple[float, ...]
    shrink: float | None


def measure_halo(
    encode: Callable[[Clip], Latents], picture: Clip, inside: Bool[Tensor, "H W"], grid: LatentGrid
) -> Halo | None:
    """Encode a picture (1 3 1 H W) twice, the second time with other things around the mask.

    What stands there then is smooth noise of the same mean and spread in each colour (at least a
    spread of 0.25, for plain walls), so that a VAE which normalises over the picture is not driven
    out of its range. None where no latent cell lies wholly inside the mask, or nothing outside it.
    """
    deep = _measure_depth(inside, grid)
    deepest = [int(deep[deep >= 0].max())] if bool((deep >= 0).any()) else []
    if not deepest or bool(inside.all()):
        return None
    other = torch.where(inside, picture, _draw_noise(picture, ~inside))
    before, after = encode(picture).double(), encode(other).double()
    spread = before.flatten(2).std(-1).clamp_min(1e-6)[..., None, None, None]
    squares = (((after - before) / spread) ** 2).mean(1)[0, 0]
    change = []
    for depth in range(deepest[0] + 1):
        cells = squares[deep == depth]
        if len(cells) < LEAST:
            break
        change.append(float(cells.mean()) ** 0.5)
    return Halo(tuple(change), _find_quiet(change, grid)) if change else None


def _draw_noise(picture: Clip, outside: Bool[Tensor, "H W"]) -> Clip:
    """Noise of two sizes, fine and as large as things are."""
    generator = torch.Generator().manual_seed(0)
    size = (picture.shape[3], picture.shape[4])
    noise = torch.zeros(1, 3, *size)
    for cells in (8, 32):
        coarse = torch.randn(1, 3, cells, cells, generator=generator)
        noise += functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    pixels = picture[0, :, 0, outside]
    mean, spread = pixels.mean(1), pixels.std(1).clamp_min(LIVELY)
    noise = (noise - noise.mean((2, 3), True)) / noise.std((2, 3), keepdim=True)
    painted = noise * spread[:, None, None] + mean[:, None, None]
    return painted.clamp(-1, 1)[:, :, None].to(picture)


def _measure_depth(inside: Bool[Tensor, "H W"], grid: LatentGrid) -> Float[Tensor, "h w"]:
    """Distance of each cell from the mask's border, in whole cells; -1 where it is not inside."""
    mask = inside.numpy().astype(np.uint8)
    away = torch.from_numpy(cv2.distanceTransform(mask, cv2.DIST_C, 3))
    _, height, width = grid.cells(1, *inside.shape)
    side = grid.spatial
    least = away.reshape(height, side, width, side).amin((1, 3))
    return torch.where(least > 0, torch.floor((least - 1) / side), torch.tensor(-1.0))


def _find_quiet(change: Sequence[float], grid: LatentGrid) -> float | None:
    loud = [depth for depth, level in enumerate(change) if level >= HEARD]
    if loud and loud[-1] == len(change) - 1:
        return None
    return float((loud[-1] + 1) * grid.spatial) if loud else 0.0


def look_at_halos(halos: Sequence[Halo]) -> Iterator[Finding]:
    """What the halos of several clips say of the VAE: by how much masks had better shrink."""
    if not halos:
        return
    border = median(halo.change[0] for halo in halos)
    reaches = [halo.shrink for halo in halos if halo.shrink is not None]
    if len(reaches) * 2 < len(halos):
        yield Finding(
            "halo",
            "warning",
            "",
            f"Latents inside the masks see what is outside them, all through: by"
            f" {border:.0%} of their spread along the border, and {_take_last(halos):.0%} in the"
            " middle. This VAE pools over the picture, or the masks are too small for it.",
            "Shrinking masks does not help here; the background swap does ([swap] rate).",
        )
        return
    reach = median(reaches)
    if reach:
        yield Finding(
            "halo",
            "note",
            "",
            f"Latents up to {reach:.0f} pixels inside the masks see what is outside them:"
            f" by {border:.0%} of their spread along the border, below {HEARD:.0%} from there"
            f" on; measured on {len(halos)} clips.",
            f"Where the background must not be learnt at all, set masks.grow = -{reach:.0f}.",
        )


def _take_last(halos: Sequence[Halo]) -> float:
    return median(halo.change[-1] for halo in halos)

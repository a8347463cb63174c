"""Reads one picture of a clip out of the cache: as it is, swapped or mixed; in latents at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from frisket.data.cached.store import CacheEntry, EntryKind
from frisket.data.composites.layers import cover_latents, lay_latents, shift_cells
from frisket.data.mask_pipeline import arrange
from frisket.data.records import Item, Mix, MixLayer, Swapped
from frisket.shapes import CellPlanes

Load = Callable[[EntryKind, str], CacheEntry]


@dataclass(frozen=True, slots=True)
class CachedPicture:
    """Latents with what else the model is shown of them, and the coverage that goes with them.

    The planes are in the configured order; None where there is no mask.
    """

    latents: Float[Tensor, "c f h w"]
    conditioning: dict[str, Tensor]
    planes: CellPlanes | None = None
    prior_planes: CellPlanes | None = None


class PictureReader:
    """Pictures by their keys; `load` reads an entry, which stays shared and is not written to."""

    def __init__(self, load: Load, regions: Sequence[str]) -> None:
        """`regions`: the configured ones, in their order."""
        self.load, self.regions = load, regions

    def read_clip(self, latents: str, coverage: str | None) -> CachedPicture:
        """A picture that is in the cache as it is."""
        tensors = dict(self.load("latents", latents).tensors)
        clean = tensors.pop("latents")
        if not coverage:
            return CachedPicture(clean, tensors)
        planes = self._read_planes(coverage)
        return CachedPicture(clean, tensors, planes["planes"], planes.get("prior_planes"))

    def read_swap(self, item: Item, swap: Swapped, coverage: str | None) -> CachedPicture:
        """A clip before another background: encoded so, or its latents laid over those of it."""
        if not swap.keep:
            return self.read_clip(swap.latents, coverage)
        picture = self.read_clip(item.latents, coverage)
        ground = self.load("latents", swap.latents).tensors["latents"]
        keep = self.load("coverage", swap.keep).tensors["keep"]
        return replace(picture, latents=lay_latents(ground, picture.latents, keep))

    def read_mix(self, mix: Mix) -> CachedPicture:
        """Several subjects in one scene, with the coverage of what is visible of each."""
        picture = self.read_clip(mix.latents, mix.coverage)
        for layer in mix.layers:
            picture = self._lay(picture, layer)
        return picture

    def _lay(self, picture: CachedPicture, layer: MixLayer) -> CachedPicture:
        clip = self.load("latents", layer.latents).tensors["latents"]
        cutout = self.load("coverage", layer.cutout).tensors
        keep = shift_cells(cutout["keep"], *layer.shift)
        planes = self._read_planes(layer.cutout)
        prior = planes.get("prior_planes")
        return CachedPicture(
            lay_latents(picture.latents, shift_cells(clip, *layer.shift), keep),
            picture.conditioning,
            _lay_planes(picture.planes, planes["planes"], keep, layer),
            None if prior is None else _lay_planes(picture.prior_planes, prior, keep, layer),
        )

    def _read_planes(self, key: str) -> dict[str, CellPlanes]:
        """Planes of a coverage entry by name, arranged in the configured order."""
        entry = self.load("coverage", key)
        names = entry.notes["regions"].split("\n")
        return {
            kind: arrange(planes, names, self.regions)
            for kind, planes in entry.tensors.items()
            if kind != "keep"
        }


def _lay_planes(
    lower: CellPlanes | None, planes: CellPlanes, keep: Float[Tensor, "1 f h w"], layer: MixLayer
) -> CellPlanes:
    upper = shift_cells(planes, *layer.shift)
    return cover_latents(lower if lower is not None else upper * 0, upper, keep)

"""Masks of LoRAs while sampling: where each of them acts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.adapters.files import header
from frisket.adapters.spec import AdapterMismatch
from frisket.config.provenance import ConfigError
from frisket.families.streams import DenoiserCall
from frisket.grid import LatentGrid
from frisket.inference.methods.plugin import ClipSize
from frisket.inference.sample_specs import SampleSpec
from frisket.masks.coverage import to_latent
from frisket.masks.read import WHOLE, read
from frisket.media.frames import probe
from frisket.media.geometry import Geometry, MaskMismatch
from frisket.runs.sampling.sampler import files_of
from frisket.runs.sampling.whole_models import is_model
from frisket.shapes import Weights

EVERYWHERE = "-"  # in place of a file
OTHER_FORMS = ("dora_scale", "lora_magnitude_vector", "hada_", "lokr_")


@dataclass(frozen=True, slots=True)
class LoraPlace:
    """Where a LoRA acts, as a plane on the latent grid of every size that is sampled."""

    path: Path
    planes: Mapping[ClipSize, Weights]  # by latent frames, rows and columns: 1 1 f h w

    def __call__(self, call: DenoiserCall) -> Weights:
        """The plane of a call's grid; ValueError for a size that was not foreseen."""
        f, h, w = call.cells
        fitting = [
            plane
            for size, plane in self.planes.items()
            if size[1:] == (h, w) and (size[0] == f or call.frames != "cells")
        ]
        if not fitting:
            raise ValueError(f"{self.path} was not laid on {f} x {h} x {w} cells")
        return fitting[0].to(call.t.device)


def read_places(
    masks: Sequence[str],
    lora: Sequence[tuple[Path, float]],
    specs: Sequence[SampleSpec],
    grid: LatentGrid,
    *,
    confine_all: bool = False,
) -> tuple[LoraPlace | None, ...]:
    """A place for each LoRA, None for one without a mask (`-`, or none left for it).

    A picture stands for all frames; a video or folder of frames must have as many as are sampled.
    Grey values are kept: at 128 half of the update acts. ConfigError for more masks than LoRAs, a
    mask whose aspect or frames are not the samples', and one for several clip lengths at once;
    AdapterMismatch for a file that cannot be confined and has a mask (or `confine_all`).
    """
    if len(masks) > len(lora):
        raise ConfigError(f"{len(masks)} --lora-mask for {len(lora)} --lora")
    sizes = sorted({(spec.frames, spec.height, spec.width) for spec in specs})
    places = [
        None if mask == EVERYWHERE else LoraPlace(Path(mask), lay_mask(Path(mask), sizes, grid))
        for mask in (*masks, *[EVERYWHERE] * (len(lora) - len(masks)))
    ]
    for (path, _), place in zip(lora, places, strict=True):
        for file in files_of(path) if confine_all or place is not None else ():
            check_confinable(file)
    return tuple(places)


def lay_mask(
    path: Path,
    sizes: Sequence[ClipSize],
    grid: LatentGrid,
    *,
    option: str = "--lora-mask",
    owner: str = "LoRA",
) -> dict[ClipSize, Weights]:
    """One mask on the latent grid of each size, by its latent frames, rows and columns.

    `option` gave it and `owner` acts there, in the words of messages.
    """
    if not path.exists():
        raise ConfigError(f"there is no mask {path} ({option}); `{EVERYWHERE}` is everywhere")
    media = probe(path)
    planes: dict[ClipSize, Weights] = {}
    for frames, height, width in sizes:
        if media.frames not in (1, frames):
            raise ConfigError(
                f"{path} has {media.frames} frames, and {frames} are sampled: give a picture, or as"
                " many frames"
            )
        picks = tuple(range(frames)) if media.frames > 1 else (0,) * frames
        plane = read({WHOLE: path}, clip=media, alpha=False, picks=picks, regions=("place",))
        try:
            cut = Geometry((height, width), (height, width), picks).plane(plane["place"])
        except MaskMismatch as error:
            raise ConfigError(f"{path} ({option}): {error}") from error
        planes[grid.cells(frames, height, width)] = to_latent(cut[None], grid)[None]
    if len({size[1:] for size in planes}) != len(planes):
        raise ConfigError(f"{path}: one mask ({option}) is for clips of one length a size")
    if not any(bool(plane.any()) for plane in planes.values()):
        raise ConfigError(f"{path} is empty: its {owner} would act nowhere; leave the {owner} out")
    return planes


def check_confinable(path: Path) -> None:
    """AdapterMismatch for a file whose update cannot be confined to a mask: no plain LoRA."""
    if is_model(path):
        raise AdapterMismatch(
            f"{path} is a model whose weights were all trained: no mask and no word confines it."
            " Leave --lora-mask and --fuse out, or turn it into a LoRA (frisket convert --extract)"
        )
    other = next((key for key in header(path)[0] if any(word in key for word in OTHER_FORMS)), None)
    if other is not None:
        raise AdapterMismatch(
            f"{path} is no plain LoRA (it has {other}): its update cannot be confined to a mask."
            " Leave --lora-mask out for it"
        )

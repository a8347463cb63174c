"""An edit as it is asked for, looked at whole before any work: clip, mask, pictures, model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.config.editing.request import EditedClip, EditedRegion, VideoEditRequest
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.families import weights
from frisket.families.base import FAMILIES, Family, Source, Variant
from frisket.grid import LatentGrid
from frisket.masks.loose import draw_boxes, join_frames, widen_to_cells
from frisket.masks.names import WHOLE
from frisket.masks.read import read
from frisket.media.buckets import bucket
from frisket.media.captions import first_paragraph, read_text
from frisket.media.frames import Media, decode, decode_stored, probe
from frisket.media.geometry import Geometry, fits
from frisket.runs.prepare import source_of
from frisket.shapes import Frames, Picture, Plane

log = logging.getLogger(__name__)

LONGEST = 49  # frames by default: the paper's
REGION = "subject"  # the one region of the mask, white
OFF = 8.0  # grey levels, in the mean, by which a first frame may differ where it was not edited


@dataclass(frozen=True, slots=True)
class EditMaterial:
    """What an edit is made of, at the size it is trained and sampled at; pixels 0 to 255."""

    frames: Frames  # of the clip as it is
    fps: float
    edited: Float[Tensor, "F H W"]  # 1 where it is edited, made loose, else 0
    first: Picture  # the first frame, edited: 1 H W 3
    pictures: Mapping[int, Picture]  # further edited frames, by number: 1 H W 3 each
    caption: str
    prompt: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def keep(self) -> Plane:
        """F H W as the model is told: 1 is kept, and of the first frame all."""
        keep = 1 - self.edited
        keep[0] = 1
        return keep


def check_model(config: Config) -> tuple[Family, Source]:
    """The model, where it is one that goes on from a clip; ConfigError names those that do.

    WeightsNotFound where its weights are to be on this machine and are not.
    """
    if config.model.train != "lora":
        raise ConfigError(
            f'edit: a LoRA is what is trained; model.train = "{config.model.train}" is not for it:'
            " leave it out"
        )
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    if source.variant not in family.variants:
        variants = ", ".join(family.variants)
        raise ConfigError(f"{family.name} has no variant {source.variant!r}; there are: {variants}")
    if family.variants[source.variant].sees != "first_frame":
        raise ConfigError(
            f"edit: {family.name} {source.variant} is shown no frame, so there is nothing to put a"
            f" mask on. Take an image-to-video variant: {_spell_models(family)}"
        )
    root = weights.local(source)
    if root is not None:
        shapes = replace(source, device=weights.SHAPES)
        family.load_denoiser(shapes)
        family.load_vae(shapes)
        for folder in (root / "transformer", root / "vae"):  # as far as it has files to look at
            if folder.is_dir():
                weights.check(folder, family.variants[source.variant].repo)
    return family, source


def _spell_models(family: Family) -> str:
    """Image-to-video variants as options: of the family, or else of all families."""
    suitable_variants = [
        name for name, card in family.variants.items() if card.sees == "first_frame"
    ]
    if suitable_variants:
        return " or ".join(f"--variant {name}" for name in suitable_variants)
    return " or ".join(
        f"--family {name} --variant {variant}"
        for name in FAMILIES.names()
        for variant, card in FAMILIES.load(name).variants.items()
        if card.sees == "first_frame"
    )


def read_material(request: VideoEditRequest, card: Variant) -> EditMaterial:
    """Everything that is edited, read and fitted; nothing is written.

    Raises ConfigError and BadMedia for a clip, mask or picture that does not go with the rest, each
    with the file, its value and what would fit.
    """
    clip = probe(request.clip)
    frames = _choose_frames(request.extent, clip, card)
    size = _choose_size(request.extent, clip, card)
    geometry = Geometry((clip.height, clip.width), size, tuple(range(frames)), stored=clip.stored)
    pixels = _cut(geometry, decode_stored(clip.path, geometry.picks))
    edited = _read_region(request, clip, geometry, card.grid)
    first = _read_picture(request.first, "--first", clip, size)
    numbers = {int(number): path for number, path in request.edited.items()}
    for number, path in numbers.items():
        _check_number(f"--edited {number}={path}", number, edited)
    pictures = {
        number: _read_picture(path, f"--edited {number}", clip, size)
        for number, path in sorted(numbers.items())
    }
    for name, number, picture in (
        ("--first", 0, first),
        *((f"--edited {number}", number, picture) for number, picture in pictures.items()),
    ):
        _warn_of_change(name, picture[0], pixels[number], edited[number])
    caption = _read_caption(request)
    fps = clip.fps or card.fps
    return EditMaterial(
        pixels, fps, edited, first, pictures, caption, request.prompt.strip() or caption
    )


def _check_number(name: str, number: int, edited: Float[Tensor, "F H W"]) -> None:
    """ConfigError for a frame that is not of the edit, and for one in which nothing is edited."""
    if number >= len(edited):
        raise ConfigError(f"{name}: the edit has {len(edited)} frames, 0 to {len(edited) - 1}")
    if not edited[number].any():
        raise ConfigError(
            f"{name}: the mask marks nothing in that frame, so the model would be shown it whole;"
            " take another frame, or --boxes all"
        )


def _choose_frames(extent: EditedClip, clip: Media, card: Variant) -> int:
    grid = card.grid
    least = 1 + grid.temporal
    if clip.frames < least:
        raise ConfigError(
            f"{clip.path} has {clip.frames} frames; an edit needs a clip of at least {least}"
        )
    if extent.frames is None:
        return grid.fit_frames(min(clip.frames, card.frames, LONGEST))
    nearest_count = grid.fit_frames(extent.frames)
    if extent.frames > clip.frames or extent.frames < least or nearest_count != extent.frames:
        most = grid.fit_frames(clip.frames)
        near = min(max(nearest_count, least), most)
        raise ConfigError(
            f"--frames {extent.frames}: the model takes 1 + n * {grid.temporal} frames and"
            f" {clip.path} has {clip.frames}; the nearest is --frames {near}"
        )
    return extent.frames


def _choose_size(extent: EditedClip, clip: Media, card: Variant) -> tuple[int, int]:
    """Height and width in pixels."""
    if (extent.width is None) != (extent.height is None):
        raise ConfigError("--width and --height go together: give both, or neither")
    fixed = extent.width is not None
    resolution = (extent.width or card.width, extent.height or card.height)
    options = {"resolution": resolution, "grid": card.grid, "keep_aspect": not fixed}
    try:
        return bucket(clip.height, clip.width, 1, **options)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"--width {extent.width} --height {extent.height}: {error}") from error


def _read_region(
    request: VideoEditRequest, clip: Media, geometry: Geometry, grid: LatentGrid
) -> Float[Tensor, "F H W"]:
    """Where the clip is edited, made loose, in whole cells; ConfigError where that is not a part.

    1 is edited: the polarity of a mask file, and the opposite of what the model is told.
    """
    planes = read(
        {WHOLE: request.mask}, clip=clip, alpha=False, picks=geometry.picks, regions=(REGION,)
    )
    return loosen(geometry.plane(planes[REGION]), request.region, grid, name=str(request.mask))


def loosen(
    plane: Plane, region: EditedRegion, grid: LatentGrid, *, name: str = "the mask"
) -> Float[Tensor, "F H W"]:
    """A mask at the clip's size as the model is given it; ConfigError for nothing and for all."""
    if not (plane >= 0.5).any():
        raise ConfigError(
            f"{name} marks nothing (no pixel is at least half white) in the {len(plane)} frames"
            " that are edited; white is what is edited"
        )
    boxes = draw_boxes(plane, region.margin) if region.mask_shape == "box" else plane
    if region.boxes == "all":
        boxes = join_frames(boxes)
    cells = widen_to_cells(boxes, grid.step)
    if not cells[1:].any():
        raise ConfigError(
            f"{name} marks nothing after the first frame but specks; mark what is edited in the"
            " frames after it too, or take --mask-shape mask"
        )
    if cells[1:].all():
        raise ConfigError(
            f"{name} leaves nothing of the clip: {_spell_share(plane)} of it is marked, and with"
            f" boxes and whole cells of {grid.step} pixels all of it. Mark less, or take --margin 0"
            " or --mask-shape mask"
        )
    return cells


def _spell_share(plane: Plane) -> str:
    return f"{(plane >= 0.5).float().mean().item():.0%}"


def _read_picture(path: Path, name: str, clip: Media, size: tuple[int, int]) -> Picture:
    """An edited frame at the edit's size; ConfigError for another aspect than the clip's."""
    picture = decode(path, (0,))
    picture_size = (picture.shape[1], picture.shape[2])
    if not fits(picture_size, (clip.height, clip.width)):
        raise ConfigError(
            f"{name} {path} is {picture_size[1]} x {picture_size[0]} (width x height), its clip is"
            f" {clip.width} x {clip.height}: an edited frame has the aspect of the clip. Edit the"
            " frame as it is, without cropping it"
        )
    return _cut(Geometry(picture_size, size, (0,)), picture)


def _cut(geometry: Geometry, frames: Frames) -> Frames:
    """Frames at the edit's size, as levels again."""
    levels = geometry.pixels(frames).add(1).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def _warn_of_change(
    name: str,
    picture: UInt8[Tensor, "H W 3"],
    frame: UInt8[Tensor, "H W 3"],
    edited: Float[Tensor, "H W"],
) -> None:
    """Say where an edited frame is another than the clip outside the region: the two contradict."""
    kept_cells = edited < 0.5
    if not kept_cells.any():
        return
    difference = (picture[kept_cells].float() - frame[kept_cells].float()).abs().mean().item()
    if difference > OFF:
        log.warning(
            "%s: outside the edited region it differs from the clip by %.0f of 255 levels in the"
            " mean; what is kept is shown to the model as the clip has it. Paste the edited region"
            " into the frame as it was, or mark all that was changed",
            name,
            difference,
        )


def _read_caption(request: VideoEditRequest) -> str:
    caption = request.caption.strip()
    caption_file = request.clip.with_suffix(".txt")
    if not caption and caption_file.is_file():
        caption = first_paragraph(read_text(caption_file))
    if not caption:
        raise ConfigError(
            f"edit: say what the clip shows, --caption TEXT, or write it into {caption_file}"
        )
    return caption

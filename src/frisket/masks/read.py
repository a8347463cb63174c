"""Mask files to named region planes, at the mask's own size."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from frisket.masks.axes import check_axes
from frisket.masks.names import BACKGROUND, WHOLE
from frisket.media.frames import (
    BadMedia,
    Media,
    decode_alpha,
    decode_grey,
    decode_index,
    decode_numbers,
    probe,
)
from frisket.shapes import Plane

__all__ = ["BACKGROUND", "FINE", "WHOLE", "by_level", "read"]

_Colour = tuple[int, int, int]
_Labels = Int[Tensor, "F H W"]

FINE = 256  # grey values are compared in 1/256 of a level, so that 64 / 255 is level 64 again


def read(
    masks: Mapping[str, Path],
    *,
    clip: Media,
    alpha: bool,
    picks: Sequence[int],
    regions: Sequence[str],
    levels: Mapping[str, int] | None = None,
    legend: Mapping[str, int | _Colour] | None = None,
    invert: bool = False,
) -> dict[str, Plane]:
    """Read the masks of one clip: region to plane, float32 in [0, 1], in the order of `regions`.

    `masks` is what was found beside the clip: {"": file} for one file, {region: file} for one file
    a region, {} for none. `alpha` takes the clip's own transparency instead. `picks` are the source
    frames taken from the clip: a mask video or folder of frames is picked alike and must have as
    many frames as the clip; a single picture stands for all frames. Planes keep the mask's
    size; those of a single picture are expanded, not copied.

    One file (or the transparency) is read as
      grey     the plane of the one region there is, 0 to 255 as 0 to 1;
      levels   region to grey value 0 to 255: the nearest level wins, a tie goes to the higher, so a
               soft edge between two levels becomes hard, by way of any level that lies between;
      legend   region to palette or label index, or to RGB colour, matched exactly.
    `background` may stand among levels and legend; 0 (black) is background where nothing names it.
    A region that the mask does not show, or has no file here, gives zeros. `invert` is for grey.

    No mask (nothing found, or `alpha` of a clip that has none) gives {}: such a clip teaches
    everywhere, and the caller counts it aloud. Raises BadMedia, which names the file, the value and
    the fix, where a file cannot be read this way; ValueError where the options contradict.
    """
    levels, legend = levels or {}, legend or {}
    _check_names(regions, masks, levels, legend)
    _check_options(masks, levels, legend, alpha=alpha, invert=invert)
    if alpha and clip.alpha:
        planes = _split(decode_alpha(clip.path, picks), clip.path, regions, levels)
    elif not masks:
        return {}
    elif legend:
        planes = _split_by_legend(masks[WHOLE], clip, picks, legend)
    else:
        planes = _read_greys(masks, clip, picks, regions, levels)
    if invert:
        planes = {name: 1 - plane for name, plane in planes.items()}
    if len(planes) < len(regions):
        blank = torch.zeros_like(next(iter(planes.values()))[:1])
        planes = {name: planes.get(name, blank) for name in regions}
    return {name: planes[name].expand(len(picks), -1, -1) for name in regions}


def _read_greys(
    masks: Mapping[str, Path],
    clip: Media,
    picks: Sequence[int],
    regions: Sequence[str],
    levels: Mapping[str, int],
) -> dict[str, Plane]:
    """Planes of one grey file a region, or of the one there is (see `read`)."""
    greys = {name: _fetch(decode_grey, path, clip, picks) for name, path in masks.items()}
    return _split(greys[WHOLE], masks[WHOLE], regions, levels) if WHOLE in greys else greys


def _check_names(regions: Sequence[str], *tables: Mapping[str, object]) -> None:
    named_regions = {name for table in tables for name in table} - {BACKGROUND, WHOLE}
    for name in sorted(named_regions - set(regions)):
        raise ValueError(f"masks: no region is named {name!r}; there are: {', '.join(regions)}")


def _check_options(
    masks: Mapping[str, Path],
    levels: Mapping[str, int],
    legend: Mapping[str, int | _Colour],
    *,
    alpha: bool,
    invert: bool,
) -> None:
    if levels and legend:
        raise ValueError(
            "masks: give `levels` (grey values) or `legend` (indices, colours), not both"
        )
    if invert and (levels or legend):
        raise ValueError(
            "masks: `invert` is for grey masks; with levels or a legend set the weights"
        )
    if alpha and (masks or legend):
        raise ValueError(
            "masks: `alpha` is the clip's own transparency; it takes no file or legend"
        )
    _check_files(masks, split=bool(levels or legend))
    _check_values("levels", levels)
    _check_values("legend", legend)


def _check_files(masks: Mapping[str, Path], *, split: bool) -> None:
    """ValueError unless the files are one, or one a region, which nothing then may `split`."""
    if BACKGROUND in masks or (WHOLE in masks and len(masks) > 1):
        raise ValueError(f"masks: files for {sorted(masks)}: give one file, or one file a region")
    if masks and WHOLE not in masks and split:
        raise ValueError(
            "masks: `levels` and `legend` split one file; here each region has its own"
        )


def _check_values(option: str, table: Mapping[str, int | _Colour]) -> None:
    if table and not set(table) - {BACKGROUND}:
        raise ValueError(f"masks: {option} names no region besides `background`")
    names_by_value: dict[Hashable, str] = {}
    for name, value in table.items():
        if value in names_by_value:
            raise ValueError(
                f"masks: {option} gives {value} to both {names_by_value[value]!r} and {name!r}"
            )
        names_by_value[value] = name
        if isinstance(value, tuple) != isinstance(next(iter(names_by_value)), tuple):
            raise ValueError(f"masks: {option} mixes indices and colours ({value}); use one kind")
        top = 255 if option == "levels" or isinstance(value, tuple) else 65535
        if not all(0 <= part <= top for part in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"masks: {option} of {name!r} is {value}; values go from 0 to {top}")


def _fetch(
    decoder: Callable[[Path, Sequence[int]], Tensor], path: Path, clip: Media, picks: Sequence[int]
) -> Tensor:
    """Decode the picked frames of a mask, or the one frame of a single picture."""
    mask = probe(path)
    if not mask.video:
        return decoder(path, (0,))
    if mask.frames != clip.frames:
        raise BadMedia(
            f"{path} has {mask.frames} frames but its clip {clip.path} has {clip.frames}:"
            " make one mask frame for every frame of the clip, or give a single picture for all"
        )
    return decoder(path, picks)


def _split(
    grey: Plane, path: Path, regions: Sequence[str], levels: Mapping[str, int]
) -> dict[str, Plane]:
    """One grey plane as the only region's plane, or cut into regions by level."""
    if levels:
        return by_level(grey, levels)
    if len(regions) > 1:
        raise BadMedia(
            f"{path} is one grey mask for the {len(regions)} regions {', '.join(regions)}: give"
            " `levels` (grey values), a `legend` (indices or colours), or one folder a region"
        )
    return {regions[0]: grey}


def by_level(grey: Plane, levels: Mapping[str, int]) -> dict[str, Plane]:
    """Grey levels in [0, 1] cut into regions of 0 and 1, as `read` says of `levels`."""
    check_axes("the mask", grey, "F H W")
    named_levels = dict(levels)
    if BACKGROUND not in named_levels and 0 not in named_levels.values():
        named_levels[BACKGROUND] = 0
    names = sorted(named_levels, key=lambda name: named_levels[name])
    values = torch.tensor([named_levels[name] for name in names], dtype=torch.float32)
    between = (values[1:] + values[:-1]) / 2
    nearest = torch.bucketize((grey * (255 * FINE)).round() / FINE, between, right=True)
    return {
        name: (nearest == index).float() for index, name in enumerate(names) if name != BACKGROUND
    }


def _split_by_legend(
    path: Path, clip: Media, picks: Sequence[int], legend: Mapping[str, int | _Colour]
) -> dict[str, Plane]:
    coloured = isinstance(next(iter(legend.values())), tuple)
    labels = _fetch(_decode_colour if coloured else decode_index, path, clip, picks)
    planes = {name: (labels == _pack_colour(value)).float() for name, value in legend.items()}
    known_pixels = labels == 0
    for plane in planes.values():
        known_pixels |= plane > 0
    if not known_pixels.all():
        _refuse_unknown(labels[~known_pixels], path, legend, coloured=coloured)
    planes.pop(BACKGROUND, None)
    return planes


def _refuse_unknown(
    strange_labels: Tensor,
    path: Path,
    legend: Mapping[str, int | _Colour],
    *,
    coloured: bool,
) -> None:
    values, counts = torch.unique(strange_labels, return_counts=True)
    most = int(counts.argmax())
    code = int(values[most])
    value = f"colour {(code >> 16, code >> 8 & 255, code & 255)}" if coloured else f"index {code}"
    other_values = f" and {len(values) - 1} more unknown values" if len(values) > 1 else ""
    hint = (
        "; soft edges or a lossy file never match, save it as PNG without" if other_values else ""
    )
    raise BadMedia(
        f"{path} has {int(counts[most])} pixels of {value}{other_values}, but the legend has only"
        f" {dict(legend)}: add it there, as `background` if it teaches nothing{hint}"
    )


def _decode_colour(path: Path, picks: Sequence[int]) -> _Labels:
    """Colours packed into one number a pixel."""
    red, green, blue = decode_numbers(path, picks).int().unbind(-1)
    return (red << 16) + (green << 8) + blue


def _pack_colour(value: int | _Colour) -> int:
    return value if isinstance(value, int) else (value[0] << 16) + (value[1] << 8) + value[2]

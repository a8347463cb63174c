"""diffusion-pipe's dataset TOML, as `[[data]]` tables and lists of clips."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json
from frisket.importers.base import BadImport
from frisket.importers.folders import (
    build_manifest,
    find_file,
    find_folder,
    find_whole_repeats,
    list_clips,
    read_plain_text,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.media.paths import VIDEOS

ROUNDED = 16  # pixels: sides of its buckets are multiples of it
GRID = 4  # frames of a clip are a multiple of it and one more
MODES = {
    "single_beginning": "head",
    "single_middle": "middle",
    "multiple_overlapping": "chunk",  # of versions before its clips became one a video
}
CAPTIONS = "captions.json"


@dataclass(slots=True)
class Sets:
    """What is read of one or several dataset files.

    `epoch_clips` clips go by in an epoch there; one of ours is `stretch` times as long.
    """

    data: list[dict[str, Any]] = field(default_factory=list)
    epoch_clips: float = 0.0
    stretch: float = 1.0
    manifests: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)

    @property
    def masked(self) -> bool:
        """Whether a set has masks."""
        return any("masks" in table for table in self.data)

    @property
    def still(self) -> bool:
        """Whether there are pictures alone."""
        return all(table["frames"] == 1 for table in self.data)


def sets_of(
    sheet: Sheet, mode: str, manifests: dict[str, tuple[dict[str, Any], ...]] | None = None
) -> Sets:
    """Read a dataset file; `mode` is how clips are cut from videos (a key of MODES).

    `manifests` are lists of clips that are there already, to which those of this file are added.
    """
    sets = Sets(manifests={} if manifests is None else manifests)
    top = sheet.top("directory")
    rows = top.tables("directory", "directory")
    if not rows:
        raise top.bad("directory", "at least one [[directory]] is needed")
    rates: list[float] = []
    for row in rows:
        tables, clips = _read_directory(row, top, mode, sets.manifests)
        rate = _find_owner(row, top, "num_repeats").number("num_repeats", 1)
        if rate <= 0:
            raise row.bad("num_repeats", "a number above 0 is needed")
        # Every order of a caption's tags is a clip of its own there.
        rate *= max(_find_owner(row, top, "cache_shuffle_num").whole("cache_shuffle_num"), 1)
        sets.data += tables
        rates += [rate] * len(tables)
        sets.epoch_clips += clips * rate * len(tables)
        row.close()
    share = top.number("subsample_ratio", 1) or 1.0
    sets.epoch_clips *= share
    top.close()
    for table, repeats in zip(sets.data, find_whole_repeats(rates), strict=True):
        table["repeats"] = repeats
    sets.stretch = sets.data[0]["repeats"] / rates[0] / share
    return sets


def _find_owner(row: OptionTable, top: OptionTable, name: str) -> OptionTable:
    """Where an option stands: in its directory, or for all of them at the top."""
    return row if name in row else top


def _read_directory(
    row: OptionTable, top: OptionTable, mode: str, manifests: dict[str, tuple[dict[str, Any], ...]]
) -> tuple[list[dict[str, Any]], int]:
    """The `[[data]]` tables of a directory, and how many clips it has."""
    clips = find_folder(row, "path")
    masks, references = _find(row, "mask_path"), _find(row, "control_path")
    fallback = _find(row, "default_mask_file", find_file)
    shapes = _read_shapes(row, top)
    inside = [folder for folder in (masks, references) if folder]
    lines, listed = _list_clips(row, top, clips, inside, shapes)
    # Frisket leaves a mask folder out by itself, and takes references for clips.
    listed = listed or (references is not None and clips in references.parents)
    if not lines:
        raise row.bad("path", f"{clips} holds no image or video to train (tar files: unpack them)")
    table: dict[str, Any] = {"clips": str(clips)}
    if fallback is not None and masks is None:
        lines, listed = tuple({**line, "mask": str(fallback)} for line in lines), True
    table |= _describe_masks(row, masks, fallback)
    if listed:
        name = f"clips-{len(manifests)}.jsonl"
        manifests[name] = lines
        table["clips"] = name
    if references is not None:
        table["references"] = str(references)
    table |= _read_captions(row, top) | {"extract": MODES[mode]}
    if shapes[0]["frames"] != 1:
        _tell_mode(row, mode)
    return [table | shape for shape in shapes], len(lines)


def _find(
    row: OptionTable, name: str, find: Callable[[OptionTable, str], Path] = find_folder
) -> Path | None:
    """The folder (or, by `find_file`, the file) that an option names; None where it is not set."""
    return find(row, name) if name in row else None


def _describe_masks(row: OptionTable, masks: Path | None, fallback: Path | None) -> dict[str, Any]:
    """`masks` of a folder, of the one file for every clip, or none, with what there is to say."""
    if masks is not None:
        _tell_masks(row)
        unmasked = {"fallback": str(fallback)} if fallback else {"unmasked": "train"}
        return {"masks": {"source": "folder", "path": str(masks), **unmasked}}
    if fallback is None:
        return {}
    message = "is the mask of every clip here, in the list of them"
    row.say("default_mask_file", "mapped", message)
    return {"masks": {"source": "listed"}}


def _list_clips(
    row: OptionTable,
    top: OptionTable,
    clips: Path,
    inside: Sequence[Path],
    shapes: Sequence[Mapping[str, Any]],
) -> tuple[tuple[dict[str, Any], ...], bool]:
    """The clips that it takes, as lines of a manifest; and whether Frisket would take others."""
    paths = list(list_clips(clips, inside))
    selected = [clip for clip in paths if clip.parent == clips]
    if len(paths) > len(selected):
        message = (
            f"is data.clips, but {len(paths) - len(selected)} clips lie in sub-folders, which it"
            " does not look into: those it takes are in a list"
        )
        row.say("path", "mapped", message)
    if shapes[0]["frames"] == 1:
        selected = _keep_stills(row, top, selected)
    captions = _read_captions_file(row, clips)
    skips = _find_owner(row, top, "skip_empty_caption")
    bare = [clip for clip in selected if not _has_caption(clip, captions)]
    if bare and skips.flag("skip_empty_caption", default=True):
        skips.defect(
            "skip_empty_caption",
            f"its example promises an empty caption, but it leaves out clips without one"
            f" ({len(bare)} of {clips}), and so here: those with one are in a list",
            value=True,
        )
        selected = [clip for clip in selected if clip not in bare]
    lines = build_manifest(clips, selected, lambda clip: captions.get(clip.name))
    return lines, bool(captions) or len(selected) < len(paths)


def _keep_stills(row: OptionTable, top: OptionTable, paths: list[Path]) -> list[Path]:
    """Pictures alone, where there is no bucket for videos."""
    videos = [clip for clip in paths if clip.suffix.lower() in VIDEOS]
    if videos:
        message = (
            f"there is no bucket for videos, so it drops the {len(videos)} that are here, and so"
            " here: the pictures are in a list"
        )
        _find_owner(row, top, "frame_buckets").say(
            "frame_buckets", "mapped", f"data.frames; {message}", [1]
        )
    return [clip for clip in paths if clip not in videos]


def _read_captions_file(row: OptionTable, clips: Path) -> dict[str, str]:
    """The first caption that `captions.json` has for a file name."""
    file = clips / CAPTIONS
    if not file.is_file():
        return {}
    captions = _parse_captions(file)
    ambiguous = sum(len(texts) > 1 for texts in captions.values())
    message = "is read here, and the captions are in a list of the clips"
    if ambiguous:
        message = (
            f"{ambiguous} clips have several captions, and are as many clips there; here the first"
            " is taken: copy such clips, each with a caption of its own"
        )
    row.say(CAPTIONS, "no equivalent" if ambiguous else "mapped", message, len(captions))
    return {name: texts[0] for name, texts in captions.items()}


def _parse_captions(file: Path) -> dict[str, list[str]]:
    """The captions of each file name, at least one; BadImport for JSON of another form."""
    try:
        tree = parse_json(read_plain_text(file))
    except BadText as error:
        raise BadImport(f"{file}: not JSON ({error})") from error
    if not isinstance(tree, dict) or not all(
        isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
        for texts in tree.values()
    ):
        raise BadImport(f"{file}: a table of file name to a list of captions is needed")
    return tree


def _has_caption(clip: Path, captions: Mapping[str, str]) -> bool:
    return clip.name in captions if captions else clip.with_suffix(".txt").is_file()


def _tell_masks(row: OptionTable) -> None:
    row.defect(
        "mask_path",
        "its cache knows masks by path: an edited mask stays the old one until --regenerate_cache;"
        " here masks are known by content. Over a video it lays one still mask; here a mask video"
        " weighs frame by frame. A mask of another size than its clip stops it; here it is fitted",
    )


def _tell_mode(row: OptionTable, mode: str) -> None:
    if mode == "multiple_overlapping":
        message = (
            "is data.extract = chunk here: its clips overlapped to reach the end of a video, ours"
            " follow one another and leave the rest out"
        )
        row.say("video_clip_mode", "no equivalent", message, mode)
    elif mode == "single_middle":
        row.say("video_clip_mode", "mapped", "is data.extract = middle here", mode)


def _read_captions(row: OptionTable, top: OptionTable) -> dict[str, Any]:
    shuffled = _find_owner(row, top, "shuffle_tags").flag("shuffle_tags")
    orders = _find_owner(row, top, "cache_shuffle_num").whole("cache_shuffle_num")
    cuts = _find_owner(row, top, "cache_shuffle_delimiter")
    cut = cuts.text("cache_shuffle_delimiter", ", ")
    if (shuffled or orders) and cut.strip() != ",":
        message = "tags are cut at commas here: put commas into the captions"
        cuts.say("cache_shuffle_delimiter", "no equivalent", message)
    prefix = _find_owner(row, top, "caption_prefix").text("caption_prefix")
    return drop_unset(
        caption_part="file",
        template=f"{prefix}{{caption}}" if prefix else None,
        shuffle_tags=bool(shuffled or orders),
    )


def _read_shapes(row: OptionTable, top: OptionTable) -> list[dict[str, Any]]:
    """Resolution, buckets and frames of each `[[data]]` table."""
    sized = _find_owner(row, top, "size_buckets")
    if "size_buckets" in sized:
        return [_read_size_buckets(sized)]
    frames = _choose_frames(_read_numbers(_find_owner(row, top, "frame_buckets"), "frame_buckets"))
    ratio = _read_ratio(row, top)
    owner = _find_owner(row, top, "resolutions")
    sides = _read_pairs(owner, "resolutions")
    if not sides:
        raise owner.bad("resolutions", "is needed: the side of a square, or [width, height]")
    # The sets are trained together, so a side given twice would only be seen twice.
    sides = list(dict.fromkeys(sides))
    if ratio is not None:
        fixed = [_fit_frame(wide * high, ratio) for wide, high in sides]
        return [{"resolution": frame, "buckets": False, "frames": frames} for frame in fixed]
    areas = [round(wide) if wide == high else [round(wide), round(high)] for wide, high in sides]
    return [{"resolution": area, "buckets": True, "frames": frames} for area in areas]


def _choose_frames(counts: Sequence[float | int]) -> int | list[int]:
    """`data.frames`: 1 for pictures alone, the length of videos, or several to choose from."""
    fitting = sorted({(int(count) - 1) // GRID * GRID + 1 for count in counts if count > 1})
    longer = [count for count in fitting if count > 1]
    if len(longer) > 1:
        return longer
    return longer[0] if longer else 1


def _read_ratio(row: OptionTable, top: OptionTable) -> float | None:
    """Width / height where there is one bucket, None where there are several."""
    if not _find_owner(row, top, "enable_ar_bucket").flag("enable_ar_bucket"):
        return 1.0
    listed = _find_owner(row, top, "ar_buckets")
    if "ar_buckets" in listed:
        pairs = _read_pairs(listed, "ar_buckets", single=lambda ratio: (ratio, 1.0))
        ratios = {round(wide / high, 3) for wide, high in pairs}
        return ratios.pop() if len(ratios) == 1 else None
    for name in ("min_ar", "max_ar", "num_ar_buckets"):
        _find_owner(row, top, name).number(name, 1, low=0)
    return None


def _fit_frame(area: float, ratio: float) -> list[int]:
    wide = math.sqrt(area * ratio)
    return [max(round(side / ROUNDED), 1) * ROUNDED for side in (wide, area / wide)]


def _read_size_buckets(table: OptionTable) -> dict[str, Any]:
    name = "size_buckets"
    rows = table.values[name]
    if not rows or not all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(n, int) and n > 0 for n in row)
        for row in rows
    ):
        raise table.bad(name, "a list of [width, height, frames] is needed")
    wide, high, _ = max(rows, key=lambda row: row[0] * row[1])
    if len(rows) > 1:
        message = (
            "it puts each clip into the bucket nearest in shape, then length; here all have the"
            " area of the largest and frames that follow the clip. For fixed ones write one"
            " [[data]] table a bucket, with buckets = false and the clips that belong to it"
        )
        table.say(name, "no equivalent", message)
    frames = _choose_frames([row[2] for row in rows])
    return {"resolution": [wide, high], "buckets": len(rows) > 1, "frames": frames}


def _read_numbers(table: OptionTable, name: str) -> list[float]:
    return [wide for wide, _ in _read_pairs(table, name)]


def _read_pairs(
    table: OptionTable, name: str, single: Any = lambda side: (side, side)
) -> list[tuple[float, float]]:
    """A list whose entries are numbers above 0, or pairs of them."""
    value = table.values.get(name, [])
    rows = value if isinstance(value, list) else None
    numbers = [row if isinstance(row, list) else list(single(row)) for row in rows or ()]
    if rows is None or not all(
        len(pair) == 2 and all(isinstance(n, int | float) and n > 0 for n in pair)
        for pair in numbers
    ):
        raise table.bad(name, "a list of numbers above 0 is needed, or of pairs of them")
    return [(float(wide), float(high)) for wide, high in numbers]

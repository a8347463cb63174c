"""diffusion-pipe's dataset TOML, as `[[data]]` tables and lists of clips."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json
from frisket.importers.base import BadLayout
from frisket.importers.folders import (
    clips_in,
    file_at,
    folder_at,
    manifest_of,
    text_of,
    whole_repeats,
)
from frisket.importers.options import Sheet, Table, filled
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
    seen: float = 0.0
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
    found = Sets(manifests={} if manifests is None else manifests)
    top = sheet.top("directory")
    rows = top.tables("directory", "directory")
    if not rows:
        raise top.bad("directory", "at least one [[directory]] is needed")
    rates: list[float] = []
    for row in rows:
        tables, clips = _directory(row, top, mode, found.manifests)
        rate = _own(row, top, "num_repeats").number("num_repeats", 1)
        if rate <= 0:
            raise row.bad("num_repeats", "a number above 0 is needed")
        # Every order of a caption's tags is a clip of its own there.
        rate *= max(_own(row, top, "cache_shuffle_num").whole("cache_shuffle_num"), 1)
        found.data += tables
        rates += [rate] * len(tables)
        found.seen += clips * rate * len(tables)
        row.close()
    share = top.number("subsample_ratio", 1) or 1.0
    found.seen *= share
    top.close()
    for table, repeats in zip(found.data, whole_repeats(rates), strict=True):
        table["repeats"] = repeats
    found.stretch = found.data[0]["repeats"] / rates[0] / share
    return found


def _own(row: Table, top: Table, name: str) -> Table:
    """Where an option stands: in its directory, or for all of them at the top."""
    return row if name in row else top


def _directory(
    row: Table, top: Table, mode: str, manifests: dict[str, tuple[dict[str, Any], ...]]
) -> tuple[list[dict[str, Any]], int]:
    """The `[[data]]` tables of a directory, and how many clips it has."""
    clips = folder_at(row, "path")
    masks, references = _find(row, "mask_path"), _find(row, "control_path")
    fallback = _find(row, "default_mask_file", file_at)
    shapes = _shapes(row, top)
    inside = [each for each in (masks, references) if each]
    lines, listed = _lines(row, top, clips, inside, shapes)
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
    table |= _captions(row, top) | {"extract": MODES[mode]}
    if shapes[0]["frames"] != 1:
        _tell_mode(row, mode)
    return [table | shape for shape in shapes], len(lines)


def _find(row: Table, name: str, find: Callable[[Table, str], Path] = folder_at) -> Path | None:
    """The folder (or, by `file_at`, the file) that an option names; None where it is not set."""
    return find(row, name) if name in row else None


def _describe_masks(row: Table, masks: Path | None, fallback: Path | None) -> dict[str, Any]:
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


def _lines(
    row: Table, top: Table, clips: Path, inside: Sequence[Path], shapes: Sequence[Mapping[str, Any]]
) -> tuple[tuple[dict[str, Any], ...], bool]:
    """The clips that it takes, as lines of a manifest; and whether Frisket would take others."""
    every = list(clips_in(clips, inside))
    taken = [clip for clip in every if clip.parent == clips]
    if len(every) > len(taken):
        said = (
            f"is data.clips, but {len(every) - len(taken)} clips lie in sub-folders, which it"
            " does not look into: those it takes are in a list"
        )
        row.say("path", "mapped", said)
    if shapes[0]["frames"] == 1:
        taken = _still(row, top, taken)
    written = _written(row, clips)
    skips = _own(row, top, "skip_empty_caption")
    bare = [clip for clip in taken if not _captioned(clip, written)]
    if bare and skips.flag("skip_empty_caption", default=True):
        skips.defect(
            "skip_empty_caption",
            f"its example promises an empty caption, but it leaves out clips without one"
            f" ({len(bare)} of {clips}), and so here: those with one are in a list",
            value=True,
        )
        taken = [clip for clip in taken if clip not in bare]
    lines = manifest_of(clips, taken, lambda clip: written.get(clip.name))
    return lines, bool(written) or len(taken) < len(every)


def _still(row: Table, top: Table, taken: list[Path]) -> list[Path]:
    """Pictures alone, where there is no bucket for videos."""
    videos = [clip for clip in taken if clip.suffix.lower() in VIDEOS]
    if videos:
        said = (
            f"there is no bucket for videos, so it drops the {len(videos)} that are here, and so"
            " here: the pictures are in a list"
        )
        _own(row, top, "frame_buckets").say("frame_buckets", "mapped", f"data.frames; {said}", [1])
    return [clip for clip in taken if clip not in videos]


def _written(row: Table, clips: Path) -> dict[str, str]:
    """The first caption that `captions.json` has for a file name."""
    file = clips / CAPTIONS
    if not file.is_file():
        return {}
    captions = _parse_captions(file)
    several = sum(len(texts) > 1 for texts in captions.values())
    said = "is read here, and the captions are in a list of the clips"
    if several:
        said = (
            f"{several} clips have several captions, and are as many clips there; here the first"
            " is taken: copy such clips, each with a caption of its own"
        )
    row.say(CAPTIONS, "no equivalent" if several else "mapped", said, len(captions))
    return {name: texts[0] for name, texts in captions.items()}


def _parse_captions(file: Path) -> dict[str, list[str]]:
    """The captions of each file name, at least one; BadLayout for JSON of another form."""
    try:
        tree = parse_json(text_of(file))
    except BadText as error:
        raise BadLayout(f"{file}: not JSON ({error})") from error
    if not isinstance(tree, dict) or not all(
        isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
        for texts in tree.values()
    ):
        raise BadLayout(f"{file}: a table of file name to a list of captions is needed")
    return tree


def _captioned(clip: Path, written: Mapping[str, str]) -> bool:
    return clip.name in written if written else clip.with_suffix(".txt").is_file()


def _tell_masks(row: Table) -> None:
    row.defect(
        "mask_path",
        "its cache knows masks by path: an edited mask stays the old one until --regenerate_cache;"
        " here masks are known by content. Over a video it lays one still mask; here a mask video"
        " weighs frame by frame. A mask of another size than its clip stops it; here it is fitted",
    )


def _tell_mode(row: Table, mode: str) -> None:
    if mode == "multiple_overlapping":
        said = (
            "is data.extract = chunk here: its clips overlapped to reach the end of a video, ours"
            " follow one another and leave the rest out"
        )
        row.say("video_clip_mode", "no equivalent", said, mode)
    elif mode == "single_middle":
        row.say("video_clip_mode", "mapped", "is data.extract = middle here", mode)


def _captions(row: Table, top: Table) -> dict[str, Any]:
    shuffled = _own(row, top, "shuffle_tags").flag("shuffle_tags")
    orders = _own(row, top, "cache_shuffle_num").whole("cache_shuffle_num")
    cuts = _own(row, top, "cache_shuffle_delimiter")
    cut = cuts.text("cache_shuffle_delimiter", ", ")
    if (shuffled or orders) and cut.strip() != ",":
        said = "tags are cut at commas here: put commas into the captions"
        cuts.say("cache_shuffle_delimiter", "no equivalent", said)
    prefix = _own(row, top, "caption_prefix").text("caption_prefix")
    return filled(
        caption_part="file",
        template=f"{prefix}{{caption}}" if prefix else None,
        shuffle_tags=bool(shuffled or orders),
    )


def _shapes(row: Table, top: Table) -> list[dict[str, Any]]:
    """Resolution, buckets and frames of each `[[data]]` table."""
    sized = _own(row, top, "size_buckets")
    if "size_buckets" in sized:
        return [_sized(sized)]
    frames = _frames(_numbers(_own(row, top, "frame_buckets"), "frame_buckets"))
    ratio = _one_ratio(row, top)
    given = _own(row, top, "resolutions")
    sides = _pairs(given, "resolutions")
    if not sides:
        raise given.bad("resolutions", "is needed: the side of a square, or [width, height]")
    # The sets are trained together, so a side given twice would only be seen twice.
    sides = list(dict.fromkeys(sides))
    if ratio is not None:
        fixed = [_frame(wide * high, ratio) for wide, high in sides]
        return [{"resolution": frame, "buckets": False, "frames": frames} for frame in fixed]
    areas = [round(wide) if wide == high else [round(wide), round(high)] for wide, high in sides]
    return [{"resolution": area, "buckets": True, "frames": frames} for area in areas]


def _frames(given: Sequence[float | int]) -> int | list[int]:
    """`data.frames`: 1 for pictures alone, the length of videos, or several to choose from."""
    fitting = sorted({(int(each) - 1) // GRID * GRID + 1 for each in given if each > 1})
    longer = [each for each in fitting if each > 1]
    if len(longer) > 1:
        return longer
    return longer[0] if longer else 1


def _one_ratio(row: Table, top: Table) -> float | None:
    """Width / height where there is one bucket, None where there are several."""
    if not _own(row, top, "enable_ar_bucket").flag("enable_ar_bucket"):
        return 1.0
    listed = _own(row, top, "ar_buckets")
    if "ar_buckets" in listed:
        pairs = _pairs(listed, "ar_buckets", single=lambda ratio: (ratio, 1.0))
        ratios = {round(wide / high, 3) for wide, high in pairs}
        return ratios.pop() if len(ratios) == 1 else None
    for name in ("min_ar", "max_ar", "num_ar_buckets"):
        _own(row, top, name).number(name, 1, low=0)
    return None


def _frame(area: float, ratio: float) -> list[int]:
    wide = math.sqrt(area * ratio)
    return [max(round(side / ROUNDED), 1) * ROUNDED for side in (wide, area / wide)]


def _sized(table: Table) -> dict[str, Any]:
    name = "size_buckets"
    rows = table.values[name]
    if not rows or not all(
        isinstance(row, list) and len(row) == 3 and all(isinstance(n, int) and n > 0 for n in row)
        for row in rows
    ):
        raise table.bad(name, "a list of [width, height, frames] is needed")
    wide, high, _ = max(rows, key=lambda row: row[0] * row[1])
    if len(rows) > 1:
        said = (
            "it puts each clip into the bucket nearest in shape, then length; here all have the"
            " area of the largest and frames that follow the clip. For fixed ones write one"
            " [[data]] table a bucket, with buckets = false and the clips that belong to it"
        )
        table.say(name, "no equivalent", said)
    frames = _frames([row[2] for row in rows])
    return {"resolution": [wide, high], "buckets": len(rows) > 1, "frames": frames}


def _numbers(table: Table, name: str) -> list[float]:
    return [wide for wide, _ in _pairs(table, name)]


def _pairs(
    table: Table, name: str, single: Any = lambda side: (side, side)
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

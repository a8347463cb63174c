"""musubi-tuner and blissful-tuner: the dataset TOML or JSON, or the training TOML that names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.importers.base import BadLayout, Imported, Layout
from frisket.importers.files import peek, read_config
from frisket.importers.flags.job import Job, options_in, role_of, shared
from frisket.importers.flags.model import of_musubi
from frisket.importers.flags.options import Flags, rules_with_flags
from frisket.importers.flags.sections import merged, training
from frisket.importers.flags.subsets import Chain, Subset, Subsets, resolution
from frisket.importers.folders import folder_at
from frisket.importers.manifests import (
    IMAGES,
    VIDEOS,
    Entry,
    clip_at,
    directly_in,
    just_these,
    masked_by,
    objects_in,
    see_through,
)
from frisket.importers.options import Sheet, Table, filled
from frisket.importers.source_base import Source
from frisket.importers.trainers.musubi.frames import windows_of
from frisket.importers.trainers.musubi.options import mask_loss, pixel_curve
from frisket.media.folders.references import ReferencesNotFound, find_references

STEP = 16  # pixels: its buckets and frames are multiples of it
CLIPS = ("image_directory", "video_directory", "image_jsonl_file", "video_jsonl_file")
OWN = ("dit", "use_mask_loss", "dit_high_noise")
OTHERS = (
    "pretrained_model_name_or_path",
    "train_data_dir",
    "in_json",
    "reg_data_dir",
)  # sd-scripts'


def suits(path: Path) -> bool:
    """Data sets of images or videos without subsets, or a training file of theirs."""
    tree = peek(path)
    if not isinstance(tree, dict):
        return False
    sets = tree.get("datasets")
    if isinstance(sets, list):
        plain = [each for each in sets if isinstance(each, dict) and "subsets" not in each]
        return (
            bool(sets) and len(plain) == len(sets) and any(set(CLIPS) & set(each) for each in plain)
        )
    named = options_in(tree)
    if path.suffix.lower() != ".toml" or set(named) & set(OTHERS):
        return False
    return bool(set(OWN) & set(named)) or bool(shared(named))


def read(path: Path) -> Imported:
    """Read a dataset file, or a training file with those it names."""
    written = read_config(path)
    return read_sources([Source("musubi", role_of(written.tree), "", written)])


def read_sources(sources: Sequence[Source]) -> Imported:
    """Read the files of one run: training options and data sets; the first counts first."""
    job = Job.of(sources, rules_with_flags("musubi"))
    found = Subsets()
    sheets = job.data if job.flags is None else job.data_sheets(())
    for sheet in sheets:
        _datasets(found, sheet)
    if job.flags is None:
        return job.imported("musubi", found, merged(found.sections("blissful")))
    _bend(found, pixel_curve(job.flags))
    sections = _sections(found, job.flags, job.script)
    job.flags.close()
    module = job.flags.text("network_module")
    model = module if "lora_" in module else ""  # LyCORIS and the like serve every model
    return job.imported("musubi", found, sections, model)


def _bend(found: Subsets, curve: dict[str, Any]) -> None:
    """Give every set that has masks the curve of their pixels."""
    for table in (each.table for each in found.sets if each.masked and curve):
        masks = table["masks"]
        table["masks"] = ({"source": masks} if isinstance(masks, str) else masks) | curve


def _datasets(found: Subsets, sheet: Sheet) -> None:
    top = sheet.top("file")
    general = top.table("general", "data")
    rows = top.tables("datasets", "data")
    if not rows:
        raise top.bad("datasets", "at least one [[datasets]] is needed")
    for number, row in enumerate(rows):
        chain = Chain(row, general)
        found.batch(chain)
        _dataset(found, chain, number)
        row.close()
    general.close()
    top.close()


@dataclass(frozen=True, slots=True)
class _Taken:
    """The clips that a data set trains."""

    option: str
    folder: Path | None  # None for a list
    lines: list[Entry]
    video: bool

    @property
    def clips(self) -> list[Path]:
        return [Path(line["path"]) for line in self.lines]


def _dataset(found: Subsets, chain: Chain, group: int) -> None:
    own = chain.tables[0]
    given = [name for name in CLIPS if name in own]
    if len(given) != 1:
        said = f"one of {', '.join(CLIPS)} is needed" + (f", not {len(given)}" if given else "")
        raise BadLayout(f"{own.sheet.written.where(own.where)}: {said}")
    option = given[0]
    taken = _listed(own, option) if option.endswith("file") else _in_folder(chain, option)
    masks = _masks(chain, taken)
    references = _references(own, taken)
    table: dict[str, Any] = (
        {"clips": str(taken.folder)} | masks | references | _captions(chain, taken)
    )
    if not _plain(own, taken, references):
        name = taken.folder.name if taken.folder else Path(own.text(option)).stem
        table["clips"] = found.listed(name, taken.lines)
        table |= _as_listed(masks)
        table.pop("references", None)
        said = f"is data.clips, as the list {table['clips']}: just the clips that were trained"
        own.say(option, "mapped", said)
    table |= _shape(chain)
    repeats = max(1, chain.whole("num_repeats", 1))
    windows = windows_of(own, taken.clips) if taken.video else [{}]
    for window in windows:
        clips = 0 if window.get("extract") in ("chunk", "slide") else len(taken.lines)
        found.sets.append(Subset(table | window, clips, repeats, False, False, group, bool(masks)))


def _in_folder(chain: Chain, option: str) -> _Taken:
    own = chain.tables[0]
    folder = folder_at(own, option)
    video = option.startswith("video")
    clips = directly_in(folder, VIDEOS if video else IMAGES)
    if not clips:
        raise own.bad(option, f"{folder} holds no {'video' if video else 'picture'} itself")
    if not video:
        texts = folder_at(own, "caption_directory") if "caption_directory" in own else folder
        suffix = chain.text("caption_extension", ".txt")
        worded = [clip for clip in clips if (texts / f"{clip.stem}{suffix}").is_file()]
        if not worded:
            raise own.bad(option, f"no picture of {folder} has a caption ({suffix}) in {texts}")
        clips = worded
    return _Taken(option, folder, masked_by(clips, None, ()), video)


def _listed(own: Table, option: str) -> _Taken:
    file, entries = objects_in(own, option)
    video = option.startswith("video")
    keys = ("video_path",) if video else ("image_path", "image_path_0")
    lines: list[Entry] = []
    for at, entry in entries:
        written = next((entry[key] for key in keys if key in entry), None)
        clip = clip_at(own, option, at, written, file.parent)
        line: Entry = {
            "path": str(clip.absolute()),
            "caption": str(entry.get("caption", "")).strip(),
        }
        controls = sorted((_digits(key), key) for key in entry if key.startswith("control_path"))
        if controls and not video:
            pictures = [clip_at(own, option, at, entry[key], file.parent) for _, key in controls]
            line["references"] = [str(picture.absolute()) for picture in pictures]
        lines.append(line)
    if video and any("control_path" in entry for _, entry in entries):
        said = (
            "is data.clips, a manifest; its control videos have no place: no family looks at them"
        )
        own.say(option, "no equivalent", said)
    return _Taken(option, None, lines, video)


def _digits(key: str) -> int:
    tail = key.removeprefix("control_path").removeprefix("_")
    return int(tail) if tail.isdecimal() else -1


def _plain(own: Table, taken: _Taken, references: Mapping[str, Any]) -> bool:
    """Whether a folder says it all: the same clips, and reference pictures by name."""
    if taken.folder is None or (
        any("references" in line for line in taken.lines) and not references
    ):
        return False
    others = [
        name for name in ("mask_directory", "control_directory", "cache_directory") if name in own
    ]
    inside = [taken.folder / own.text(name) for name in others]
    return just_these(taken.folder, taken.clips, inside)


def _masks(chain: Chain, taken: _Taken) -> dict[str, Any]:
    """`masks`, and the mask of each line; nothing where the set has none."""
    own = chain.tables[0]
    folder = folder_at(own, "mask_directory") if "mask_directory" in own else None
    require = own.flag("require_mask")
    found: dict[str, Any] = {}
    if folder is not None:
        for line, masked in zip(
            taken.lines, masked_by(taken.clips, folder, IMAGES + VIDEOS), strict=True
        ):
            line.update(masked)
        found = {"masks": {"source": "folder", "path": str(folder)} | filled(require=require)}
        _tell_masks(own, taken)
    if not own.flag("alpha_mask"):
        return found
    clear = [see_through(clip) for clip in taken.clips]
    if folder is None and any(clear):
        return {"masks": {"source": "alpha", "require": True} if require else "alpha"}
    if any(clear):
        said = (
            "the alpha goes before the mask folder there; here a set has one source, the folder:"
            " save the alphas as masks (`frisket masks import`)"
        )
    else:
        said = "no picture has an alpha channel, so it changes nothing"
    own.say("alpha_mask", "no equivalent" if any(clear) else "not needed", said)
    return found


def _tell_masks(own: Table, taken: _Taken) -> None:
    said = (
        "versions of early January 2026 enlarge masks by Lanczos, which bends their levels, and"
        " keep latents that were cached without masks: neither trains what the masks say"
    )
    if taken.video:
        said = (
            "the version of January 2026 stores it for videos and never reads it, later ones lay"
            " one still mask over all frames; here a mask video weighs frame by frame. Besides,"
            f" {said}"
        )
    own.defect("mask_directory", said)


def _as_listed(masks: Mapping[str, Any]) -> dict[str, Any]:
    """`masks` where the clips, and the files of their masks, are those of a list."""
    given = masks.get("masks")
    if isinstance(given, dict) and given["source"] == "folder":
        return {"masks": {"source": "listed"} | filled(require=given.get("require"))}
    return {"masks": given or "none"}


def _references(own: Table, taken: _Taken) -> dict[str, Any]:
    """The folder of control pictures, or those of each line where names are not enough."""
    if "control_directory" not in own:
        return {}
    folder = folder_at(own, "control_directory")
    if taken.video:
        said = "no family looks at control videos; image-to-video sees the first frame by itself"
        own.say("control_directory", "no equivalent", said)
        return {}
    try:
        find_references(folder, [clip.stem for clip in taken.clips])
    except ReferencesNotFound:
        pictures = directly_in(folder, IMAGES)
        for line, clip in zip(taken.lines, taken.clips, strict=True):
            own_pictures = sorted(p for p in pictures if p.stem == clip.stem)
            numbered = [p for p in pictures if _number(p.stem, clip.stem) is not None]
            numbered.sort(key=lambda p: _number(p.stem, clip.stem) or 0)
            line["references"] = [str(p) for p in (*own_pictures, *numbered)]
        lacking = next((line["path"] for line in taken.lines if not line["references"]), None)
        if lacking:
            raise own.bad("control_directory", f"{folder} holds no picture for {lacking}") from None
        return {}
    return {"references": str(folder)}


def _number(stem: str, name: str) -> int | None:
    tail = stem.removeprefix(f"{name}_")
    return int(tail) if stem.startswith(f"{name}_") and tail.isdecimal() else None


def _captions(chain: Chain, taken: _Taken) -> dict[str, Any]:
    if taken.folder is None:
        return {"caption_part": "file"}
    own = chain.tables[0]
    if "caption_extension" not in chain:
        said = "is not set, without which it stops at a folder; .txt is read here"
        own.say("caption_extension", "mapped", said, value=".txt")
    suffix = chain.text("caption_extension", ".txt")
    texts = folder_at(own, "caption_directory") if "caption_directory" in own else None
    return filled(
        captions=str(texts) if texts else None,
        caption_extension=suffix if suffix != ".txt" else None,
        caption_part="file",
    )


def _shape(chain: Chain) -> dict[str, Any]:
    size = resolution(chain)
    sides = [960, 544] if size is None else [size, size] if isinstance(size, int) else size
    found: dict[str, Any] = {
        "resolution": [max(STEP, side // STEP * STEP) for side in sides],
        "buckets": chain.flag("enable_bucket"),
    }
    if found["buckets"] and chain.flag("bucket_no_upscale"):
        found["enlarge"] = False
    return found


def _sections(found: Subsets, flags: Flags, script: str) -> dict[str, dict[str, Any]]:
    model = of_musubi(flags, script)
    masked = any(each.masked for each in found.sets)
    trained = training(flags, trainer="musubi", epoch=found.epoch(), model=model, shift=1.0)
    return merged(
        {"model": model}, trained, found.sections("blissful"), mask_loss(flags, masked=masked)
    )


LAYOUT = Layout(
    "musubi-tuner, blissful-tuner: training and dataset TOML",
    suits,
    read,
    read_sources=read_sources,
)

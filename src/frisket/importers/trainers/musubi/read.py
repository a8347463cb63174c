"""musubi-tuner and blissful-tuner: the dataset TOML or JSON, or the training TOML that names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, Imported, ImportFormat
from frisket.importers.files import peek, read_config
from frisket.importers.flags.job import KohyaJob, are_training_options, find_role, list_options
from frisket.importers.flags.model import map_musubi_model
from frisket.importers.flags.options import Flags, merge_rules
from frisket.importers.flags.sections import map_training, merge_sections
from frisket.importers.flags.subsets import Chain, Subset, Subsets, read_resolution
from frisket.importers.folders import find_folder
from frisket.importers.manifests import (
    IMAGES,
    VIDEOS,
    ManifestEntry,
    find_clip,
    has_alpha,
    holds_only,
    list_directly,
    pair_masks,
    read_objects,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.importers.source_base import ConfigSource
from frisket.importers.trainers.musubi.frames import windows_of
from frisket.importers.trainers.musubi.options import read_mask_loss, read_pixel_curve
from frisket.media.folders.references import ReferencesNotFound, find_references

STEP = 16  # pixels: its buckets and frames are multiples of it
CLIPS = ("image_directory", "video_directory", "image_jsonl_file", "video_jsonl_file")
OWN_OPTIONS = ("dit", "use_mask_loss", "dit_high_noise")
KOHYA_OPTIONS = (
    "pretrained_model_name_or_path",
    "train_data_dir",
    "in_json",
    "reg_data_dir",
)  # sd-scripts'


def matches(path: Path) -> bool:
    """Data sets of images or videos without subsets, or a training file of theirs."""
    tree = peek(path)
    if not isinstance(tree, dict):
        return False
    sets = tree.get("datasets")
    if isinstance(sets, list):
        tables = [table for table in sets if isinstance(table, dict) and "subsets" not in table]
        return (
            bool(sets)
            and len(tables) == len(sets)
            and any(set(CLIPS) & set(table) for table in tables)
        )
    options = list_options(tree)
    if path.suffix.lower() != ".toml" or set(options) & set(KOHYA_OPTIONS):
        return False
    return bool(set(OWN_OPTIONS) & set(options)) or bool(are_training_options(options))


def read(path: Path) -> Imported:
    """Read a dataset file, or a training file with those it names."""
    document = read_config(path)
    return read_sources([ConfigSource("musubi", find_role(document.tree), "", document)])


def read_sources(sources: Sequence[ConfigSource]) -> Imported:
    """Read the files of one run: training options and data sets; the first counts first."""
    job = KohyaJob.of(sources, merge_rules("musubi"))
    subsets = Subsets()
    sheets = job.data if job.flags is None else job.data_sheets(())
    for sheet in sheets:
        _read_datasets(subsets, sheet)
    if job.flags is None:
        return job.assemble("musubi", subsets, merge_sections(subsets.sections("blissful")))
    _bend(subsets, read_pixel_curve(job.flags))
    sections = _read_sections(subsets, job.flags, job.script)
    job.flags.close()
    module = job.flags.text("network_module")
    model = module if "lora_" in module else ""  # LyCORIS and the like serve every model
    return job.assemble("musubi", subsets, sections, model)


def _bend(subsets: Subsets, curve: dict[str, Any]) -> None:
    """Give every set that has masks the curve of their pixels."""
    for table in (subset.table for subset in subsets.sets if subset.masked and curve):
        masks = table["masks"]
        table["masks"] = ({"source": masks} if isinstance(masks, str) else masks) | curve


def _read_datasets(subsets: Subsets, sheet: Sheet) -> None:
    top = sheet.top("file")
    general = top.table("general", "data")
    rows = top.tables("datasets", "data")
    if not rows:
        raise top.bad("datasets", "at least one [[datasets]] is needed")
    for number, row in enumerate(rows):
        chain = Chain(row, general)
        subsets.batch(chain)
        _read_dataset(subsets, chain, number)
        row.close()
    general.close()
    top.close()


@dataclass(frozen=True, slots=True)
class _Selection:
    """The clips that a data set trains."""

    option: str
    folder: Path | None  # None for a list
    lines: list[ManifestEntry]
    video: bool

    @property
    def clips(self) -> list[Path]:
        return [Path(line["path"]) for line in self.lines]


def _read_dataset(subsets: Subsets, chain: Chain, group: int) -> None:
    dataset = chain.tables[0]
    options = [name for name in CLIPS if name in dataset]
    if len(options) != 1:
        message = f"one of {', '.join(CLIPS)} is needed" + (
            f", not {len(options)}" if options else ""
        )
        raise BadImport(f"{dataset.sheet.written.where(dataset.where)}: {message}")
    option = options[0]
    selection = (
        _select_from_list(dataset, option)
        if option.endswith("file")
        else _select_folder(chain, option)
    )
    masks = _read_masks(chain, selection)
    references = _find_references(dataset, selection)
    table: dict[str, Any] = (
        {"clips": str(selection.folder)} | masks | references | _read_captions(chain, selection)
    )
    if not _is_whole_folder(dataset, selection, references):
        name = selection.folder.name if selection.folder else Path(dataset.text(option)).stem
        table["clips"] = subsets.keep_manifest(name, selection.lines)
        table |= _as_listed(masks)
        table.pop("references", None)
        message = f"is data.clips, as the list {table['clips']}: just the clips that were trained"
        dataset.say(option, "mapped", message)
    table |= _read_shape(chain)
    repeats = max(1, chain.whole("num_repeats", 1))
    windows = windows_of(dataset, selection.clips) if selection.video else [{}]
    for window in windows:
        clips = 0 if window.get("extract") in ("chunk", "slide") else len(selection.lines)
        subsets.sets.append(
            Subset(table | window, clips, repeats, False, False, group, bool(masks))
        )


def _select_folder(chain: Chain, option: str) -> _Selection:
    dataset = chain.tables[0]
    folder = find_folder(dataset, option)
    video = option.startswith("video")
    clips = list_directly(folder, VIDEOS if video else IMAGES)
    if not clips:
        raise dataset.bad(option, f"{folder} holds no {'video' if video else 'picture'} itself")
    if not video:
        texts = (
            find_folder(dataset, "caption_directory") if "caption_directory" in dataset else folder
        )
        suffix = chain.text("caption_extension", ".txt")
        worded = [clip for clip in clips if (texts / f"{clip.stem}{suffix}").is_file()]
        if not worded:
            raise dataset.bad(option, f"no picture of {folder} has a caption ({suffix}) in {texts}")
        clips = worded
    return _Selection(option, folder, pair_masks(clips, None, ()), video)


def _select_from_list(dataset: OptionTable, option: str) -> _Selection:
    file, entries = read_objects(dataset, option)
    video = option.startswith("video")
    keys = ("video_path",) if video else ("image_path", "image_path_0")
    lines: list[ManifestEntry] = []
    for at, entry in entries:
        path = next((entry[key] for key in keys if key in entry), None)
        clip = find_clip(dataset, option, at, path, file.parent)
        line: ManifestEntry = {
            "path": str(clip.absolute()),
            "caption": str(entry.get("caption", "")).strip(),
        }
        controls = sorted(
            (_parse_digits(key), key) for key in entry if key.startswith("control_path")
        )
        if controls and not video:
            pictures = [
                find_clip(dataset, option, at, entry[key], file.parent) for _, key in controls
            ]
            line["references"] = [str(picture.absolute()) for picture in pictures]
        lines.append(line)
    if video and any("control_path" in entry for _, entry in entries):
        message = (
            "is data.clips, a manifest; its control videos have no place: no family looks at them"
        )
        dataset.say(option, "no equivalent", message)
    return _Selection(option, None, lines, video)


def _parse_digits(key: str) -> int:
    tail = key.removeprefix("control_path").removeprefix("_")
    return int(tail) if tail.isdecimal() else -1


def _is_whole_folder(
    dataset: OptionTable, selection: _Selection, references: Mapping[str, Any]
) -> bool:
    """Whether a folder says it all: the same clips, and reference pictures by name."""
    if selection.folder is None or (
        any("references" in line for line in selection.lines) and not references
    ):
        return False
    options = [
        name
        for name in ("mask_directory", "control_directory", "cache_directory")
        if name in dataset
    ]
    inside = [selection.folder / dataset.text(name) for name in options]
    return holds_only(selection.folder, selection.clips, inside)


def _read_masks(chain: Chain, selection: _Selection) -> dict[str, Any]:
    """`masks`, and the mask of each line; nothing where the set has none."""
    dataset = chain.tables[0]
    folder = find_folder(dataset, "mask_directory") if "mask_directory" in dataset else None
    require = dataset.flag("require_mask")
    masks: dict[str, Any] = {}
    if folder is not None:
        for line, masked in zip(
            selection.lines, pair_masks(selection.clips, folder, IMAGES + VIDEOS), strict=True
        ):
            line.update(masked)
        masks = {"masks": {"source": "folder", "path": str(folder)} | drop_unset(require=require)}
        _tell_masks(dataset, selection)
    if not dataset.flag("alpha_mask"):
        return masks
    clear = [has_alpha(clip) for clip in selection.clips]
    if folder is None and any(clear):
        return {"masks": {"source": "alpha", "require": True} if require else "alpha"}
    if any(clear):
        message = (
            "the alpha goes before the mask folder there; here a set has one source, the folder:"
            " save the alphas as masks (`frisket masks import`)"
        )
    else:
        message = "no picture has an alpha channel, so it changes nothing"
    dataset.say("alpha_mask", "no equivalent" if any(clear) else "not needed", message)
    return masks


def _tell_masks(dataset: OptionTable, selection: _Selection) -> None:
    message = (
        "versions of early January 2026 enlarge masks by Lanczos, which bends their levels, and"
        " keep latents that were cached without masks: neither trains what the masks say"
    )
    if selection.video:
        message = (
            "the version of January 2026 stores it for videos and never reads it, later ones lay"
            " one still mask over all frames; here a mask video weighs frame by frame. Besides,"
            f" {message}"
        )
    dataset.defect("mask_directory", message)


def _as_listed(masks: Mapping[str, Any]) -> dict[str, Any]:
    """`masks` where the clips, and the files of their masks, are those of a list."""
    source = masks.get("masks")
    if isinstance(source, dict) and source["source"] == "folder":
        return {"masks": {"source": "listed"} | drop_unset(require=source.get("require"))}
    return {"masks": source or "none"}


def _find_references(dataset: OptionTable, selection: _Selection) -> dict[str, Any]:
    """The folder of control pictures, or those of each line where names are not enough."""
    if "control_directory" not in dataset:
        return {}
    folder = find_folder(dataset, "control_directory")
    if selection.video:
        message = "no family looks at control videos; image-to-video sees the first frame by itself"
        dataset.say("control_directory", "no equivalent", message)
        return {}
    try:
        find_references(folder, [clip.stem for clip in selection.clips])
    except ReferencesNotFound:
        pictures = list_directly(folder, IMAGES)
        for line, clip in zip(selection.lines, selection.clips, strict=True):
            own_pictures = sorted(p for p in pictures if p.stem == clip.stem)
            numbered = [p for p in pictures if _parse_number(p.stem, clip.stem) is not None]
            numbered.sort(key=lambda p: _parse_number(p.stem, clip.stem) or 0)
            line["references"] = [str(p) for p in (*own_pictures, *numbered)]
        lacking = next((line["path"] for line in selection.lines if not line["references"]), None)
        if lacking:
            raise dataset.bad(
                "control_directory", f"{folder} holds no picture for {lacking}"
            ) from None
        return {}
    return {"references": str(folder)}


def _parse_number(stem: str, name: str) -> int | None:
    tail = stem.removeprefix(f"{name}_")
    return int(tail) if stem.startswith(f"{name}_") and tail.isdecimal() else None


def _read_captions(chain: Chain, selection: _Selection) -> dict[str, Any]:
    if selection.folder is None:
        return {"caption_part": "file"}
    dataset = chain.tables[0]
    if "caption_extension" not in chain:
        message = "is not set, without which it stops at a folder; .txt is read here"
        dataset.say("caption_extension", "mapped", message, value=".txt")
    suffix = chain.text("caption_extension", ".txt")
    texts = find_folder(dataset, "caption_directory") if "caption_directory" in dataset else None
    return drop_unset(
        captions=str(texts) if texts else None,
        caption_extension=suffix if suffix != ".txt" else None,
        caption_part="file",
    )


def _read_shape(chain: Chain) -> dict[str, Any]:
    size = read_resolution(chain)
    sides = [960, 544] if size is None else [size, size] if isinstance(size, int) else size
    shape: dict[str, Any] = {
        "resolution": [max(STEP, side // STEP * STEP) for side in sides],
        "buckets": chain.flag("enable_bucket"),
    }
    if shape["buckets"] and chain.flag("bucket_no_upscale"):
        shape["enlarge"] = False
    return shape


def _read_sections(subsets: Subsets, flags: Flags, script: str) -> dict[str, dict[str, Any]]:
    model = map_musubi_model(flags, script)
    masked = any(subset.masked for subset in subsets.sets)
    trained = map_training(flags, trainer="musubi", epoch=subsets.epoch(), model=model, shift=1.0)
    return merge_sections(
        {"model": model},
        trained,
        subsets.sections("blissful"),
        read_mask_loss(flags, masked=masked),
    )


FORMAT = ImportFormat(
    "musubi-tuner, blissful-tuner: training and dataset TOML",
    matches,
    read,
    read_sources=read_sources,
)

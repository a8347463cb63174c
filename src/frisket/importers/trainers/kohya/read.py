"""kohya's sd-scripts: a dataset TOML or JSON, a training TOML, or a folder of `N_name` folders."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, Imported, ImportFormat
from frisket.importers.files import Written, peek, read_config
from frisket.importers.flags.job import KohyaJob, are_training_options, find_role, list_options
from frisket.importers.flags.model import map_sd_scripts_model
from frisket.importers.flags.options import Flags, merge_rules
from frisket.importers.flags.run import map_interval
from frisket.importers.flags.sections import map_training, merge_sections
from frisket.importers.flags.subsets import Chain, Subset, Subsets, read_resolution
from frisket.importers.folders import find_folder
from frisket.importers.manifests import (
    IMAGES,
    ManifestEntry,
    find_clip,
    has_alpha,
    holds_only,
    keeps_alpha,
    list_directly,
    pair_masks,
    read_objects,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.importers.prompt_reading import map_sd_scripts_reading
from frisket.importers.source_base import ConfigSource

NUMBERED = re.compile(r"(\d+)_(.*)")
SHIFTS = {"flux": 3.0, "sd3": 1.0}
OWN_OPTIONS = (
    "pretrained_model_name_or_path",
    "train_data_dir",
    "masked_loss",
    "reg_data_dir",
    "in_json",
)
MUSUBI_OPTIONS = ("dit", "use_mask_loss", "dit_high_noise")  # of musubi-tuner


def matches(path: Path) -> bool:
    """Data sets with subsets; a training file of theirs; a folder of `N_name` folders."""
    if path.is_dir():
        return bool(_list_numbered(path) or _list_numbered(path / "img"))
    tree = peek(path)
    if not isinstance(tree, dict):
        return False
    sets = tree.get("datasets")
    if isinstance(sets, list):
        return bool(sets) and all(
            isinstance(dataset, dict) and "subsets" in dataset for dataset in sets
        )
    if path.suffix.lower() != ".toml":  # what --config_file takes
        return False
    options = list_options(tree)
    return bool(set(options) & set(OWN_OPTIONS)) or (
        bool(are_training_options(options)) and not set(options) & set(MUSUBI_OPTIONS)
    )


def read(path: Path) -> Imported:
    """Read either file, or the folder."""
    if path.is_dir():
        return _read_folder(path)
    document = read_config(path)
    return read_sources([ConfigSource("kohya", find_role(document.tree), "", document)])


def read_sources(sources: Sequence[ConfigSource]) -> Imported:
    """Read the files of one run: training options, data sets, or both; the first counts first."""
    job = KohyaJob.of(sources, merge_rules("kohya", data=True))
    subsets = Subsets()
    if job.flags is None:
        for sheet in job.data:
            _read_datasets(subsets, sheet, None)
        return job.assemble("kohya", subsets, merge_sections(subsets.sections("kohya")))
    for sheet in job.data_sheets(("train_data_dir", "in_json")):
        _read_datasets(subsets, sheet, job.flags)
    if not job.data:
        _read_flags(subsets, job.flags)
    sections = _read_sections(subsets, job.flags, job.script)
    job.flags.close()
    return job.assemble("kohya", subsets, sections, job.flags.text("network_module"))


def _read_datasets(subsets: Subsets, sheet: Sheet, flags: Flags | None) -> None:
    top = sheet.top("file")
    general = top.table("general", "data")
    for number, dataset in enumerate(top.tables("datasets", "data")):
        rows = dataset.tables("subsets", "data")
        if not rows:
            raise dataset.bad("subsets", "is needed: at least one [[datasets.subsets]]")
        subsets.batch(Chain(dataset, general, flags=flags))
        for row in rows:
            _read_subset(subsets, Chain(row, dataset, general, flags=flags), number)
            row.close()
        dataset.close()
    general.close()
    top.close()
    if not subsets.sets:
        raise BadImport(f"{sheet.written.path}: trains nothing: no subset has num_repeats above 0")


def _read_subset(subsets: Subsets, chain: Chain, group: int) -> None:
    subset = chain.tables[0]
    repeats = chain.whole("num_repeats", 1)
    if repeats < 1:
        subset.say("num_repeats", "mapped", "below 1 sd-scripts leaves the set out; so it is here")
        return
    listed = "metadata_file" in subset
    table, clips = _read_metadata(subsets, chain) if listed else _read_images(subsets, chain)
    reg = subset.flag("is_reg")
    table |= (
        _read_captions(chain) if listed else _read_caption_files(chain, Path(table.pop("folder")))
    )
    table |= _read_shape(chain)
    weight = chain.number("prior_loss_weight", 1.0) if reg else 1.0
    table |= drop_unset(weight=weight if weight != 1 else None, flip=chain.flag("flip_aug"))
    masked = table.get("masks", "none") != "none"
    if not reg:
        subsets.holdout += round(chain.number("validation_split") * clips)
    subsets.sets.append(Subset(table, clips, repeats, chain.flag("flip_aug"), reg, group, masked))


def _read_images(subsets: Subsets, chain: Chain) -> tuple[dict[str, Any], int]:
    subset = chain.tables[0]
    folder = find_folder(subset, "image_dir")
    pictures = list_directly(folder, IMAGES)
    if not pictures:
        raise subset.bad(
            "image_dir", f"{folder} holds no picture ({' '.join(IMAGES)}), not counting sub-folders"
        )
    masks = (
        find_folder(subset, "conditioning_data_dir") if "conditioning_data_dir" in subset else None
    )
    table: dict[str, Any] = {"clips": str(folder), "folder": str(folder)}
    if masks is not None:
        table["masks"] = {"source": "folder", "path": str(masks), "require": True}
        subset.defect(
            "conditioning_data_dir",
            "it squashes a mask to the bucket whatever is cut off the picture, so masks lie beside"
            " their subject where shapes differ; here they are cut like their picture. It reads the"
            " red channel; here a mask is grey",
        )
    elif chain.flag("alpha_mask"):
        table |= _read_alpha(chain, folder, pictures)
    elif any(keeps_alpha(cache) for cache in sorted(folder.glob("*.npz"))[:1]):
        subset.defect(
            "alpha_mask",
            "is off, but the cached latents (.npz) hold alpha masks, which it goes on applying;"
            " here nothing is read from them",
            value=False,
        )
    if not holds_only(folder, pictures, [masks] if masks else []):
        lines = pair_masks(pictures, masks, IMAGES)
        table["clips"] = subsets.keep_manifest(folder.name, lines)
        if masks is not None:
            table["masks"] = {"source": "listed", "require": True}
        message = f"is data.clips, as the list {table['clips']}: clips in sub-folders are not taken"
        subset.say("image_dir", "mapped", message)
    return table, len(pictures)


def _read_alpha(chain: Chain, folder: Path, pictures: Sequence[Path]) -> dict[str, Any]:
    holder, name = chain.find_holder("alpha_mask")
    if not any(map(has_alpha, pictures)):
        holder.defect(
            name,
            f"no picture of {folder} has an alpha channel, so it trained without a mask and did not"
            " say so; there are no masks here either",
        )
        return {}
    holder.defect(
        name,
        "its cached latents keep the alpha they were made with, whatever is edited or switched off"
        " later; here masks are cached apart, by content. sdxl_train.py ignores the alpha unless"
        " masked_loss is set, too; here it counts",
    )
    return {"masks": "alpha"}


def _read_metadata(subsets: Subsets, chain: Chain) -> tuple[dict[str, Any], int]:
    subset = chain.tables[0]
    file, entries = read_objects(subset, "metadata_file")
    base = find_folder(subset, "image_dir") if "image_dir" in subset else file.parent
    lines: list[ManifestEntry] = []
    for at, entry in entries:
        picture = find_clip(subset, "metadata_file", at, entry.get("image_path"), base)
        words = [str(entry[key]) for key in ("caption", "tags") if entry.get(key)]
        caption = (", ".join(words)).split("\n")[0].strip()
        lines.append({"path": str(picture.absolute()), "caption": caption})
    table: dict[str, Any] = {"clips": subsets.keep_manifest(file.stem, lines)}
    if chain.flag("alpha_mask"):
        table |= _read_alpha(chain, file, [Path(line["path"]) for line in lines])
    return {"masks": "none"} | table, len(lines)


def _read_caption_files(chain: Chain, folder: Path) -> dict[str, Any]:
    """Captions from files beside the pictures."""
    name = "caption_extension" if "caption_extension" in chain else "caption_extention"
    suffix = chain.text(name, ".caption")
    suffix = suffix if suffix.startswith(".") else f".{suffix}"
    if name not in chain and any(folder.glob("*.txt")) and not any(folder.glob("*.caption")):
        suffix = ".txt"
        chain.tables[0].defect(
            "caption_extension",
            f"is not set, so it looks for .caption files; {folder} has .txt files, which are read"
            " here",
            value=".caption",
        )
    captions = drop_unset(
        caption_extension=suffix if suffix != ".txt" else None,
        caption_part="line",
        caption=chain.tables[0].text("class_tokens"),
    )
    return captions | _read_captions(chain)


def _read_captions(chain: Chain) -> dict[str, Any]:
    """What is done to captions, wherever they are from."""
    around = (chain.text("caption_prefix"), "{caption}", chain.text("caption_suffix"))
    shuffle = chain.flag("shuffle_caption")
    mark, keep = chain.text("keep_tokens_separator"), chain.whole("keep_tokens")
    if mark and keep:
        table, option = chain.find_holder("keep_tokens_separator")
        message = "is data.keep_tags here, in place of keep_tokens: put the mark into every caption"
        table.say(option, "mapped", message)
    if mark and not shuffle:
        table, option = chain.find_holder("keep_tokens_separator")
        message = "without shuffle_caption the mark stays in the text that is trained; here it goes"
        table.defect(option, message)
    return drop_unset(
        template=" ".join(part for part in around if part) if any(around[::2]) else None,
        caption_dropout=chain.number("caption_dropout_rate") or None,
        shuffle_tags=shuffle,
        keep_tags=mark or (keep if shuffle else 0) or None,
    )


def _read_shape(chain: Chain) -> dict[str, Any]:
    size = read_resolution(chain)
    shape: dict[str, Any] = {"buckets": chain.flag("enable_bucket")}
    if size is None:
        message = "is left to the command line, --resolution; empty, it is the variant's own"
        chain.tables[0].say("resolution", "no equivalent", message)
    else:
        shape["resolution"] = size
    if shape["buckets"] and chain.flag("bucket_no_upscale"):
        shape["enlarge"] = False
    return shape


def _list_numbered(folder: Path) -> list[Path]:
    """The `N_name` folders with pictures in a training folder."""
    if not folder.is_dir():
        return []
    inside = sorted(child for child in folder.iterdir() if child.is_dir())
    return [
        child for child in inside if NUMBERED.fullmatch(child.name) and list_directly(child, IMAGES)
    ]


def _read_folder(path: Path) -> Imported:
    """`path` holds the `N_name` folders itself, or in `img`, with `reg` beside it."""
    sheet = Sheet(Written(path / ".", {}, {}), merge_rules("kohya", data=True))
    subsets = Subsets()
    training_folder = path / "img" if _list_numbered(path / "img") else path
    _read_numbered(subsets, sheet, training_folder, reg=False, flags=None)
    _read_numbered(subsets, sheet, path / "reg", reg=True, flags=None)
    return Imported(
        path,
        "kohya",
        subsets.data(),
        merge_sections(subsets.sections("kohya")),
        tuple(sheet.notes),
        subsets.manifests,
    )


def _read_numbered(
    subsets: Subsets, sheet: Sheet, folder: Path, *, reg: bool, flags: Flags | None
) -> None:
    """The `N_name` folders in a folder, as subsets: N repeats, the name where captions lack."""
    for child in _list_numbered(folder):
        match = NUMBERED.fullmatch(child.name)
        assert match is not None
        values: dict[str, Any] = {
            "image_dir": str(child.absolute()),
            "num_repeats": int(match[1]),
            "class_tokens": match[2],
        }
        if reg:
            values["is_reg"] = True
        masks = _find_masks(flags, child)
        if masks is not None and not reg:
            values["conditioning_data_dir"] = str(masks)
        subset = OptionTable(sheet, "data", values, (folder.name, child.name))
        _read_subset(subsets, Chain(subset, flags=flags), 0)
        subset.close()


def _find_masks(flags: Flags | None, folder: Path) -> Path | None:
    if flags is None or "conditioning_data_dir" not in flags:
        return None
    masks = find_folder(flags.at("conditioning_data_dir"), "conditioning_data_dir")
    return masks / folder.name if (masks / folder.name).is_dir() else masks


def _read_flags(subsets: Subsets, flags: Flags) -> None:
    """The data of a training file that names no dataset file."""
    subsets.batches.append(max(1, flags.whole("train_batch_size", 1)))
    if "in_json" in flags:
        values = {"metadata_file": flags.text("in_json")}
        if "train_data_dir" in flags:
            values["image_dir"] = flags.text("train_data_dir")
        subset = OptionTable(flags.sheet, "data", values, ("in_json",))
        _read_subset(subsets, Chain(subset, flags=flags), 0)
        return
    trained = flags.at("train_data_dir")
    folder = find_folder(trained, "train_data_dir")
    _read_numbered(subsets, flags.sheet, folder, reg=False, flags=flags)
    if not subsets.sets:
        raise trained.bad("train_data_dir", f"{folder} holds no folder N_name with pictures")
    if "reg_data_dir" in flags:
        reg = find_folder(flags.at("reg_data_dir"), "reg_data_dir")
        _read_numbered(subsets, flags.sheet, reg, reg=True, flags=flags)
    if "conditioning_data_dir" in flags:
        flags.at("conditioning_data_dir").defect(
            "conditioning_data_dir",
            "sd-scripts reads it from a dataset_config only: with this file it trained without"
            " masks and did not say so; here the masks are used",
        )


def _read_sections(subsets: Subsets, flags: Flags, script: str) -> dict[str, dict[str, Any]]:
    model = map_sd_scripts_model(flags, script, max(map(_count_pixels, subsets.sets), default=0))
    family = model.get("family", "stable_diffusion")
    masked = any(subset.masked for subset in subsets.sets)
    if flags.flag("masked_loss") and not masked:
        message = (
            "no data set has masks, so it trained without and did not say so; so does this file"
        )
        flags.at("masked_loss").defect("masked_loss", message)
    if not flags.flag("network_train_unet_only"):
        message = "sd-scripts trains the text encoders, too, where this is off; here they are left"
        flags.at("network_train_unet_only").say(
            "network_train_unet_only", "no equivalent", message, False
        )
    trained = map_training(
        flags, trainer="kohya", epoch=subsets.epoch(), model=model, shift=SHIFTS.get(family)
    )
    tested = map_interval(flags, "validate", subsets.epoch(), section="validation")
    return merge_sections(
        {"model": model | map_sd_scripts_reading(flags, model)},
        subsets.sections("kohya"),
        trained,
        {"losses": _read_loss(flags), "validation": {k: n for k, n in tested.items() if n}},
    )


def _count_pixels(subset: Subset) -> int:
    size = subset.table.get("resolution", 512)
    return size * size if isinstance(size, int) else math.prod(size)


def _read_loss(flags: Flags) -> dict[str, Any]:
    kind = flags.text("loss_type", "l2")
    if kind == "l1":
        return {"denoise": {"strength": 1.0, "kind": "l1"}}
    if kind != "l2":
        message = "its loss has another form and a schedule; the squared error stands in"
        flags.say("loss_type", "no equivalent", f'{message} (losses.denoise has kind = "huber")')
    return {}


FORMAT = ImportFormat(
    "kohya sd-scripts: training and dataset TOML, or a folder of N_name folders",
    matches,
    read,
    read_sources=read_sources,
)

"""kohya's sd-scripts: a dataset TOML or JSON, a training TOML, or a folder of `N_name` folders."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frisket.importers.base import BadLayout, Imported, Layout
from frisket.importers.files import Written, peek, read_config
from frisket.importers.flags.job import Job, options_in, role_of, shared
from frisket.importers.flags.model import of_sd_scripts
from frisket.importers.flags.options import Flags, rules_with_flags
from frisket.importers.flags.run import every
from frisket.importers.flags.sections import merged, training
from frisket.importers.flags.subsets import Chain, Subset, Subsets, resolution
from frisket.importers.folders import folder_at
from frisket.importers.manifests import (
    IMAGES,
    Entry,
    clip_at,
    directly_in,
    just_these,
    keeps_alpha,
    masked_by,
    objects_in,
    see_through,
)
from frisket.importers.options import Sheet, Table, filled
from frisket.importers.prompt_reading import sd_scripts_reading
from frisket.importers.source_base import Source

NUMBERED = re.compile(r"(\d+)_(.*)")
SHIFTS = {"flux": 3.0, "sd3": 1.0}
OWN = ("pretrained_model_name_or_path", "train_data_dir", "masked_loss", "reg_data_dir", "in_json")
OTHERS = ("dit", "use_mask_loss", "dit_high_noise")  # of musubi-tuner


def suits(path: Path) -> bool:
    """Data sets with subsets; a training file of theirs; a folder of `N_name` folders."""
    if path.is_dir():
        return bool(_numbered(path) or _numbered(path / "img"))
    tree = peek(path)
    if not isinstance(tree, dict):
        return False
    sets = tree.get("datasets")
    if isinstance(sets, list):
        return bool(sets) and all(isinstance(each, dict) and "subsets" in each for each in sets)
    if path.suffix.lower() != ".toml":  # what --config_file takes
        return False
    named = options_in(tree)
    return bool(set(named) & set(OWN)) or (bool(shared(named)) and not set(named) & set(OTHERS))


def read(path: Path) -> Imported:
    """Read either file, or the folder."""
    if path.is_dir():
        return _read_folder(path)
    written = read_config(path)
    return read_sources([Source("kohya", role_of(written.tree), "", written)])


def read_sources(sources: Sequence[Source]) -> Imported:
    """Read the files of one run: training options, data sets, or both; the first counts first."""
    job = Job.of(sources, rules_with_flags("kohya", data=True))
    found = Subsets()
    if job.flags is None:
        for sheet in job.data:
            _datasets(found, sheet, None)
        return job.imported("kohya", found, merged(found.sections("kohya")))
    for sheet in job.data_sheets(("train_data_dir", "in_json")):
        _datasets(found, sheet, job.flags)
    if not job.data:
        _from_flags(found, job.flags)
    sections = _sections(found, job.flags, job.script)
    job.flags.close()
    return job.imported("kohya", found, sections, job.flags.text("network_module"))


def _datasets(found: Subsets, sheet: Sheet, flags: Flags | None) -> None:
    top = sheet.top("file")
    general = top.table("general", "data")
    for number, dataset in enumerate(top.tables("datasets", "data")):
        rows = dataset.tables("subsets", "data")
        if not rows:
            raise dataset.bad("subsets", "is needed: at least one [[datasets.subsets]]")
        found.batch(Chain(dataset, general, flags=flags))
        for row in rows:
            _subset(found, Chain(row, dataset, general, flags=flags), number)
            row.close()
        dataset.close()
    general.close()
    top.close()
    if not found.sets:
        raise BadLayout(f"{sheet.written.path}: trains nothing: no subset has num_repeats above 0")


def _subset(found: Subsets, chain: Chain, group: int) -> None:
    own = chain.tables[0]
    repeats = chain.whole("num_repeats", 1)
    if repeats < 1:
        own.say("num_repeats", "mapped", "below 1 sd-scripts leaves the set out; so it is here")
        return
    listed = "metadata_file" in own
    table, clips = _of_metadata(found, chain) if listed else _of_folder(found, chain)
    reg = own.flag("is_reg")
    table |= _captions(chain) if listed else _worded(chain, Path(table.pop("folder")))
    table |= _shape(chain)
    weight = chain.number("prior_loss_weight", 1.0) if reg else 1.0
    table |= filled(weight=weight if weight != 1 else None, flip=chain.flag("flip_aug"))
    masked = table.get("masks", "none") != "none"
    if not reg:
        found.holdout += round(chain.number("validation_split") * clips)
    found.sets.append(Subset(table, clips, repeats, chain.flag("flip_aug"), reg, group, masked))


def _of_folder(found: Subsets, chain: Chain) -> tuple[dict[str, Any], int]:
    own = chain.tables[0]
    folder = folder_at(own, "image_dir")
    pictures = directly_in(folder, IMAGES)
    if not pictures:
        raise own.bad(
            "image_dir", f"{folder} holds no picture ({' '.join(IMAGES)}), not counting sub-folders"
        )
    masks = folder_at(own, "conditioning_data_dir") if "conditioning_data_dir" in own else None
    table: dict[str, Any] = {"clips": str(folder), "folder": str(folder)}
    if masks is not None:
        table["masks"] = {"source": "folder", "path": str(masks), "require": True}
        own.defect(
            "conditioning_data_dir",
            "it squashes a mask to the bucket whatever is cut off the picture, so masks lie beside"
            " their subject where shapes differ; here they are cut like their picture. It reads the"
            " red channel; here a mask is grey",
        )
    elif chain.flag("alpha_mask"):
        table |= _alpha(chain, folder, pictures)
    elif any(keeps_alpha(cache) for cache in sorted(folder.glob("*.npz"))[:1]):
        own.defect(
            "alpha_mask",
            "is off, but the cached latents (.npz) hold alpha masks, which it goes on applying;"
            " here nothing is read from them",
            value=False,
        )
    if not just_these(folder, pictures, [masks] if masks else []):
        lines = masked_by(pictures, masks, IMAGES)
        table["clips"] = found.listed(folder.name, lines)
        if masks is not None:
            table["masks"] = {"source": "listed", "require": True}
        said = f"is data.clips, as the list {table['clips']}: clips in sub-folders are not taken"
        own.say("image_dir", "mapped", said)
    return table, len(pictures)


def _alpha(chain: Chain, folder: Path, pictures: Sequence[Path]) -> dict[str, Any]:
    holder, name = chain.holder("alpha_mask")
    if not any(map(see_through, pictures)):
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


def _of_metadata(found: Subsets, chain: Chain) -> tuple[dict[str, Any], int]:
    own = chain.tables[0]
    file, entries = objects_in(own, "metadata_file")
    base = folder_at(own, "image_dir") if "image_dir" in own else file.parent
    lines: list[Entry] = []
    for at, entry in entries:
        picture = clip_at(own, "metadata_file", at, entry.get("image_path"), base)
        words = [str(entry[key]) for key in ("caption", "tags") if entry.get(key)]
        caption = (", ".join(words)).split("\n")[0].strip()
        lines.append({"path": str(picture.absolute()), "caption": caption})
    table: dict[str, Any] = {"clips": found.listed(file.stem, lines)}
    if chain.flag("alpha_mask"):
        table |= _alpha(chain, file, [Path(line["path"]) for line in lines])
    return {"masks": "none"} | table, len(lines)


def _worded(chain: Chain, folder: Path) -> dict[str, Any]:
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
    found = filled(
        caption_extension=suffix if suffix != ".txt" else None,
        caption_part="line",
        caption=chain.tables[0].text("class_tokens"),
    )
    return found | _captions(chain)


def _captions(chain: Chain) -> dict[str, Any]:
    """What is done to captions, wherever they are from."""
    around = (chain.text("caption_prefix"), "{caption}", chain.text("caption_suffix"))
    shuffle = chain.flag("shuffle_caption")
    mark, keep = chain.text("keep_tokens_separator"), chain.whole("keep_tokens")
    if mark and keep:
        table, written = chain.holder("keep_tokens_separator")
        said = "is data.keep_tags here, in place of keep_tokens: put the mark into every caption"
        table.say(written, "mapped", said)
    if mark and not shuffle:
        table, written = chain.holder("keep_tokens_separator")
        said = "without shuffle_caption the mark stays in the text that is trained; here it goes"
        table.defect(written, said)
    return filled(
        template=" ".join(part for part in around if part) if any(around[::2]) else None,
        caption_dropout=chain.number("caption_dropout_rate") or None,
        shuffle_tags=shuffle,
        keep_tags=mark or (keep if shuffle else 0) or None,
    )


def _shape(chain: Chain) -> dict[str, Any]:
    size = resolution(chain)
    found: dict[str, Any] = {"buckets": chain.flag("enable_bucket")}
    if size is None:
        said = "is left to the command line, --resolution; empty, it is the variant's own"
        chain.tables[0].say("resolution", "no equivalent", said)
    else:
        found["resolution"] = size
    if found["buckets"] and chain.flag("bucket_no_upscale"):
        found["enlarge"] = False
    return found


def _numbered(folder: Path) -> list[Path]:
    """The `N_name` folders with pictures in a training folder."""
    if not folder.is_dir():
        return []
    inside = sorted(each for each in folder.iterdir() if each.is_dir())
    return [each for each in inside if NUMBERED.fullmatch(each.name) and directly_in(each, IMAGES)]


def _read_folder(path: Path) -> Imported:
    """`path` holds the `N_name` folders itself, or in `img`, with `reg` beside it."""
    sheet = Sheet(Written(path / ".", {}, {}), rules_with_flags("kohya", data=True))
    found = Subsets()
    trained = path / "img" if _numbered(path / "img") else path
    _by_name(found, sheet, trained, reg=False, flags=None)
    _by_name(found, sheet, path / "reg", reg=True, flags=None)
    return Imported(
        path,
        "kohya",
        found.data(),
        merged(found.sections("kohya")),
        tuple(sheet.notes),
        found.manifests,
    )


def _by_name(found: Subsets, sheet: Sheet, folder: Path, *, reg: bool, flags: Flags | None) -> None:
    """The `N_name` folders in a folder, as subsets: N repeats, the name where captions lack."""
    for each in _numbered(folder):
        match = NUMBERED.fullmatch(each.name)
        assert match is not None
        values: dict[str, Any] = {
            "image_dir": str(each.absolute()),
            "num_repeats": int(match[1]),
            "class_tokens": match[2],
        }
        if reg:
            values["is_reg"] = True
        masks = _masks_of(flags, each)
        if masks is not None and not reg:
            values["conditioning_data_dir"] = str(masks)
        own = Table(sheet, "data", values, (folder.name, each.name))
        _subset(found, Chain(own, flags=flags), 0)
        own.close()


def _masks_of(flags: Flags | None, folder: Path) -> Path | None:
    if flags is None or "conditioning_data_dir" not in flags:
        return None
    masks = folder_at(flags.at("conditioning_data_dir"), "conditioning_data_dir")
    return masks / folder.name if (masks / folder.name).is_dir() else masks


def _from_flags(found: Subsets, flags: Flags) -> None:
    """The data of a training file that names no dataset file."""
    found.batches.append(max(1, flags.whole("train_batch_size", 1)))
    if "in_json" in flags:
        values = {"metadata_file": flags.text("in_json")}
        if "train_data_dir" in flags:
            values["image_dir"] = flags.text("train_data_dir")
        own = Table(flags.sheet, "data", values, ("in_json",))
        _subset(found, Chain(own, flags=flags), 0)
        return
    trained = flags.at("train_data_dir")
    folder = folder_at(trained, "train_data_dir")
    _by_name(found, flags.sheet, folder, reg=False, flags=flags)
    if not found.sets:
        raise trained.bad("train_data_dir", f"{folder} holds no folder N_name with pictures")
    if "reg_data_dir" in flags:
        reg = folder_at(flags.at("reg_data_dir"), "reg_data_dir")
        _by_name(found, flags.sheet, reg, reg=True, flags=flags)
    if "conditioning_data_dir" in flags:
        flags.at("conditioning_data_dir").defect(
            "conditioning_data_dir",
            "sd-scripts reads it from a dataset_config only: with this file it trained without"
            " masks and did not say so; here the masks are used",
        )


def _sections(found: Subsets, flags: Flags, script: str) -> dict[str, dict[str, Any]]:
    model = of_sd_scripts(flags, script, max(map(_pixels, found.sets), default=0))
    family = model.get("family", "stable_diffusion")
    masked = any(each.masked for each in found.sets)
    if flags.flag("masked_loss") and not masked:
        said = "no data set has masks, so it trained without and did not say so; so does this file"
        flags.at("masked_loss").defect("masked_loss", said)
    if not flags.flag("network_train_unet_only"):
        said = "sd-scripts trains the text encoders, too, where this is off; here they are left"
        flags.at("network_train_unet_only").say(
            "network_train_unet_only", "no equivalent", said, False
        )
    trained = training(
        flags, trainer="kohya", epoch=found.epoch(), model=model, shift=SHIFTS.get(family)
    )
    tested = every(flags, "validate", found.epoch(), section="validation")
    return merged(
        {"model": model | sd_scripts_reading(flags, model)},
        found.sections("kohya"),
        trained,
        {"losses": _loss(flags), "validation": {k: n for k, n in tested.items() if n}},
    )


def _pixels(one: Subset) -> int:
    size = one.table.get("resolution", 512)
    return size * size if isinstance(size, int) else math.prod(size)


def _loss(flags: Flags) -> dict[str, Any]:
    kind = flags.text("loss_type", "l2")
    if kind == "l1":
        return {"denoise": {"strength": 1.0, "kind": "l1"}}
    if kind != "l2":
        said = "its loss has another form and a schedule; the squared error stands in"
        flags.say("loss_type", "no equivalent", f'{said} (losses.denoise has kind = "huber")')
    return {}


LAYOUT = Layout(
    "kohya sd-scripts: training and dataset TOML, or a folder of N_name folders",
    suits,
    read,
    read_sources=read_sources,
)

"""SimpleTuner: multidatabackend.json, or the config.json that names it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, Imported, ImportFormat
from frisket.importers.files import Written, peek, read_config
from frisket.importers.folders import (
    find_file,
    find_folder,
    find_whole_repeats,
    scan_folder,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset, read_rules
from frisket.importers.trainers.simpletuner.beside import find_beside
from frisket.importers.trainers.simpletuner.captions import captions_of
from frisket.importers.trainers.simpletuner.options import (
    POINTER,
    cut_of,
    read_settings,
    sections_of,
    strip_dashes,
)
from frisket.importers.trainers.simpletuner.resolution import frames_of, shape_of

KINDS = (
    *("image", "video", "audio", "text_embeds", "image_embeds", "conditioning_image_embeds"),
    *("conditioning", "eval", "caption"),
)
LIST = "multidatabackend.json"
OWNED = (  # options that stand with a data set, or for all with the trainer
    *("caption_strategy", "instance_prompt", "prepend_instance_prompt", "only_instance_prompt"),
    *("resolution", "resolution_type"),
)
TRAINED = ("image", "video")
MASKS = ("mask", "segmentation")
STORES = ("local", "aws", "csv", "huggingface", "webshart", "memory")


@dataclass(slots=True)
class SimpleTunerSetting:
    """What data sets are read under, and what came of them so far."""

    trainer: OptionTable
    beside: Mapping[str, OptionTable]  # conditioning sets by id
    data: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    manifests: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)  # of masks that are used
    epoch_clips: float = 0.0  # clips an epoch there
    clips: list[int] = field(default_factory=list)  # of each table, once round


def matches(path: Path) -> bool:
    """A JSON list of data sets with an `id`, or a table that names such a file."""
    tree = peek(path) if path.suffix.lower() == ".json" else None
    if isinstance(tree, list):
        marks = {"instance_data_dir", "dataset_type", "caption_strategy", "cache_dir_vae"}
        rows = [row for row in tree if isinstance(row, dict) and "id" in row and marks & set(row)]
        return bool(rows) and len(rows) == len(tree)
    if not isinstance(tree, dict):
        return False
    names = {str(name).removeprefix("--") for name in tree}
    return POINTER in names or ("model_family" in names and path.with_name(LIST).is_file())


def read(path: Path) -> Imported:
    """Read either file; config.json or config.env beside a list of data sets is read with it."""
    return read_written(read_config(path))


def read_written(document: Written) -> Imported:
    """Read what stands for either file."""
    path = document.path
    if isinstance(document.tree, list):
        settings = read_settings(path)
        sheet = Sheet(document, read_rules("simpletuner"))
        about = Sheet(settings, sheet.rules, name=f"{settings.path.name}: ")
    else:
        about = Sheet(strip_dashes(document), read_rules("simpletuner"))
        file = _find_list(about.top("trainer"))
        sheet = Sheet(read_config(file), about.rules, name=f"{file.name}: ")
    trainer = about.top("trainer")
    setting = SimpleTunerSetting(trainer, {})
    _read_backends(sheet, setting)
    configured = bool(trainer.values)
    sections: dict[str, Mapping[str, Any]] = {}
    lycoris: Sheet | None = None
    if configured:
        sections, lycoris = sections_of(
            trainer, setting.kinds, setting.epoch_clips, _count_clips(setting)
        )
    if setting.kinds and not configured:
        sections = {"losses": {"compat": "simpletuner"}} | drop_unset(curve=cut_of(setting.kinds))
    trainer.close()
    notes = (*about.notes, *sheet.notes, *(lycoris.notes if lycoris else ()))
    names = (trainer.text("model_family"), trainer.text("model_flavour"))
    data, model = tuple(setting.data), ":".join(filter(None, names))
    return Imported(path, "SimpleTuner", data, sections, notes, setting.manifests, model)


def _find_list(trainer: OptionTable) -> Path:
    """The list of data sets: the file that is named, else the one beside, as it takes it."""
    if POINTER in trainer:
        path = find_beside(trainer, trainer.text(POINTER))
        return path if path is not None and path.is_file() else find_file(trainer, POINTER)
    return trainer.sheet.written.path.with_name(LIST)


def _read_backends(sheet: Sheet, setting: SimpleTunerSetting) -> None:
    if not isinstance(sheet.written.tree, list):
        raise BadImport(f"{sheet.written.path}: a list of data sets is needed")
    rows = [OptionTable(sheet, "backend", row, (n,)) for n, row in enumerate(sheet.written.tree)]
    conditioning = {row.text("id"): row for row in rows if _read_kind(row) == "conditioning"}
    setting.beside = conditioning
    for row in rows:
        kind = _read_kind(row)
        if row.flag("disabled") or row.flag("disable"):
            row.skip("the data set is switched off and left out")
        elif kind in TRAINED:
            _read_backend(row, kind, setting)
        elif kind != "conditioning":
            _leave_out(row, kind)
    _tell_owned(setting.trainer, rows)
    for row in rows:
        row.close()
    if not setting.data:
        raise BadImport(f"{sheet.written.path}: {_explain_empty(rows)}")
    for table, repeats in zip(setting.data, find_whole_repeats(setting.rates), strict=True):
        table["repeats"] = repeats


def _tell_owned(trainer: OptionTable, rows: list[OptionTable]) -> None:
    """What the settings say for all data sets counts for those that do not say it themselves."""
    trained = [row for row in rows if _read_kind(row) in TRAINED]
    for name in OWNED:
        if trained and all(name in row for row in trained):
            trainer.say(name, "not needed", "each data set has its own")
    if not _needs_prompt(trainer, rows, trained):
        trainer.say("instance_prompt", "not needed", "no data set has it in its captions")


def _needs_prompt(
    trainer: OptionTable, rows: list[OptionTable], trained: list[OptionTable]
) -> bool:
    """Whether the captions of any set hold the instance prompt."""
    strategies = {row.text("caption_strategy").lower() for row in trained}
    names = ("prepend_instance_prompt", "only_instance_prompt")
    asks = any(trainer.flag(name) for name in names)
    asks |= any(row.flag(name) for name in names for row in rows)
    general = trainer.text("caption_strategy").lower() == "instanceprompt" and "" in strategies
    return asks or general or "instanceprompt" in strategies


def _count_clips(setting: SimpleTunerSetting) -> float:
    """Clips that go by in a pass over the tables."""
    pairs = zip(setting.data, setting.clips, strict=True)
    return float(sum(table["repeats"] * clips for table, clips in pairs))


def _explain_empty(rows: list[OptionTable]) -> str:
    message = "no data set in local files is trained on"
    far = [
        row for row in rows if row.text("type", "local") != "local" and _read_kind(row) in TRAINED
    ]
    if not far:
        return message
    names = ", ".join(f"{row.text('id')!r} ({row.text('type')})" for row in far)
    return (
        f"{message}: download {names} to a folder, with captions beside the clips, and give it"
        ' type "local" and instance_data_dir'
    )


def _read_kind(row: OptionTable) -> str:
    return row.choice("dataset_type", KINDS, "image")


def _leave_out(row: OptionTable, kind: str) -> None:
    message = {
        "eval": "validation.holdout keeps clips of the other sets for that",
        "audio": "sound is not trained",
        "caption": "sets of captions alone are not trained",
    }
    if kind in message:
        row.say("dataset_type", "no equivalent", f"the data set is left out: {message[kind]}")
    row.skip("belongs to a data set that holds no clips")


def _read_backend(row: OptionTable, kind: str, setting: SimpleTunerSetting) -> None:
    store = row.choice("type", STORES, "local")
    if store != "local":
        message = (
            "the data set is left out: download it to a folder, with captions beside the clips"
        )
        row.say("type", "no equivalent", message)
        return row.skip("belongs to a data set that is left out")
    if row.flag("is_regularisation_data") or row.flag("is_regularization_data"):
        british = "is_regularisation_data" in row
        name = "is_regularisation_data" if british else "is_regularization_data"
        message = (
            "the data set is left out: it is held to what the model knew, and not masked; here"
            " losses.prior does that for what lies outside the masks of the other sets"
        )
        row.say(name, "no equivalent", message)
        return row.skip("belongs to a data set that is left out")
    name = "instance_data_dir" if "instance_data_dir" in row else "instance_data_root"
    clips = _find_folder(row, name)
    paired = _find_conditioning(row, setting, kind)
    inside = [Path(folder) for folder in paired.pop("folders")]
    scan = scan_folder(clips, skip=inside)
    if not scan.clips:
        raise row.bad(name, f"{clips} holds no image or video")
    table: dict[str, Any] = {"clips": str(clips)} | paired
    table |= (
        captions_of(row, setting.trainer, clips, inside, setting.manifests)
        | shape_of(row, setting.trainer)
        | frames_of(row, kind, setting.trainer)
    )
    once = row.whole("repeats") + 1
    rate = once * (row.number("probability", 1, low=0) or 1)
    setting.data.append(table)
    setting.rates.append(rate)
    setting.epoch_clips += scan.clips * once
    setting.clips.append(scan.clips)
    return None


def _find_folder(row: OptionTable, name: str) -> Path:
    """A folder as the project sees it; BadImport as of `find_folder`."""
    folder = find_beside(row, row.text(name).strip()) if row.text(name).strip() else None
    return folder if folder is not None and folder.is_dir() else find_folder(row, name)


def _find_conditioning(row: OptionTable, setting: SimpleTunerSetting, kind: str) -> dict[str, Any]:
    """Masks and references of a data set, and under "folders" where they lie."""
    dataset_id = row.text("id")
    names = row.texts("conditioning_data")
    names += [
        name
        for name, table in setting.beside.items()
        if dataset_id == table.text("source_dataset_id") != ""
    ]
    conditioning: dict[str, Any] = {"folders": []}
    for name in dict.fromkeys(names):
        if name not in setting.beside:
            ids = ", ".join(setting.beside) or "none"
            raise row.bad("conditioning_data", f"no conditioning set has the id {name!r} ({ids})")
        table = setting.beside[name]
        if table.flag("disabled") or table.flag("disable"):
            continue
        folder = _find_folder(table, "instance_data_dir")
        role = table.text("conditioning_type", "controlnet")
        conditioning["folders"].append(str(folder))
        if role in MASKS:
            conditioning["masks"] = {"source": "folder", "path": str(folder), "require": True}
            setting.kinds.add(role)
            _tell_masks(table, role, kind, setting)
        elif role.startswith("reference"):
            conditioning["references"] = str(folder)
        else:
            message = f"{role} is not trained here: Frisket trains with masks and references"
            table.say("conditioning_type", "no equivalent", message, role)
    if "masks" in conditioning and "references" in conditioning:
        message = "with references too, the loss mask may be made of the reference's red channel"
        row.defect("conditioning_data", f"{message}; here masks are masks")
    return conditioning


def _tell_masks(masks: OptionTable, role: str, kind: str, setting: SimpleTunerSetting) -> None:
    if len(setting.kinds) > 1:
        message = "is data.masks here, kept soft: draw segmentation masks in black and white"
        masks.say("conditioning_type", "no equivalent", message)
    else:
        masks.say("conditioning_type", "mapped", "is data.masks here; white teaches")
    if kind == "video":
        message = "it reads the first frame of a mask and stops at video; here every frame counts"
        masks.defect("conditioning_type", message)
    if role == "segmentation":
        masks.defect(
            "conditioning_type",
            "segmentation is not in its documented values; whatever is not black teaches fully"
            " (curve.threshold = 0)",
        )


FORMAT = ImportFormat(
    "SimpleTuner: multidatabackend.json, or the config.json that names it",
    matches,
    read,
    read_written,
)

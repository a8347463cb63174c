"""SimpleTuner: multidatabackend.json, or the config.json that names it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.importers.base import BadLayout, Imported, Layout
from frisket.importers.files import Written, peek, read_config
from frisket.importers.folders import (
    file_at,
    folder_at,
    look,
    whole_repeats,
)
from frisket.importers.options import Sheet, Table, filled, rules_of
from frisket.importers.trainers.simpletuner.beside import find_beside
from frisket.importers.trainers.simpletuner.captions import captions_of
from frisket.importers.trainers.simpletuner.options import (
    POINTER,
    cut_of,
    sections_of,
    settings_beside,
    without_dashes,
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
class Setting:
    """What data sets are read under, and what came of them so far."""

    trainer: Table
    beside: Mapping[str, Table]  # conditioning sets by id
    data: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    manifests: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)  # of masks that are used
    seen: float = 0.0  # clips an epoch there
    clips: list[int] = field(default_factory=list)  # of each table, once round


def suits(path: Path) -> bool:
    """A JSON list of data sets with an `id`, or a table that names such a file."""
    tree = peek(path) if path.suffix.lower() == ".json" else None
    if isinstance(tree, list):
        told = {"instance_data_dir", "dataset_type", "caption_strategy", "cache_dir_vae"}
        rows = [row for row in tree if isinstance(row, dict) and "id" in row and told & set(row)]
        return bool(rows) and len(rows) == len(tree)
    if not isinstance(tree, dict):
        return False
    names = {str(name).removeprefix("--") for name in tree}
    return POINTER in names or ("model_family" in names and path.with_name(LIST).is_file())


def read(path: Path) -> Imported:
    """Read either file; config.json or config.env beside a list of data sets is read with it."""
    return read_written(read_config(path))


def read_written(written: Written) -> Imported:
    """Read what stands for either file."""
    path = written.path
    if isinstance(written.tree, list):
        beside = settings_beside(path)
        sheet = Sheet(written, rules_of("simpletuner"))
        about = Sheet(beside, sheet.rules, name=f"{beside.path.name}: ")
    else:
        about = Sheet(without_dashes(written), rules_of("simpletuner"))
        found = _list_of(about.top("trainer"))
        sheet = Sheet(read_config(found), about.rules, name=f"{found.name}: ")
    trainer = about.top("trainer")
    setting = Setting(trainer, {})
    _backends(sheet, setting)
    given = bool(trainer.values)
    sections: dict[str, Mapping[str, Any]] = {}
    held: Sheet | None = None
    if given:
        sections, held = sections_of(trainer, setting.kinds, setting.seen, _ours(setting))
    if setting.kinds and not given:
        sections = {"losses": {"compat": "simpletuner"}} | filled(curve=cut_of(setting.kinds))
    trainer.close()
    notes = (*about.notes, *sheet.notes, *(held.notes if held else ()))
    named = (trainer.text("model_family"), trainer.text("model_flavour"))
    data, model = tuple(setting.data), ":".join(filter(None, named))
    return Imported(path, "SimpleTuner", data, sections, notes, setting.manifests, model)


def _list_of(trainer: Table) -> Path:
    """The list of data sets: the file that is named, else the one beside, as it takes it."""
    if POINTER in trainer:
        found = find_beside(trainer, trainer.text(POINTER))
        return found if found is not None and found.is_file() else file_at(trainer, POINTER)
    return trainer.sheet.written.path.with_name(LIST)


def _backends(sheet: Sheet, setting: Setting) -> None:
    if not isinstance(sheet.written.tree, list):
        raise BadLayout(f"{sheet.written.path}: a list of data sets is needed")
    rows = [Table(sheet, "backend", row, (n,)) for n, row in enumerate(sheet.written.tree)]
    beside = {row.text("id"): row for row in rows if _kind(row) == "conditioning"}
    setting.beside = beside
    for row in rows:
        kind = _kind(row)
        if row.flag("disabled") or row.flag("disable"):
            row.skip("the data set is switched off and left out")
        elif kind in TRAINED:
            _backend(row, kind, setting)
        elif kind != "conditioning":
            _left(row, kind)
    _tell_owned(setting.trainer, rows)
    for row in rows:
        row.close()
    if not setting.data:
        raise BadLayout(f"{sheet.written.path}: {_none_left(rows)}")
    for table, repeats in zip(setting.data, whole_repeats(setting.rates), strict=True):
        table["repeats"] = repeats


def _tell_owned(trainer: Table, rows: list[Table]) -> None:
    """What the settings say for all data sets counts for those that do not say it themselves."""
    trained = [row for row in rows if _kind(row) in TRAINED]
    for name in OWNED:
        if trained and all(name in row for row in trained):
            trainer.say(name, "not needed", "each data set has its own")
    if not _needs_prompt(trainer, rows, trained):
        trainer.say("instance_prompt", "not needed", "no data set has it in its captions")


def _needs_prompt(trainer: Table, rows: list[Table], trained: list[Table]) -> bool:
    """Whether the captions of any set hold the instance prompt."""
    strategies = {row.text("caption_strategy").lower() for row in trained}
    names = ("prepend_instance_prompt", "only_instance_prompt")
    asks = any(trainer.flag(name) for name in names)
    asks |= any(row.flag(name) for name in names for row in rows)
    general = trainer.text("caption_strategy").lower() == "instanceprompt" and "" in strategies
    return asks or general or "instanceprompt" in strategies


def _ours(setting: Setting) -> float:
    """Clips that go by in a pass over the tables."""
    pairs = zip(setting.data, setting.clips, strict=True)
    return float(sum(table["repeats"] * clips for table, clips in pairs))


def _none_left(rows: list[Table]) -> str:
    said = "no data set in local files is trained on"
    far = [row for row in rows if row.text("type", "local") != "local" and _kind(row) in TRAINED]
    if not far:
        return said
    named = ", ".join(f"{row.text('id')!r} ({row.text('type')})" for row in far)
    return (
        f"{said}: download {named} to a folder, with captions beside the clips, and give it"
        ' type "local" and instance_data_dir'
    )


def _kind(row: Table) -> str:
    return row.choice("dataset_type", KINDS, "image")


def _left(row: Table, kind: str) -> None:
    said = {
        "eval": "validation.holdout keeps clips of the other sets for that",
        "audio": "sound is not trained",
        "caption": "sets of captions alone are not trained",
    }
    if kind in said:
        row.say("dataset_type", "no equivalent", f"the data set is left out: {said[kind]}")
    row.skip("belongs to a data set that holds no clips")


def _backend(row: Table, kind: str, setting: Setting) -> None:
    store = row.choice("type", STORES, "local")
    if store != "local":
        said = "the data set is left out: download it to a folder, with captions beside the clips"
        row.say("type", "no equivalent", said)
        return row.skip("belongs to a data set that is left out")
    if row.flag("is_regularisation_data") or row.flag("is_regularization_data"):
        british = "is_regularisation_data" in row
        name = "is_regularisation_data" if british else "is_regularization_data"
        said = (
            "the data set is left out: it is held to what the model knew, and not masked; here"
            " losses.prior does that for what lies outside the masks of the other sets"
        )
        row.say(name, "no equivalent", said)
        return row.skip("belongs to a data set that is left out")
    name = "instance_data_dir" if "instance_data_dir" in row else "instance_data_root"
    clips = _folder(row, name)
    paired = _paired(row, setting, kind)
    inside = [Path(each) for each in paired.pop("folders")]
    seen = look(clips, skip=inside)
    if not seen.clips:
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
    setting.seen += seen.clips * once
    setting.clips.append(seen.clips)
    return None


def _folder(row: Table, name: str) -> Path:
    """A folder as the project sees it; BadLayout as of `folder_at`."""
    found = find_beside(row, row.text(name).strip()) if row.text(name).strip() else None
    return found if found is not None and found.is_dir() else folder_at(row, name)


def _paired(row: Table, setting: Setting, kind: str) -> dict[str, Any]:
    """Masks and references of a data set, and under "folders" where they lie."""
    own = row.text("id")
    names = row.texts("conditioning_data")
    names += [
        name for name, each in setting.beside.items() if own == each.text("source_dataset_id") != ""
    ]
    found: dict[str, Any] = {"folders": []}
    for name in dict.fromkeys(names):
        if name not in setting.beside:
            known = ", ".join(setting.beside) or "none"
            raise row.bad("conditioning_data", f"no conditioning set has the id {name!r} ({known})")
        each = setting.beside[name]
        if each.flag("disabled") or each.flag("disable"):
            continue
        folder = _folder(each, "instance_data_dir")
        role = each.text("conditioning_type", "controlnet")
        found["folders"].append(str(folder))
        if role in MASKS:
            found["masks"] = {"source": "folder", "path": str(folder), "require": True}
            setting.kinds.add(role)
            _tell_masks(each, role, kind, setting)
        elif role.startswith("reference"):
            found["references"] = str(folder)
        else:
            said = f"{role} is not trained here: Frisket trains with masks and references"
            each.say("conditioning_type", "no equivalent", said, role)
    if "masks" in found and "references" in found:
        said = "with references too, the loss mask may be made of the reference's red channel"
        row.defect("conditioning_data", f"{said}; here masks are masks")
    return found


def _tell_masks(masks: Table, role: str, kind: str, setting: Setting) -> None:
    if len(setting.kinds) > 1:
        said = "is data.masks here, kept soft: draw segmentation masks in black and white"
        masks.say("conditioning_type", "no equivalent", said)
    else:
        masks.say("conditioning_type", "mapped", "is data.masks here; white teaches")
    if kind == "video":
        said = "it reads the first frame of a mask and stops at video; here every frame counts"
        masks.defect("conditioning_type", said)
    if role == "segmentation":
        masks.defect(
            "conditioning_type",
            "segmentation is not in its documented values; whatever is not black teaches fully"
            " (curve.threshold = 0)",
        )


LAYOUT = Layout(
    "SimpleTuner: multidatabackend.json, or the config.json that names it",
    suits,
    read,
    read_written,
)

"""OneTrainer: the training configuration, or the list of its concepts alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, Imported, ImportFormat, Note
from frisket.importers.files import Written, locate, peek, read_config
from frisket.importers.folders import (
    NO_CAPTIONS,
    FolderScan,
    build_manifest,
    find_file,
    find_folder,
    find_whole_repeats,
    list_clips,
    read_plain_text,
    scan_folder,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset, read_rules
from frisket.importers.trainers.onetrainer.options import (
    FILLING,
    FLOOR,
    MODEL,
    read_model,
    sections_of,
)
from frisket.importers.trainers.onetrainer.run import RunLength, preview_of

CONCEPTS = "training_concepts/concepts.json"  # its default
SHRINK = 0.2  # smallest disc of its random circular mask shrink, which it has no option for
PARTS = (
    *("unet", "prior", "transformer", "unconditional_transformer", "vae", "effnet_encoder"),
    *("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"),
    *("decoder", "decoder_text_encoder", "decoder_vqgan"),
)


@dataclass(slots=True)
class OnetrainerSetting:
    """What concepts are read under, and what came of them so far."""

    masked: bool | None = None  # None: the configuration is not known
    video: bool = False
    sides: list[int | list[int]] = field(default_factory=list)
    buckets: bool = True
    frames: int = 1
    dropout: float = 0.0
    parts: dict[str, OptionTable] = field(default_factory=dict)  # of the model, by name
    data: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    epoch_clips: float = 0.0  # clips an epoch there
    clips: list[int] = field(default_factory=list)  # of each table, once round here
    manifests: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)


def matches(path: Path) -> bool:
    """A JSON list of concepts, or a table with concepts and the settings of a training."""
    tree = peek(path) if path.suffix.lower() == ".json" else None
    if isinstance(tree, list):
        return bool(tree) and all(
            isinstance(row, dict) and "path" in row and {"image", "text"} & set(row) for row in tree
        )
    names = {"concepts", "concept_file_name", "model_type"}
    return isinstance(tree, dict) and bool(names & set(tree)) and "training_method" in tree


def read(path: Path) -> Imported:
    """Read either file. A list of concepts brings no loss: OneTrainer's defaults are taken."""
    return read_written(read_config(path))


def read_written(document: Written) -> Imported:
    """Read what stands for either file."""
    path, sheet = document.path, Sheet(document, read_rules("onetrainer"))
    setting, sections = OnetrainerSetting(), dict[str, Mapping[str, Any]]()
    if isinstance(sheet.written.tree, list):
        _read_concepts(sheet, setting)
        if any("masks" in table for table in setting.data):
            sections = {"losses": {"compat": "onetrainer"}, "curve": {"floor": FLOOR}}
            message = "is set to its default as curve.floor; the training configuration has yours"
            sheet.notes.append(Note("unmasked_weight", FLOOR, "mapped", message))
        return _build_import(path, setting, sections, sheet.notes)
    config = sheet.top("config")
    setting = _read_setting(config)
    inner = _open_concepts(config)
    _read_concepts(inner, setting)
    masked = config.flag("masked_training")
    base, bits, precision = read_model(config, setting.parts)
    span = _read_length(config, setting)
    preview, samples = preview_of(config, span, config.text("model_type", MODEL).upper())
    sections = sections_of(config, setting.parts, span, base, masked=masked, video=setting.video)
    more = {"model": base, "memory": bits, "run": precision, "preview": preview}
    for name, options in more.items():
        if options:
            sections[name] = {**sections.get(name, {}), **options}
    for table in (*setting.parts.values(), config):
        table.close()
    notes = [note for part in _deduplicate(sheet, inner, samples) for note in part.notes]
    return _build_import(path, setting, sections, notes, config.text("model_type", MODEL))


def _deduplicate(*sheets: Sheet | None) -> list[Sheet]:
    return list({id(sheet): sheet for sheet in sheets if sheet is not None}.values())


def _read_length(config: OptionTable, setting: OnetrainerSetting) -> RunLength:
    """How its epochs count: `repeats` of the tables are whole numbers, so not always theirs."""
    accumulate = config.whole("gradient_accumulation_steps", 1, low=1)
    pass_clips = sum(
        clips * table["repeats"] for table, clips in zip(setting.data, setting.clips, strict=True)
    )
    batch = config.whole("batch_size", 1, low=1) * accumulate
    return RunLength(setting.epoch_clips, float(pass_clips), batch, accumulate)


def _build_import(
    path: Path,
    setting: OnetrainerSetting,
    sections: Mapping[str, Mapping[str, Any]],
    notes: list[Note],
    model: str = "",
) -> Imported:
    data = tuple(setting.data)
    return Imported(path, "OneTrainer", data, sections, tuple(notes), setting.manifests, model)


def _open_concepts(config: OptionTable) -> Sheet:
    """The sheet that holds the concepts: the configuration's own, or that of the file it names."""
    if "concepts" in config:
        return config.sheet
    if "concept_file_name" not in config:
        config.values["concept_file_name"] = CONCEPTS
        if locate(CONCEPTS, config.sheet.written.path.absolute().parent)[0] is None:
            raise BadImport(
                f"{config.sheet.written.path} names no concepts, as a preset does: add"
                ' "concept_file_name": "..." to it, the path of your concepts.json'
            )
    file = find_file(config, "concept_file_name")
    return Sheet(read_config(file), config.sheet.rules, name=f"{file.name}: ")


def _read_concepts(sheet: Sheet, setting: OnetrainerSetting) -> None:
    tree = sheet.written.tree
    rows, key = (tree, ()) if isinstance(tree, list) else (tree.get("concepts"), ("concepts",))
    if not isinstance(rows, list):
        raise BadImport(f"{sheet.written.where(key)}: a list of concepts is needed")
    for number, row in enumerate(rows):
        _read_concept(OptionTable(sheet, "concept", row, (*key, number)), setting)
    if not setting.data:
        raise BadImport(f"{sheet.written.where(key)}: no concept is enabled that is trained on")
    for table, repeats in zip(setting.data, find_whole_repeats(setting.rates), strict=True):
        table["repeats"] = repeats


def _is_left_out(concept: OptionTable) -> bool:
    """Whether a concept is no training set here, with the note that says why."""
    kinds = ("STANDARD", "VALIDATION", "PRIOR_PREDICTION")
    kind = concept.choice("type", kinds, "STANDARD")
    if not concept.flag("enabled", default=True):
        concept.say("enabled", "not needed", "the concept is switched off and left out")
    elif kind == "VALIDATION" or concept.flag("validation_concept"):
        message = "the concept is left out: validation.holdout keeps clips of the others for that"
        name = "type" if "type" in concept else "validation_concept"
        concept.say(name, "no equivalent", message)
    elif kind == "PRIOR_PREDICTION":
        message = (
            "the concept is left out: losses.prior holds the model to what it knew outside the"
            " masks of the other clips"
        )
        concept.say("type", "no equivalent", message)
    elif concept.number("loss_weight", 1) <= 0:
        concept.say("loss_weight", "no equivalent", "the concept teaches nothing and is left out")
    else:
        return False
    return True


def _read_concept(concept: OptionTable, setting: OnetrainerSetting) -> None:
    image, text = concept.table("image", "image"), concept.table("text", "text")
    tables = (image, text, concept)
    if _is_left_out(concept):
        for part in tables:
            part.skip("belongs to a concept that is left out")
    else:
        clips = find_folder(concept, "path")
        deep = concept.flag("include_subdirectories")
        scan = scan_folder(clips, deep=deep)
        if not scan.clips:
            raise concept.bad("path", f"{clips} holds no image or video")
        if scan.nested and not deep:
            message = (
                f"is data.clips, but {scan.nested} clips lie in sub-folders, which it does not look"
                " into and Frisket does: move them out"
            )
            concept.say("path", "no equivalent", message)
        table: dict[str, Any] = {"clips": str(clips)}
        if setting.masked is not False and _has_masks(clips, deep=deep):
            table["masks"] = "sidecar"
        weight = concept.number("loss_weight", 1)
        if text.text("prompt_source") == "filename":
            table |= _list_by_name(text, clips, setting, deep=deep)
        table |= _read_captions(text, scan)
        table |= drop_unset(
            caption_dropout=setting.dropout or None,
            weight=weight if weight != 1 else None,
            flip=image.flag("enable_random_flip"),
        )
        _shrink(image, table)
        _add(concept, image, setting, table, scan)
        for part in tables:
            part.close()


def _add(
    concept: OptionTable,
    image: OptionTable,
    setting: OnetrainerSetting,
    table: dict[str, Any],
    scan: FolderScan,
) -> None:
    """One `[[data]]` table a resolution; it draws one of them for each clip."""
    sides, buckets = setting.sides, setting.buckets
    if image.flag("enable_resolution_override"):
        sides, buckets = _read_sides(image, "resolution_override", setting.buckets)
    rate = concept.number("balancing", concept.number("repeats", 1), low=0)
    if concept.choice("balancing_strategy", ("REPEATS", "SAMPLES"), "REPEATS") == "SAMPLES":
        rate /= scan.clips
    setting.epoch_clips += rate * scan.clips
    # Frisket looks into sub-folders, it only when asked.
    nested = 0 if concept.flag("include_subdirectories") else scan.nested
    shape = {"frames": setting.frames, "fps": "own", "extract": "head"} if setting.video else {}
    sized: list[dict[str, Any]] = [{"resolution": side, "buckets": buckets} for side in sides]
    for size in sized or [{}]:
        setting.data.append(table | size | shape)
        # A clip and its mirror image are two here, one or the other there.
        setting.rates.append(rate / max(len(sides), 1) / (2 if table.get("flip") else 1))
        setting.clips.append((scan.clips + nested) * (2 if table.get("flip") else 1))


def _shrink(image: OptionTable, table: dict[str, Any]) -> None:
    """Masks cut to a random disc in each draw."""
    name, masks = "enable_random_circular_mask_shrink", table.get("masks", "none")
    if not image.flag(name):
        return
    if masks == "none":
        image.say(name, "not needed", "there are no masks")
        return
    table["masks"] = {"source": masks, "shrink": SHRINK}
    image.say(name, "mapped", f"is data.masks.shrink = {SHRINK:g} here")


def _has_masks(folder: Path, *, deep: bool) -> bool:
    pattern = "*-masklabel.png"
    return next(folder.rglob(pattern) if deep else folder.glob(pattern), None) is not None


def _list_by_name(
    text: OptionTable, clips: Path, setting: OnetrainerSetting, *, deep: bool
) -> dict[str, Any]:
    """A manifest whose captions are the names of the clips."""
    name = f"clips-{len(setting.manifests)}.jsonl"

    def mask(clip: Path) -> Path | None:
        file = clip.with_name(f"{clip.stem}-masklabel.png")
        return file if setting.masked is not False and file.exists() else None

    paths = [path for path in list_clips(clips) if deep or path.parent == clips]
    setting.manifests[name] = build_manifest(clips, paths, lambda path: path.stem, mask)
    text.say("prompt_source", "mapped", f"is data.clips = {name} here, which names the captions")
    listed = any("mask" in line for line in setting.manifests[name])
    return {"clips": name, "masks": "listed" if listed else "none"}


def _read_captions(text: OptionTable, scan: FolderScan) -> dict[str, Any]:
    source = text.choice("prompt_source", ("sample", "concept", "filename"), "sample")
    captions: dict[str, Any] = {}
    if source == "concept":
        captions = _read_concept_caption(text)
    elif source == "sample" and scan.lined:
        message = (
            f"{scan.lined} captions have several lines: it draws one of them for each clip, here"
            " the first is taken"
        )
        text.say("prompt_source", "no equivalent", message, source)
        captions["caption_part"] = "line"
    if not text.flag("enable_tag_shuffling"):
        return captions
    if text.text("tag_delimiter", ",").strip() != ",":
        message = "tags are cut at commas here: put commas into the captions"
        text.say("tag_delimiter", "no equivalent", message)
    return captions | {"shuffle_tags": True, "keep_tags": text.whole("keep_tags_count", 1)}


def _read_concept_caption(text: OptionTable) -> dict[str, Any]:
    file = find_file(text, "prompt_path")
    lines = [line.strip() for line in read_plain_text(file).splitlines() if line.strip()]
    if len(lines) != 1:
        message = f"it draws one of its {len(lines)} lines for each clip; here all have the first"
        text.say("prompt_path", "no equivalent", message)
    text.say("prompt_source", "mapped", "is data.caption here, and no caption file is read")
    return {"caption": lines[0] if lines else "", "caption_extension": NO_CAPTIONS}


def _read_setting(config: OptionTable) -> OnetrainerSetting:
    kind = config.text("model_type", MODEL).upper()
    video = kind == "HUNYUAN_VIDEO"
    sides, buckets = _read_sides(
        config, "resolution", config.flag("aspect_ratio_bucketing", default=True)
    )
    masked = config.flag("masked_training") and kind not in FILLING
    setting = OnetrainerSetting(masked=masked, video=video, sides=sides, buckets=buckets)
    if video:
        counts = config.text("frames", "25").split(",")
        if not all(part.strip().isdecimal() for part in counts if part.strip()):
            raise config.bad("frames", "numbers of frames are written as 25 or 1,25")
        setting.frames = max([1, *(int(part) for part in counts if part.strip())])
        message = (
            "is data.frames here; it takes frames from a place drawn by chance in each video, here"
            ' from the beginning (data.extract = "uniform" gives more places)'
        )
        config.say("frames", "no equivalent", message, "25")
    else:
        config.say("frames", "not needed", "the model makes pictures")
    for name in PARTS:
        part = setting.parts[name] = config.table(name, "part")
        if name.startswith("text_encoder"):
            setting.dropout = max(setting.dropout, part.number("dropout_probability", low=0))
    return setting


def _read_sides(table: OptionTable, name: str, buckets: bool) -> tuple[list[int | list[int]], bool]:
    """The resolutions in `512`, `512,768` or `1024x768`, and whether frames follow their clips."""
    text = str(table.values.get(name) or 512).lower()
    fixed = "x" in text and "," not in text
    try:
        numbers = [int(part) for part in text.split("x" if fixed else ",")]
    except ValueError as error:
        raise table.bad(name, "sides are written as 512, 512,768 or 1024x768") from error
    if min(numbers) < 1 or (fixed and len(numbers) != 2):
        raise table.bad(name, "sides are written as 512, 512,768 or 1024x768")
    if fixed:
        return [numbers], False
    return [side if buckets else [side, side] for side in dict.fromkeys(numbers)], buckets


FORMAT = ImportFormat(
    "OneTrainer: config.json, or concepts.json alone", matches, read, read_written
)

"""ai-toolkit: a job in YAML or JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json
from frisket.importers.base import BadImport, Imported, ImportFormat
from frisket.importers.files import peek, read_config
from frisket.importers.folders import (
    FolderScan,
    build_manifest,
    count_captions_with,
    find_folder,
    find_path,
    find_whole_repeats,
    list_clips,
    read_plain_text,
    scan_folder,
)
from frisket.importers.options import OptionTable, Sheet, drop_unset, read_rules
from frisket.importers.trainers.ai_toolkit.options import kind_of, sections_of
from frisket.importers.trainers.ai_toolkit.variables import expand
from frisket.media.paths import plain

SUFFIXES = (".yaml", ".yml", ".json")
KINDS = ("sd_trainer", "ui_trainer", "diffusion_trainer")
JOBS = {
    "extract": "extracts a LoRA from a model",
    "generate": "makes pictures",
    "merge": "merges LoRAs",
    "mod": "changes a LoRA that is there",
}
OTHER_PROCESSES = {
    "slider": "trains a slider from prompts",
    "ultimate_slider_trainer": "trains a slider",
    "concept_slider": "trains a slider from prompts",
    "image_reference_slider_trainer": "trains a slider from pairs of pictures",
    "concept_replacer": "trains one concept into another",
    "textual_inversion_trainer": "trains an embedding",
    "vae": "trains a VAE",
    "esrgan": "trains an upscaler",
}
CONTROLS = ("control_path", "control_path_1", "control_path_2", "control_path_3")
BLUR = 0.005  # of the shorter side of a mask: its largest random blur, which it has no option for


@dataclass(slots=True)
class AiToolkitSetting:
    """What data sets are read under, and what came of them so far."""

    process: OptionTable
    trigger: str
    regular: float  # weight of regularisation sets
    texts_cached: bool
    data: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float | int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # of clips
    regulars: list[bool] = field(default_factory=list)  # whether seen in every second step
    floors: list[float] = field(default_factory=list)  # of the sets that have masks
    manifests: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)


def matches(path: Path) -> bool:
    """A table with `job` and `config.process`."""
    tree = peek(path) if path.suffix.lower() in SUFFIXES else None
    config = tree.get("config") if isinstance(tree, dict) and "job" in tree else None
    return isinstance(config, dict) and isinstance(config.get("process"), list)


def read(path: Path) -> Imported:
    """Read the first process of a job that has data sets."""
    sheet = Sheet(expand(read_config(path)), read_rules("ai_toolkit"))
    job = sheet.top("job")
    config = job.table("config", "job")
    processes = config.tables("process", "process")
    chosen_process = _choose_process(job, config, processes)
    for process in processes:
        if process is not chosen_process:
            process.skip("belongs to a process that is left out: import it in a file of its own")
    setting = _read_setting(chosen_process)
    for row in chosen_process.tables("datasets", "dataset"):
        _read_dataset(row, setting)
        row.close()
    if not setting.data:
        raise chosen_process.bad("datasets", "at least one is needed that is trained on")
    for table, repeats in zip(
        setting.data, find_whole_repeats(_balance_rates(setting)), strict=True
    ):
        table["repeats"] = repeats
    masked = bool(setting.floors)
    name = config.text("name")
    sections = sections_of(chosen_process, masked=masked, trigger=setting.trigger, job=name)
    if masked and min(setting.floors) > 0:
        sections["curve"] = {"floor": min(setting.floors)}
    for part in (chosen_process, config, job):
        part.close()
    data, notes = tuple(setting.data), tuple(sheet.notes)
    model = kind_of(chosen_process.table("model", "model"))[1]
    return Imported(path, "ai-toolkit", data, sections, notes, setting.manifests, model)


def _choose_process(
    job: OptionTable, config: OptionTable, processes: list[OptionTable]
) -> OptionTable:
    """The first process that trains on data sets; BadImport names one of another kind."""
    if action := JOBS.get(job.text("job")):
        raise job.bad("job", f"is a job that {action}; there is nothing of it to import")
    process = next((table for table in processes if "datasets" in table), None)
    first = process or next(iter(processes), None)
    kind = "" if first is None else first.text("type")
    if kind and first and kind not in KINDS and (process or kind in OTHER_PROCESSES):
        action = OTHER_PROCESSES.get(kind, "does something else")
        message = (
            f"is a process that {action}; Frisket trains a LoRA on clips, as {', '.join(KINDS)} do"
        )
        raise first.bad("type", f"{message}: there is nothing of it to import")
    if process is None:
        raise config.bad("process", "none of them has datasets")
    return process


def _balance_rates(setting: AiToolkitSetting) -> list[float | int]:
    """How often each set is seen: regularisation together as often as all others, as there."""
    sets = list(zip(setting.rates, setting.counts, setting.regulars, strict=True))
    training_total = sum(rate * count for rate, count, regular in sets if not regular)
    regular_total = sum(rate * count for rate, count, regular in sets if regular)
    if not training_total or not regular_total:
        return setting.rates
    return [rate * training_total / regular_total if regular else rate for rate, _, regular in sets]


def _read_setting(process: OptionTable) -> AiToolkitSetting:
    train = process.values.get("train")
    train_table = OptionTable(process.sheet, "train", train or {}, (*process.where, "train"))
    return AiToolkitSetting(
        process,
        trigger=process.text("trigger_word"),
        regular=train_table.number("reg_weight", 1, low=0),
        texts_cached=train_table.flag("cache_text_embeddings"),
    )


def _read_dataset(row: OptionTable, setting: AiToolkitSetting) -> None:
    weight = _read_weight(row, setting)
    if weight == 0:
        return row.skip("belongs to a data set that is left out")
    regular = row.flag("is_reg")
    clips, listed = _find_clips(row, setting)
    masks, inside = _read_masks(row, setting)
    folders = _find_references(row)
    inside += folders
    references = {"references": str(folders[0])} if len(folders) == 1 else {}
    if len(folders) > 1:
        listed = _with_references(clips, listed, folders, inside, setting)
    scan = scan_folder(clips, skip=inside)
    if not scan.clips:
        raise row.bad("folder_path", f"{clips} holds no image or video")
    if masks and (scan.nested or listed):
        message = (
            "it looks for masks by name in the one folder; here they lie in the same sub-folders"
        )
        row.say("mask_path", "no equivalent", f"{message} as their clips: move those that do")
    table: dict[str, Any] = {"clips": str(clips)} | listed | masks | references
    table |= _read_captions(row, setting, clips, regular=regular)
    table |= _read_video(row, scan) | drop_unset(flip=row.flag("flip_x"))
    table |= drop_unset(weight=weight if weight != 1 else None)
    if regular:
        message = (
            "is data.weight and data.repeats here, so that such sets together are seen as often as"
            " all others; there they have every second step"
        )
        row.say("is_reg", "mapped", message)
    shapes = _read_shapes(row, masked="masks" in table)
    for shape in shapes:
        setting.data.append(table | shape)
        setting.rates.append(max(row.whole("num_repeats", 1), 1))
        setting.counts.append(scan.clips)
        setting.regulars.append(regular)
    return None


def _read_weight(row: OptionTable, setting: AiToolkitSetting) -> float:
    """How much a set teaches; 0 where it is left out, with the note that says why."""
    if row.flag("prior_reg"):
        message = (
            "the data set is left out: losses.prior holds the model to what it knew outside the"
            " masks of the other sets"
        )
        row.say("prior_reg", "no equivalent", message)
        return 0.0
    regular = row.flag("is_reg")
    weight = row.number("loss_multiplier", 1, low=0) * (setting.regular if regular else 1)
    if weight == 0:
        row.say("loss_multiplier", "no equivalent", "the set teaches nothing and is left out")
    return weight


def _find_clips(row: OptionTable, setting: AiToolkitSetting) -> tuple[Path, dict[str, Any]]:
    """The folder of clips; of a JSON file of captions a manifest too."""
    name = "dataset_path" if "dataset_path" in row else "folder_path"
    path = find_path(row, name)
    if path.is_dir():
        if (path / "_controls").is_dir():
            message = f"is data.clips, but {path / '_controls'} is left out there: move it out"
            row.say(name, "no equivalent", message)
        return path, {}
    folder = path.parent
    captions = _parse_captions(row, name, path)
    inside = {folder / clip: caption for clip, caption in captions.items()}
    present = [clip for clip in list_clips(folder) if clip in inside]
    if len(present) != len(captions):
        message = (
            f"{len(captions) - len(present)} of its clips do not lie in {folder} and are left out"
        )
        row.say(name, "no equivalent", message)
    manifest = f"clips-{len(setting.manifests)}.jsonl"
    setting.manifests[manifest] = build_manifest(folder, present, lambda clip: inside[clip])
    return folder, {"clips": manifest}


def _parse_captions(row: OptionTable, name: str, file: Path) -> dict[Path, Any]:
    """The caption of each clip in a JSON file, None where it has none."""
    try:
        entries = parse_json(read_plain_text(file))
    except BadText as error:
        at = f"{file} line {error.line}, column {error.column}" if error.line else f"{file}"
        raise BadImport(f"{at}: not valid JSON: {error.message}") from error
    if not isinstance(entries, dict) or not all(isinstance(row, dict) for row in entries.values()):
        raise row.bad(name, f"{file.name} must be a table of clips, each with a caption")
    return {Path(clip): entry.get("caption") for clip, entry in entries.items()}


def _read_masks(row: OptionTable, setting: AiToolkitSetting) -> tuple[dict[str, Any], list[Path]]:
    """The masks of a set, and the folder they lie in."""
    floor = row.number("mask_min_value", low=0)
    source: dict[str, Any] = {}
    inside: list[Path] = []
    if row.flag("alpha_mask"):
        source = {"source": "alpha"}
    elif row.text("mask_path"):
        folder = find_folder(row, "mask_path")
        source = {"source": "folder", "path": str(folder), "unmasked": "train"}
        inside = [folder]
    if not source:
        row.say("mask_min_value", "not needed", "there are no masks")
        row.say("invert_mask", "not needed", "there are no masks")
        return {}, []
    if floor > 1:
        message = "above 1 it would turn the mask around; 1 is taken here, which is no mask at all"
        row.say("mask_min_value", "no equivalent", message)
        floor = 1.0
    if setting.floors and floor != setting.floors[0]:
        message = "curve.floor is one number for all sets: the smallest is taken"
        row.say("mask_min_value", "no equivalent", message, floor)
    setting.floors.append(floor)
    option = "alpha_mask" if source["source"] == "alpha" else "mask_path"
    row.defect(
        option,
        "it blurs masks by a radius drawn at each step (up to 0.5 % of the picture; here"
        f" data.masks.blur = {BLUR:g}), gives a clip without a mask no weight where others of its"
        " batch have one, loses a step whose masks are all black to NaN, and trains a batch whose"
        " mask does not fit without it; a mask stands still over a video. Here clips without one"
        " teach everywhere, black ones give 0, and mask videos weigh frame by frame",
    )
    if floor:
        message = "it divides by the mask's mean, so this changes contrast alone, there and here"
        row.defect("mask_min_value", message)
    return {"masks": source | {"blur": BLUR} | drop_unset(invert=row.flag("invert_mask"))}, inside


def _find_references(row: OptionTable) -> list[Path]:
    """The folders of references; numbered ones go before `control_path`, as there."""
    numbered = [(name, folder) for name in CONTROLS[1:] for folder in row.texts(name)]
    folders = numbered or [(CONTROLS[0], folder) for folder in row.texts(CONTROLS[0])]
    if numbered and CONTROLS[0] in row:
        row.say(CONTROLS[0], "not needed", "control_path_1 and on go before it, there and here")
    if len(folders) > 1:
        message = "is the references of each clip in a list here, as its folders are several"
        for name in dict.fromkeys(name for name, _ in folders):
            row.say(name, "mapped", message)
    return [find_folder(row, name, path) for name, path in folders]


def _with_references(
    clips: Path,
    listed: dict[str, Any],
    folders: list[Path],
    inside: list[Path],
    setting: AiToolkitSetting,
) -> dict[str, Any]:
    """A list of the clips, each with the picture of its stem in every folder that has one."""
    stems = [{plain(path.stem): path for path in sorted(folder.iterdir())} for folder in folders]
    lines = setting.manifests.get(listed.get("clips", ""))
    lines = lines or build_manifest(clips, list_clips(clips, inside), lambda _: None)
    name = listed.get("clips") or f"clips-{len(setting.manifests)}.jsonl"
    setting.manifests[name] = tuple(
        {**line, "references": [str(pictures[stem]) for pictures in stems if stem in pictures]}
        for line in lines
        for stem in (plain(Path(line["path"]).stem),)
    )
    return {"clips": name}


def _read_captions(
    row: OptionTable, setting: AiToolkitSetting, clips: Path, *, regular: bool
) -> dict[str, Any]:
    suffix = row.text("caption_type") or row.text("caption_ext", "txt")
    suffix = f".{suffix.removeprefix('.')}"
    trigger = row.text("trigger_word", setting.trigger)
    marked = count_captions_with(list_clips(clips), suffix, "[trigger]")
    if marked:
        owner = row if "trigger_word" in row else setting.process
        message = f"{marked} captions say [trigger], which is not filled in here: write the word"
        owner.say("trigger_word", "no equivalent", message, trigger)
    dropped = row.number("caption_dropout_rate", low=0)
    if dropped and (setting.texts_cached or row.flag("cache_text_embeddings")):
        message = (
            "before August 2026 (ab5fef89) no caption was left out with cached text embeddings;"
            " later, and here, some are"
        )
        row.defect("caption_dropout_rate", message)
    return drop_unset(
        caption=row.text("default_caption"),
        caption_part="file",
        caption_extension=suffix if suffix != ".txt" else None,
        trigger=trigger if not regular else None,
        caption_dropout=dropped or None,
        shuffle_tags=row.flag("shuffle_tokens"),
    )


def _read_shapes(row: OptionTable, *, masked: bool) -> list[dict[str, Any]]:
    """One shape a resolution."""
    sides = _read_sides(row)
    buckets = row.flag("buckets", default=True)
    if masked and not buckets:
        message = "with masks it stops without buckets; here the frame is fixed"
        row.defect("buckets", message)
    free = buckets and not row.flag("square_crop")
    return [{"resolution": side if free else [side, side], "buckets": free} for side in sides]


def _read_sides(row: OptionTable) -> list[int]:
    """The side of a square of each resolution, in pixels; the default is noted."""
    value = row.values["resolution"] if "resolution" in row else 512
    sides = value if isinstance(value, list) else [value]
    if not sides or not all(isinstance(side, int | float) and side >= 1 for side in sides):
        raise row.bad("resolution", "the side of a square is needed, or a list of them")
    if "resolution" not in row:
        row.say("resolution", "mapped", "is data.resolution here, its default", 512)
    return [round(side) for side in dict.fromkeys(sides)]


def _read_video(row: OptionTable, scan: FolderScan) -> dict[str, Any]:
    frames = row.whole("num_frames", 1, low=1)
    if row.flag("auto_frame_count"):
        if not row.flag("trim_auto_frame_count_tail", default=True):
            message = (
                "a video is not sped up to fit the model's grid; the tail beyond it is left out"
            )
            row.say("trim_auto_frame_count_tail", "no equivalent", message)
        return {"extract": "full", "fps": row.number("fps", 24, low=1)}
    if frames == 1:
        if scan.videos:
            message = f"it takes no video at 1 frame, and there are {scan.videos}: move them out"
            row.say("num_frames", "no equivalent", message, 1)
        return {"frames": 1}
    if row.flag("shrink_video_to_frames", default=True):
        message = (
            "it spreads the frames over the whole of each video, however long; here they follow"
            " one another from its beginning: cut the videos so beforehand, or set data.fps"
        )
        row.say("shrink_video_to_frames", "no equivalent", message, value=True)
        return {"frames": frames, "extract": "head"}
    message = "it begins at a frame drawn by chance; here at the first"
    row.say("shrink_video_to_frames", "no equivalent", f'{message} (data.extract = "uniform")')
    return {"frames": frames, "extract": "head", "fps": row.number("fps", 24, low=1)}


FORMAT = ImportFormat("ai-toolkit: a job in YAML or JSON", matches, read)

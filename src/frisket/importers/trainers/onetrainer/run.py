"""How long OneTrainer trains, and when it saves, samples and validates, as [run] and [preview]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frisket.importers.base import BadImport, NoteKind
from frisket.importers.files import Written, locate, read_config
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.importers.trainers.onetrainer.words import PACES, TIMES, word_of

EPOCHS = 100  # its default
SEED = 42  # of a sample
GUIDED = {  # sides, steps and guidance of a sample (`_get_model_defaults`)
    "STABLE_DIFFUSION_1": (512, 512, 30, 7.5),
    "STABLE_DIFFUSION_2": (768, 768, 30, 7.5),
    "STABLE_DIFFUSION_XL": (1024, 1024, 30, 7.5),
    "STABLE_DIFFUSION_3": (1024, 1024, 28, 7.0),
    "FLUX_2": (1024, 1024, 30, 4.0),
    "FLUX": (1024, 1024, 30, 3.5),
    "QWEN": (1024, 1024, 25, 3.5),
    "Z_IMAGE": (1024, 1024, 28, 4.0),
    "HUNYUAN_VIDEO": (848, 480, 30, 6.0),
}
OTHER = (512, 512, 30, 7.0)


@dataclass(frozen=True, slots=True)
class RunLength:
    """How its epochs and steps count here.

    `epoch_clips` clips go by in an epoch there, `pass_clips` in a pass over the [[data]] tables;
    `batch` clips a step of the optimizer, after `accumulate` of its steps.
    """

    epoch_clips: float
    pass_clips: float
    batch: int
    accumulate: int

    @property
    def same(self) -> bool:
        """Whether an epoch there is a pass here."""
        return abs(self.epoch_clips - self.pass_clips) < 1e-6 * max(self.pass_clips, 1)

    def count_steps(self, epochs: float | int) -> int:
        """Steps of the optimizer in so many of its epochs, at least 1."""
        return max(int(epochs * self.epoch_clips / self.batch), 1)

    def read_every(
        self, table: OptionTable, name: str, unit: str, pace: str, key: str, more: str = ""
    ) -> dict[str, int]:
        """`key` or `key`_epochs for every so many of `unit`, with its note; empty for no such."""
        number = table.whole(name)
        if pace == "ALWAYS":
            pace, number = "STEP", self.accumulate
        if pace not in ("EPOCH", "STEP") or not number:
            return {}
        ending = key.rpartition(".")[2]
        if pace == "EPOCH" and self.same:
            table.say(name, "mapped", f"is {key}_epochs here{more}")
            table.say(unit, "mapped", f"is {key}_epochs here")
            return {f"{ending}_epochs": number}
        steps = (
            self.count_steps(number) if pace == "EPOCH" else max(round(number / self.accumulate), 1)
        )
        message = f"is {key} = {steps} here, in steps of the optimizer"
        table.say(name, "mapped", message + more)
        table.say(unit, "mapped", message)
        return {ending: steps}


def run_of(config: OptionTable, span: RunLength) -> dict[str, Any]:
    """[run] but for its precision."""
    epochs = config.number("epochs", EPOCHS, low=1)
    length = {"epochs": int(epochs)} if span.same else {"steps": span.count_steps(epochs)}
    if span.same:
        config.say("epochs", "mapped", "is run.epochs here", EPOCHS)
    else:
        message = (
            f"is run.steps = {length['steps']} here: {epochs:g} epochs of {span.epoch_clips:g}"
            f" clips, {span.batch:g} a step (a pass over the [[data]] tables is"
            f" {span.pass_clips:g})"
        )
        config.say("epochs", "mapped", message, EPOCHS)
    trackers = ["tensorboard"] if config.flag("tensorboard", default=True) else []
    batch = config.whole("batch_size", 1, low=1)
    return {"batch": batch} | length | _read_saves(config, span) | drop_unset(trackers=trackers)


def _read_saves(config: OptionTable, span: RunLength) -> dict[str, Any]:
    """When a LoRA is saved, all of which are kept there; else when it makes a backup."""
    pace = word_of(config, "save_every_unit", PACES, "NEVER")
    more = "; none is removed there, so run.keep has room for all"
    saves = span.read_every(config, "save_every", "save_every_unit", pace, "run.save_every", more)
    if saves:
        config.say("backup_after", "not needed", "run.save_every keeps what a run goes on from")
        config.say("backup_after_unit", "not needed", "run.save_every keeps that")
        for name in ("rolling_backup", "rolling_backup_count"):
            config.say(name, "not needed", "of backups; what is saved is kept")
        return {"save_every": 0} | saves | {"keep": _count(config, span, saves)}
    if pace in TIMES and config.whole("save_every"):
        message = "saves by the clock there; here by steps or epochs: run.save_every, _every_epochs"
        config.say("save_every", "no equivalent", message)
        config.say("save_every_unit", "no equivalent", message)
    else:
        for name in ("save_every", "save_every_unit"):
            config.say(name, "not needed", "saves at the end alone, as Frisket always does")
    backup = word_of(config, "backup_after_unit", PACES, "MINUTE")
    saves = span.read_every(config, "backup_after", "backup_after_unit", backup, "run.save_every")
    if not saves:
        message = "makes backups by the clock there; here run.save_every counts steps"
        message = message if backup in TIMES else "makes no backups; run.save_every does, by steps"
        config.say(
            "backup_after", "no equivalent" if backup in TIMES else "not needed", message, 30
        )
        config.say(
            "backup_after_unit", "no equivalent" if backup in TIMES else "not needed", message
        )
        for name in ("rolling_backup", "rolling_backup_count"):
            config.say(name, "no equivalent", "run.keep says how many are kept: set it")
        return {}
    keep = _count(config, span, saves)
    if config.flag("rolling_backup"):
        keep = config.whole("rolling_backup_count", 3, low=1)
    return {"save_every": 0} | saves | {"keep": keep}


def _count(config: OptionTable, span: RunLength, saves: Mapping[str, int]) -> int:
    """How many saves a run makes, with the one at its end."""
    epochs = config.number("epochs", EPOCHS, low=1)
    if "save_every_epochs" in saves:
        return int(epochs // saves["save_every_epochs"]) + 1
    return span.count_steps(epochs) // saves["save_every"] + 1


def validation_of(config: OptionTable, span: RunLength) -> dict[str, Any]:
    """[validation], where clips are held out besides."""
    if not config.flag("validation"):
        for name in ("validate_after", "validate_after_unit"):
            config.say(name, "not needed", "validation is off")
        return {}
    message = "the clips to look at are told by validation.holdout here: set it"
    config.say("validation", "no equivalent", message)
    pace = word_of(config, "validate_after_unit", PACES, "EPOCH")
    if "validate_after" not in config:
        config.values["validate_after"] = 1
    validation = span.read_every(
        config, "validate_after", "validate_after_unit", pace, "validation.every"
    )
    if not validation:
        message = "validates by the clock there; here by steps or epochs: validation.every"
        config.say("validate_after", "no equivalent", message)
        config.say("validate_after_unit", "no equivalent", message)
    return validation


def preview_of(
    config: OptionTable, span: RunLength, kind: str
) -> tuple[dict[str, Any], Sheet | None]:
    """[preview] of its samples, and the sheet of the file that holds them, where one does."""
    pace = word_of(config, "sample_after_unit", PACES, "MINUTE")
    rows, sheet = _read_samples(config)
    enabled = [row for row in rows if row.flag("enabled", default=True) and row.text("prompt")]
    looks = _read_looks(enabled, kind) if enabled else {}
    if looks and "sample_after" not in config.written:
        config.values["sample_after"] = 10
    interval = span.read_every(config, "sample_after", "sample_after_unit", pace, "preview.every")
    if not looks:
        for name in ("sample_after", "sample_after_unit"):
            config.say(name, "not needed", "there is no prompt to sample")
        interval = {}
    elif not interval:
        _tell_pace(config, pace)
    for row in rows:
        row.close()
    return interval | looks, sheet


def _tell_pace(config: OptionTable, pace: str) -> None:
    """What becomes of samples that are made by the clock, or never."""
    timed = pace in TIMES
    reason = "samples by the clock there; here by steps or epochs" if timed else "is never"
    for name in ("sample_after", "sample_after_unit"):
        kind: NoteKind = "no equivalent" if timed else "not needed"
        config.say(name, kind, f"{reason}: set preview.every", 10)


def _read_samples(config: OptionTable) -> tuple[list[OptionTable], Sheet | None]:
    if "samples" in config:
        config.say("sample_definition_file_name", "not needed", "the samples stand in `samples`")
        return config.tables("samples", "sample"), None
    name = "sample_definition_file_name"
    file_name = config.text(name)
    folder = config.sheet.written.path.absolute().parent
    file = (
        locate(file_name, folder)[0] or locate(file_name, folder.parent)[0] if file_name else None
    )
    if file is None or not Path(file).is_file():
        if file_name:
            message = f"{file_name} is not there: write its prompts to preview.prompts"
            config.say(name, "no equivalent", message)
        return [], None
    config.say(name, "mapped", "is [preview] here, read from that file")
    read: Written = read_config(Path(file))
    sheet = Sheet(read, config.sheet.rules, name=f"{read.path.name}: ")
    if not isinstance(read.tree, list):
        raise BadImport(f"{read.path}: a list of samples is needed")
    return [OptionTable(sheet, "sample", row, (n,)) for n, row in enumerate(read.tree)], sheet


def _read_looks(rows: Sequence[OptionTable], kind: str) -> dict[str, Any]:
    """What is sampled: the prompts of all, and the first one's size, steps and guidance."""
    width, height, steps, guidance = next(
        (defaults for begin, defaults in GUIDED.items() if kind.startswith(begin)), OTHER
    )
    first = rows[0]
    looks: dict[str, Any] = {
        "prompts": [row.text("prompt") for row in rows],
        "seeds": [first.whole("seed", SEED, low=-1)],
        "negative": first.text("negative_prompt"),
        "width": first.whole("width", width, low=1),
        "height": first.whole("height", height, low=1),
        "steps": first.whole("diffusion_steps", steps, low=1),
        "guidance": first.number("cfg_scale", guidance),
    }
    if kind == "HUNYUAN_VIDEO":
        looks["frames"] = first.whole("frames", 1, low=1)
    _tell_differences(rows, looks)
    return (
        looks | {"seeds": [max(looks["seeds"][0], 0)]}
        if looks["negative"]
        else drop_unset(**{name: value for name, value in looks.items() if name != "negative"})
    )


def _tell_differences(rows: Sequence[OptionTable], looks: Mapping[str, Any]) -> None:
    names = {
        "seed": "seeds",
        "negative_prompt": "negative",
        "width": "width",
        "height": "height",
        "diffusion_steps": "steps",
        "cfg_scale": "guidance",
        "frames": "frames",
    }
    for row in rows:
        row.say("prompt", "mapped", "is one of preview.prompts here")
        if row.flag("random_seed"):
            row.say("random_seed", "no equivalent", "preview.seeds are the same each time")
        for name, key in names.items():
            value = looks.get(key)
            value = value[0] if isinstance(value, list) else value
            if name in row and row.values[name] != value and key in looks:
                message = f"preview.{key} is one for all prompts: the first one's, {value}"
                row.say(name, "no equivalent", message)

"""How long kohya's trainers train, and what they save on the way."""

import math
from dataclasses import dataclass
from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.folders import map_output

STEPS = 1600  # theirs, where nothing is given
TRACKERS = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "all": ["tensorboard", "wandb"]}
PRECISIONS = {"no": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch of theirs: `clips` of it, repeats counted (0: not known), in batches of `batch`.

    `longer` says how many of them an epoch here is.
    """

    clips: int
    batch: int
    longer: int = 1

    def steps(self, accumulate: int) -> int:
        """Optimizer steps of one; 0 where the clips are not known."""
        return math.ceil(math.ceil(self.clips / self.batch) / accumulate)


def count_steps(flags: Flags, epoch: Epoch) -> int:
    """Optimizer steps of the whole run, as there; 0 where the clips of an epoch are not known."""
    epochs = flags.whole("max_train_epochs")
    if not epochs:
        return flags.whole("max_train_steps", STEPS, low=1)
    return epochs * epoch.steps(flags.whole("gradient_accumulation_steps", 1, low=1))


def map_run(flags: Flags, epoch: Epoch) -> dict[str, Any]:
    """`[run]` but for its batch."""
    section = _map_length(flags, epoch)
    section |= map_interval(flags, "save", epoch)
    section |= _map_keep(flags, section)
    if "seed" in flags:
        section["seed"] = flags.whole("seed")
    precision = _read_precision(flags)
    if precision != "float32":
        section["precision"] = precision
    if output := _map_output(flags):
        section["output"] = output
    tracker = flags.text("log_with")
    if tracker in TRACKERS:
        section["trackers"] = TRACKERS[tracker]
    return section


def _map_length(flags: Flags, epoch: Epoch) -> dict[str, Any]:
    epochs = flags.whole("max_train_epochs")
    if not epochs:
        return {"steps": flags.whole("max_train_steps", STEPS, low=1)}
    if "max_train_steps" in flags:
        flags.say("max_train_steps", "not needed", "max_train_epochs overrides it")
    return convert_epochs(flags, "max_train_epochs", epochs, epoch, ("epochs", "steps"), "run")


def convert_epochs(
    flags: Flags, option: str, count: int, epoch: Epoch, keys: tuple[str, str], section: str
) -> dict[str, Any]:
    """A number of their epochs under the first of `keys`, or in steps under the second.

    Steps where an epoch here is another than theirs; nothing, told, where its clips are not known.
    """
    if count % epoch.longer == 0:
        if epoch.longer > 1:
            message = f"is {section}.{keys[0]} here, of which one is {epoch.longer} of theirs"
            flags.say(option, "mapped", message)
        return {keys[0]: count // epoch.longer}
    steps = count * epoch.steps(flags.whole("gradient_accumulation_steps", 1, low=1))
    if steps:
        message = (
            f"is {section}.{keys[1]} = {steps} here: an epoch of this data set is"
            f" {epoch.longer} of theirs"
        )
        flags.say(option, "mapped", message)
        return {keys[1]: steps}
    message = (
        f"how many clips an epoch has is not known before they are cut: set {section}.{keys[1]}"
    )
    flags.say(option, "no equivalent", message)
    return {}


def map_interval(flags: Flags, event: str, epoch: Epoch, *, section: str = "run") -> dict[str, Any]:
    """What happens every so many steps and epochs; 0 steps where only epochs are asked for."""
    stem = {"save": "save_every", "sample": "every", "validate": "every"}[event]
    intervals = {stem: flags.whole(f"{event}_every_n_steps")}
    epochs = flags.whole(f"{event}_every_n_epochs")
    if event == "save" and "save_n_epoch_ratio" in flags:
        ratio = flags.whole("save_n_epoch_ratio", low=1)
        epochs = max(1, flags.whole("max_train_epochs") // ratio)
        message = (
            f"is run.save_every_epochs here: every {epochs} epochs make it at least {ratio} files"
        )
        flags.say("save_n_epoch_ratio", "mapped", message)
        if "save_every_n_epochs" in flags:
            flags.say("save_every_n_epochs", "not needed", "save_n_epoch_ratio overrides it")
        return intervals | convert_epochs(
            flags, "save_n_epoch_ratio", epochs, epoch, (f"{stem}_epochs", stem), section
        )
    if not epochs:
        return intervals
    option = f"{event}_every_n_epochs"
    by_epochs = convert_epochs(flags, option, epochs, epoch, (f"{stem}_epochs", stem), section)
    if (
        stem in by_epochs and intervals[stem]
    ):  # both, and only steps can say it: the nearer of the two
        by_epochs[stem] = min(by_epochs[stem], intervals[stem])
    return intervals | by_epochs


def _map_keep(flags: Flags, section: dict[str, Any]) -> dict[str, Any]:
    """How many checkpoints stay: all of them, unless the last few are asked for."""
    by_epochs, by_steps = "save_last_n_epochs", "save_last_n_steps"
    saved = flags.whole("save_every_n_steps")
    if by_epochs in flags and not saved:
        return {"keep": flags.whole(by_epochs, low=1)}
    if by_steps in flags and saved:
        return {"keep": flags.whole(by_steps, low=1) // saved + 1}
    for option in (by_epochs, by_steps):
        if option in flags:
            flags.say(option, "not needed", "nothing is saved in the unit that it counts")
    total = 0
    if section.get("save_every"):
        total += math.ceil(section.get("steps", 0) / section["save_every"])
    if section.get("save_every_epochs"):
        total += math.ceil(section.get("epochs", 0) / section["save_every_epochs"])
    return {"keep": total} if total > 1 else {}


def _map_output(flags: Flags) -> str:
    option = "output_dir" if "output_dir" in flags else "output_name"
    return map_output(flags.at(option), option, flags.text("output_dir"), flags.text("output_name"))


def _read_precision(flags: Flags) -> str:
    return PRECISIONS[
        flags.at("mixed_precision").choice("mixed_precision", tuple(PRECISIONS), "no")
    ]


def map_dtype(flags: Flags) -> dict[str, Any]:
    """`model.dtype`: these trainers hold the frozen model in the precision they compute in."""
    precision = _read_precision(flags)
    return {} if precision == "float32" else {"dtype": precision}

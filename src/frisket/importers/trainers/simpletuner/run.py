"""How long SimpleTuner trains, and when it saves and samples, as [run] and [preview]."""

from dataclasses import dataclass
from typing import Any

from frisket.importers.files import read_config
from frisket.importers.models import map_dtype
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.simpletuner.beside import find_beside

NEGATIVE = "blurry, cropped, ugly"  # its defaults of what is sampled
GUIDANCE, SAMPLED, SIDE = 7.5, 30, "256"
FREE = (  # families whose sampling takes no negative prompt
    "flux",
    "flux2",
)
TRACKERS = {
    "tensorboard": ["tensorboard"],
    "wandb": ["wandb"],
    "all": ["tensorboard", "wandb"],
    "none": [],
}


@dataclass(frozen=True, slots=True)
class Length:
    """How its epochs and steps count here.

    `epoch_clips` clips go by in an epoch there, `pass_clips` in a pass over the [[data]] tables;
    `batch` clips a step.
    """

    epoch_clips: float
    pass_clips: float
    batch: int

    @property
    def same(self) -> bool:
        """Whether an epoch there is a pass here."""
        return abs(self.epoch_clips - self.pass_clips) < 1e-6 * max(self.pass_clips, 1)

    def count_steps(self, epochs: float | int) -> int:
        """Steps in so many of its epochs, at least 1."""
        return max(int(epochs * self.epoch_clips / self.batch), 1)


def length_of(trainer: OptionTable, epoch_clips: float, pass_clips: float) -> Length:
    """`epoch_clips` clips an epoch there, `pass_clips` here."""
    batch = trainer.whole("train_batch_size", 4, low=1)
    return Length(
        epoch_clips, pass_clips, batch * trainer.whole("gradient_accumulation_steps", 1, low=1)
    )


def steps_of(trainer: OptionTable, length: Length) -> int:
    """Steps of the whole run: max_train_steps, else the epochs, one by default."""
    steps = trainer.whole("max_train_steps")
    return steps or length.count_steps(trainer.number("num_train_epochs", 1, low=0) or 1)


def run_of(trainer: OptionTable, length: Length) -> dict[str, Any]:
    """[run], with its notes."""
    seed = trainer.whole("seed", low=-1)
    if "seed" in trainer and seed <= 0:
        trainer.say("seed", "not needed", "draws a new one for each run: run.seed stays Frisket's")
    keep = trainer.whole("checkpoints_total_limit", 5, low=0)
    run = {"batch": trainer.whole("train_batch_size", 4, low=1)} | _read_length(trainer, length)
    return (
        run
        | _read_saves(trainer)
        | drop_unset(
            seed=seed if seed > 0 else None,
            keep=keep or 1000,
            precision=map_dtype(trainer, "mixed_precision", "bf16"),
            trackers=_read_trackers(trainer),
        )
    )


def _read_length(trainer: OptionTable, length: Length) -> dict[str, int]:
    if trainer.whole("max_train_steps"):
        trainer.say("num_train_epochs", "not needed", "max_train_steps goes before it")
        return {"steps": trainer.whole("max_train_steps")}
    epochs = trainer.number("num_train_epochs", 1, low=0) or 1
    if length.same and epochs == int(epochs):
        trainer.say("num_train_epochs", "mapped", "is run.epochs here", 1)
        return {"epochs": int(epochs)}
    steps = length.count_steps(epochs)
    message = (
        f"is run.steps = {steps} here: {epochs:g} epochs of {length.epoch_clips:g} clips,"
        f" {length.batch} a step"
    )
    trainer.say("num_train_epochs", "mapped", message, 1)
    return {"steps": steps}


def _read_saves(trainer: OptionTable) -> dict[str, int]:
    has_interval = "checkpoint_step_interval" in trainer
    steps = trainer.whole(
        "checkpoint_step_interval" if has_interval else "checkpointing_steps", 500
    )
    if has_interval:
        trainer.say("checkpointing_steps", "not needed", "checkpoint_step_interval is its new name")
    epochs = trainer.whole("checkpoint_epoch_interval")
    if epochs:
        trainer.say("checkpoint_epoch_interval", "mapped", "is run.save_every_epochs here")
    return {"save_every": steps} | drop_unset(save_every_epochs=epochs or None)


def _read_trackers(trainer: OptionTable) -> list[str]:
    tracker = trainer.text("report_to", "none").lower()
    if tracker not in TRACKERS:
        message = "run.trackers has tensorboard, wandb and trackio: set yours"
        trainer.say("report_to", "no equivalent", message)
    return TRACKERS.get(tracker, [])


def preview_of(trainer: OptionTable) -> dict[str, Any]:
    """[preview] of what it calls validation: prompts, and how they are sampled."""
    prompts = [trainer.text("validation_prompt")] if "validation_prompt" in trainer else []
    prompts += _read_library(trainer)
    if trainer.flag("validation_disable") or not prompts:
        message = "there is no prompt to sample" if not prompts else "validation_disable is on"
        for name in LOOKS:
            trainer.say(name, "not needed", message)
        return {}
    width, height = _read_size(trainer)
    free = trainer.text("model_family").lower() in FREE
    negative = trainer.text("validation_negative_prompt", "" if free else NEGATIVE)
    interval = trainer.whole(
        "validation_step_interval" if "validation_step_interval" in trainer else "validation_steps",
        100,
    )
    seed = trainer.whole("validation_seed", trainer.whole("seed", low=-1), low=-1)
    count = trainer.whole("num_validation_images", 1, low=1)
    return {
        "every": interval,
        **drop_unset(every_epochs=trainer.whole("validation_epoch_interval") or None),
        "prompts": list(dict.fromkeys(prompts)),
        "seeds": [max(seed, 0) + index for index in range(count)],
        **drop_unset(negative=negative),
        "steps": trainer.whole("validation_num_inference_steps", SAMPLED, low=1),
        "guidance": trainer.number("validation_guidance", GUIDANCE),
        "width": width,
        "height": height,
        **drop_unset(frames=trainer.whole("validation_num_video_frames") or None),
    }


LOOKS = (
    *("validation_step_interval", "validation_steps", "validation_epoch_interval"),
    *("validation_negative_prompt", "validation_guidance", "validation_num_inference_steps"),
    *("validation_seed", "validation_resolution", "num_validation_images"),
    *("validation_num_video_frames", "validation_disable"),
)


def _read_library(trainer: OptionTable) -> list[str]:
    """The prompts of a file, by name there."""
    name = "user_prompt_library"
    path = trainer.text(name)
    if not path:
        return []
    file = find_beside(trainer, path)
    if file is None or not file.is_file():
        message = f"{path} is not there: write its prompts to preview.prompts"
        trainer.say(name, "no equivalent", message)
        return []
    tree = read_config(file).tree
    rows = tree.values() if isinstance(tree, dict) else []
    prompts = [row.get("prompt") if isinstance(row, dict) else row for row in rows]
    trainer.say(name, "mapped", "is in preview.prompts here, read from that file")
    return [prompt for prompt in prompts if isinstance(prompt, str)]


def _read_size(trainer: OptionTable) -> tuple[int, int]:
    """Width and height of the first size: 1024, 1024x768, or megapixels below 128."""
    name = "validation_resolution"
    text = str(trainer.values.get(name, SIDE)).lower()
    first, *rest = [side.strip() for side in text.split(",") if side.strip()] or [SIDE]
    if rest:
        trainer.say(name, "no equivalent", f"preview has one size: the first, {first}")
    try:
        width, height = (float(side) for side in (first.split("x") * 2)[:2])
    except ValueError as error:
        raise trainer.bad(name, "sizes are written as 1024 or 1024x768") from error
    if "x" not in first and width < 128:  # megapixels
        width = height = 1024 if int(width) == 1 else int(width * 1000 / 8) * 8
    if min(width, height) < 1:
        raise trainer.bad(name, "sizes are written as 1024 or 1024x768")
    return int(width), int(height)

"""How long SimpleTuner trains, and when it saves and samples, as [run] and [preview]."""

from dataclasses import dataclass
from typing import Any

from frisket.importers.files import read_config
from frisket.importers.models import dtype_of
from frisket.importers.options import Table, filled
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

    theirs: float
    ours: float
    batch: int

    @property
    def same(self) -> bool:
        """Whether an epoch there is a pass here."""
        return abs(self.theirs - self.ours) < 1e-6 * max(self.ours, 1)

    def steps(self, epochs: float | int) -> int:
        """Steps in so many of its epochs, at least 1."""
        return max(int(epochs * self.theirs / self.batch), 1)


def length_of(trainer: Table, seen: float, ours: float) -> Length:
    """`seen` clips an epoch there, `ours` here."""
    batch = trainer.whole("train_batch_size", 4, low=1)
    return Length(seen, ours, batch * trainer.whole("gradient_accumulation_steps", 1, low=1))


def steps_of(trainer: Table, length: Length) -> int:
    """Steps of the whole run: max_train_steps, else the epochs, one by default."""
    given = trainer.whole("max_train_steps")
    return given or length.steps(trainer.number("num_train_epochs", 1, low=0) or 1)


def run_of(trainer: Table, length: Length) -> dict[str, Any]:
    """[run], with its notes."""
    seed = trainer.whole("seed", low=-1)
    if "seed" in trainer and seed <= 0:
        trainer.say("seed", "not needed", "draws a new one for each run: run.seed stays Frisket's")
    kept = trainer.whole("checkpoints_total_limit", 5, low=0)
    found = {"batch": trainer.whole("train_batch_size", 4, low=1)} | _long(trainer, length)
    return (
        found
        | _saves(trainer)
        | filled(
            seed=seed if seed > 0 else None,
            keep=kept or 1000,
            precision=dtype_of(trainer, "mixed_precision", "bf16"),
            trackers=_trackers(trainer),
        )
    )


def _long(trainer: Table, length: Length) -> dict[str, int]:
    if trainer.whole("max_train_steps"):
        trainer.say("num_train_epochs", "not needed", "max_train_steps goes before it")
        return {"steps": trainer.whole("max_train_steps")}
    epochs = trainer.number("num_train_epochs", 1, low=0) or 1
    if length.same and epochs == int(epochs):
        trainer.say("num_train_epochs", "mapped", "is run.epochs here", 1)
        return {"epochs": int(epochs)}
    steps = length.steps(epochs)
    said = (
        f"is run.steps = {steps} here: {epochs:g} epochs of {length.theirs:g} clips,"
        f" {length.batch} a step"
    )
    trainer.say("num_train_epochs", "mapped", said, 1)
    return {"steps": steps}


def _saves(trainer: Table) -> dict[str, int]:
    named = "checkpoint_step_interval" in trainer
    steps = trainer.whole("checkpoint_step_interval" if named else "checkpointing_steps", 500)
    if named:
        trainer.say("checkpointing_steps", "not needed", "checkpoint_step_interval is its new name")
    epochs = trainer.whole("checkpoint_epoch_interval")
    if epochs:
        trainer.say("checkpoint_epoch_interval", "mapped", "is run.save_every_epochs here")
    return {"save_every": steps} | filled(save_every_epochs=epochs or None)


def _trackers(trainer: Table) -> list[str]:
    written = trainer.text("report_to", "none").lower()
    if written not in TRACKERS:
        said = "run.trackers has tensorboard, wandb and trackio: set yours"
        trainer.say("report_to", "no equivalent", said)
    return TRACKERS.get(written, [])


def preview_of(trainer: Table) -> dict[str, Any]:
    """[preview] of what it calls validation: prompts, and how they are sampled."""
    prompts = [trainer.text("validation_prompt")] if "validation_prompt" in trainer else []
    prompts += _library(trainer)
    if trainer.flag("validation_disable") or not prompts:
        said = "there is no prompt to sample" if not prompts else "validation_disable is on"
        for name in LOOKS:
            trainer.say(name, "not needed", said)
        return {}
    width, height = _size(trainer)
    free = trainer.text("model_family").lower() in FREE
    negative = trainer.text("validation_negative_prompt", "" if free else NEGATIVE)
    every = trainer.whole(
        "validation_step_interval" if "validation_step_interval" in trainer else "validation_steps",
        100,
    )
    seed = trainer.whole("validation_seed", trainer.whole("seed", low=-1), low=-1)
    count = trainer.whole("num_validation_images", 1, low=1)
    return {
        "every": every,
        **filled(every_epochs=trainer.whole("validation_epoch_interval") or None),
        "prompts": list(dict.fromkeys(prompts)),
        "seeds": [max(seed, 0) + each for each in range(count)],
        **filled(negative=negative),
        "steps": trainer.whole("validation_num_inference_steps", SAMPLED, low=1),
        "guidance": trainer.number("validation_guidance", GUIDANCE),
        "width": width,
        "height": height,
        **filled(frames=trainer.whole("validation_num_video_frames") or None),
    }


LOOKS = (
    *("validation_step_interval", "validation_steps", "validation_epoch_interval"),
    *("validation_negative_prompt", "validation_guidance", "validation_num_inference_steps"),
    *("validation_seed", "validation_resolution", "num_validation_images"),
    *("validation_num_video_frames", "validation_disable"),
)


def _library(trainer: Table) -> list[str]:
    """The prompts of a file, by name there."""
    name = "user_prompt_library"
    written = trainer.text(name)
    if not written:
        return []
    file = find_beside(trainer, written)
    if file is None or not file.is_file():
        said = f"{written} is not there: write its prompts to preview.prompts"
        trainer.say(name, "no equivalent", said)
        return []
    tree = read_config(file).tree
    rows = tree.values() if isinstance(tree, dict) else []
    prompts = [row.get("prompt") if isinstance(row, dict) else row for row in rows]
    trainer.say(name, "mapped", "is in preview.prompts here, read from that file")
    return [each for each in prompts if isinstance(each, str)]


def _size(trainer: Table) -> tuple[int, int]:
    """Width and height of the first size: 1024, 1024x768, or megapixels below 128."""
    name = "validation_resolution"
    given = str(trainer.values.get(name, SIDE)).lower()
    first, *rest = [each.strip() for each in given.split(",") if each.strip()] or [SIDE]
    if rest:
        trainer.say(name, "no equivalent", f"preview has one size: the first, {first}")
    try:
        width, height = (float(each) for each in (first.split("x") * 2)[:2])
    except ValueError as error:
        raise trainer.bad(name, "sizes are written as 1024 or 1024x768") from error
    if "x" not in first and width < 128:  # megapixels
        width = height = 1024 if int(width) == 1 else int(width * 1000 / 8) * 8
    if min(width, height) < 1:
        raise trainer.bad(name, "sizes are written as 1024 or 1024x768")
    return int(width), int(height)

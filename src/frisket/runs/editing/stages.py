"""The two stages of an edit as runs of the trainer: their data on disk, their configurations.

After LoRA-Edit (arXiv 2506.10082, cjeen/LoRAEdit). The mask is what the model is told of the clip
(1 is kept), not what the loss weighs: first the clip itself is learnt, with the region cleared
after its first frame; then, beside it, edited frames as clips of one frame, each shown its original
with the region cleared.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from frisket.config.data import Data, MaskSource
from frisket.config.editing.request import REPEATS, VideoEditRequest
from frisket.config.tree import Config
from frisket.data.cached.store import Cache, key_of
from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.disk.untrusted import read_table
from frisket.media.frames import write_image, write_video
from frisket.runs.editing.plan import REGION, EditMaterial
from frisket.runs.identity import read_identity
from frisket.runs.sampling.sampler import files_of

StageName = Literal["motion", "appearance"]
STAGE = "stage.json"
FIRST = "first.png"  # the edited first frame, at the size of the edit
SAVE_EVERY = 25  # steps between checkpoints at most: a stage is short
TAKEN = ("model", "memory", "optimizer", "lora", "timesteps", "noise", "losses")


@dataclass(frozen=True, slots=True)
class EditStage:
    """One stage: a run in a folder of its own."""

    name: StageName
    config: Config

    @property
    def folder(self) -> Path:
        """Where its LoRA, metrics and checkpoints are."""
        return self.config.run.output

    @property
    def lora(self) -> Path:
        """The file it leaves, or the name that those of several experts have in common."""
        return self.folder / "lora.safetensors"


def write_material(material: EditMaterial, folder: Path) -> None:
    """Write clip, masks and pictures as data sets: `clip`, `edited`, and what goes with each.

    Pixels bit for bit. What an earlier call wrote and this one has not is removed.
    """
    white = (material.edited * 255).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
    for name, frames in (("clip", material.frames), ("clip-masks", white)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_video(folder / name / "clip.mkv", frames.contiguous(), material.fps, lossless=True)
    write_image(folder / FIRST, material.first[0])
    for name in ("edited", "edited-masks", "originals"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).glob("*.png"):
            if old.stem not in {_name_frame(number) for number in material.pictures}:
                old.unlink()
    for number, picture in material.pictures.items():
        file = f"{_name_frame(number)}.png"
        write_image(folder / "edited" / file, picture[0])
        write_image(folder / "edited-masks" / file, white[number].contiguous())
        write_image(folder / "originals" / file, material.frames[number])


def _name_frame(number: int) -> str:
    return f"frame-{number:05d}"


def build_stages(
    config: Config, request: VideoEditRequest, material: EditMaterial
) -> tuple[EditStage, ...]:
    """The configuration of each stage, in order; one stage where no further frame was edited."""
    output = request.output.absolute()
    steps = request.stages.steps
    clip = _describe_clip(request, material, output / "data")
    motion = EditStage("motion", _configure(config, output, "motion", steps, (clip,)))
    if not material.pictures:
        return (motion,)
    edited = _describe_pictures(request, material, output / "data")
    later = _configure(
        config, output, "appearance", request.stages.appearance_steps, (clip, edited)
    )
    lora = later.lora.model_copy(update={"source": motion.lora})
    return motion, EditStage("appearance", later.model_copy(update={"lora": lora}))


def _configure(
    config: Config, output: Path, name: StageName, steps: int, data: tuple[Data, ...]
) -> Config:
    every = config.run.save_every
    run = config.run.model_copy(
        update={
            "output": output / name,
            "cache": output / "cache",
            "steps": steps,
            "epochs": 0,
            "batch": 1,
            "save_every": min(every, SAVE_EVERY) if every else 0,
            "keep": 1,
        }
    )
    tables = {section: getattr(config, section) for section in TAKEN}
    return Config(data=data, regions={REGION: 1.0}, run=run, **tables)


def _describe_clip(request: VideoEditRequest, material: EditMaterial, folder: Path) -> Data:
    return Data(
        clips=folder / "clip",
        masks=_describe_masks(folder / "clip-masks"),
        caption=material.caption,
        frames=len(material.frames),
        **_describe_size(request, material),
    )


def _describe_pictures(request: VideoEditRequest, material: EditMaterial, folder: Path) -> Data:
    return Data(
        clips=folder / "edited",
        masks=_describe_masks(folder / "edited-masks"),
        references=folder / "originals",
        caption=material.prompt,
        frames=1,
        repeats=REPEATS,
        **_describe_size(request, material),
    )


def _describe_masks(folder: Path) -> MaskSource:
    return MaskSource(source="folder", path=folder, require=True)


def _describe_size(request: VideoEditRequest, material: EditMaterial) -> dict[str, Any]:
    """What the two data sets have in common: taken as they are, shown and not weighed."""
    height, width = material.size
    return {
        "resolution": (width, height),
        "buckets": False,
        "fps": "own",
        "mask_role": "both" if request.region.loss_mask else "condition",
    }


def fingerprint(stage: EditStage) -> str:
    """What a stage is made of, but for its steps: settings, base weights, start, data."""
    record: dict[str, Any] = dict(read_identity(stage.config, Cache(stage.config.run.cache).folder))
    record["optimizer.lr"] = stage.config.optimizer.lr
    record["sets"] = [
        {
            "files": {
                str(file.relative_to(folder.parent)): hash_file(file)
                for folder in (data.clips, data.masks.path, data.references)
                if folder is not None
                for file in sorted(folder.iterdir())
            },
            "words": data.caption,
            "role": data.mask_role,
            "repeats": data.repeats,
        }
        for data in stage.config.data
    ]
    return key_of(json.loads(json.dumps(record, default=str)))


@dataclass(frozen=True, slots=True)
class StageState:
    """How far a stage was brought before, and whether by what it is made of now."""

    same: bool
    done: int  # steps, where it came to its end


def read_state(stage: EditStage, key: str) -> StageState:
    """What an earlier call left of a stage; nothing where it left none, or its LoRA is gone."""
    file = stage.folder / STAGE
    if not file.is_file():
        return StageState(same=False, done=0)
    record = read_table(file)
    there = all(path.is_file() for path in files_of(stage.lora))
    done = record.get("steps", 0)
    return StageState(record.get("key") == key, done if there and isinstance(done, int) else 0)


def write_state(stage: EditStage, key: str, steps: int) -> None:
    """Note what a stage is made of, and after its end how many steps it has."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    with replacing(stage.folder / STAGE) as draft:
        draft.write_text(json.dumps({"key": key, "steps": steps}) + "\n", encoding="utf-8")

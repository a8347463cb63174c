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
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config, Run
from frisket.data.cached.store import Cache, key_of
from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.disk.untrusted import read_table
from frisket.media.frames import write_image, write_video
from frisket.runs.editing.plan import REGION, EditMaterial
from frisket.runs.epochs import checkpoints_of
from frisket.runs.identity import read_identity
from frisket.runs.sampling.sampler import files_of

StageName = Literal["motion", "appearance"]
STAGE = "stage.json"
FIRST = "first.png"  # the edited first frame, at the size of the edit
SAVE_EVERY = 25  # steps between checkpoints at most: a stage is short
MARK = ".frisket-edit"  # in `data/`: what lies there is ours to overwrite
RUN_FIELDS = ("precision", "seed", "threads", "trackers")  # of the [run] that is given
SECTIONS = ("model", "memory", "optimizer", "lora", "timesteps", "noise", "losses")


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
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


def refuse_strangers(request: VideoEditRequest) -> None:
    """ConfigError where `data/` of the output holds what an edit has not written there."""
    folder = (request.output / "data").resolve()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise ConfigError(
            f"-o {request.output}: its data/ is not an edit's, and would be written over; name"
            " another folder"
        )
    inputs = {"clip": request.clip, "--mask": request.mask, "--first": request.first}
    inputs |= {f"--edited {number}": path for number, path in request.edited.items()}
    for name, path in inputs.items():
        if path.resolve().is_relative_to(folder):
            raise ConfigError(
                f"{name} {path} lies in {folder}, which this edit writes over; give the file it"
                " was made of, or name another -o"
            )


def refuse_settings(config: Config, request: VideoEditRequest) -> None:
    """ConfigError for settings that an edit would leave out, or that do nothing in it."""
    for text in request.overrides:
        section, _, field = text.split("=")[0].strip().partition(".")
        if section not in SECTIONS and not (section == "run" and field in RUN_FIELDS):
            raise ConfigError(
                f"--set {text}: an edit takes {', '.join(SECTIONS)} and run."
                f"{', run.'.join(RUN_FIELDS)}; for the rest it has options of its own (--steps, -o)"
            )
    if request.region.loss_mask:
        return
    if config.losses.terms.get("prior", {}).get("strength", 0):
        raise ConfigError(
            "losses.prior: without a loss mask the whole frame is learnt, and there is nothing for"
            " it to hold; leave it out, or add --loss-mask"
        )
    if config.lora.confine is not None:
        raise ConfigError(
            f"lora.confine = {config.lora.confine}: without a loss mask there is no region to stay"
            " in; leave it out, or add --loss-mask"
        )


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
    interval = config.run.save_every
    run = Run().model_copy(
        update={
            **{field: getattr(config.run, field) for field in RUN_FIELDS},
            "output": output / name,
            "cache": output / "cache",
            "steps": steps,
            "batch": 1,
            "save_every": min(interval, SAVE_EVERY) if interval else 0,
            "keep": 1,
        }
    )
    tables = {section: getattr(config, section) for section in SECTIONS}
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


def compute_key(stage: EditStage) -> str:
    """What a stage is made of, but for its steps: settings, base weights, start, data."""
    record: dict[str, Any] = dict(read_identity(stage.config, Cache(stage.config.run.cache).folder))
    # All of it, also what another run may change on its way: a stage that is done is not gone on.
    record["optimizer"] = stage.config.optimizer.model_dump(mode="json")
    record["lora"] = stage.config.lora.model_dump(mode="json", exclude={"source"})
    record["sets"] = [
        {
            "files": {
                str(file.relative_to(folder.parent)): hash_file(file)
                for folder in (data.clips, data.masks.path, data.references)
                if folder is not None
                for file in sorted(folder.iterdir())
                if file.suffix in (".mkv", ".png")  # ours
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

    is_same: bool
    steps: int  # steps, where it came to its end


def read_state(stage: EditStage, key: str) -> StageState:
    """What an earlier call left of a stage; nothing where it left none, or its LoRA is gone."""
    file = stage.folder / STAGE
    if not file.is_file():
        return StageState(is_same=False, steps=0)
    record = read_table(file)
    has_lora = all(path.is_file() for path in files_of(stage.lora))
    steps = record.get("steps", 0)
    return StageState(record.get("key") == key, steps if has_lora and isinstance(steps, int) else 0)


def set_aside(stage: EditStage) -> None:
    """What an earlier stage of other inputs left: checkpoints aside, LoRAs away."""
    checkpoints_of(stage.config).set_aside()
    for old in stage.folder.glob("lora*.safetensors"):
        old.unlink()


def write_state(stage: EditStage, key: str, steps: int) -> None:
    """Note what a stage is made of, and after its end how many steps it has."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    with replacing(stage.folder / STAGE) as draft:
        draft.write_text(json.dumps({"key": key, "steps": steps}) + "\n", encoding="utf-8")

"""`frisket edit`: one clip, its mask, its edited frames, and how it is learnt and sampled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from frisket.config.command_options import ARGUMENT, option, pick_fields
from frisket.config.data import Count, Section
from frisket.config.tree import Lora, Memory, Model, Optimizer

MODEL = ("family", "variant", "source", "revision", "device", "dtype")
MEMORY = ("quantise", "storage", "checkpointing", "swap_blocks", "tile_vae")
REPEATS = 9  # of each edited frame beside one of the clip: cjeen/LoRAEdit, predata_additional.py


def read_frames(texts: Sequence[str]) -> dict[str, str]:
    """`12=edited.png` to frame and file; ValueError for text that is not so."""
    pictures: dict[str, str] = {}
    for text in texts:
        number, equals, file = text.partition("=")
        if not equals or not file or not number.isdecimal():
            raise ValueError("write it as FRAME=FILE, frames counted from 0: 24=edited.png")
        if str(int(number)) in pictures:
            raise ValueError(f"frame {int(number)} is given twice")
        pictures[str(int(number))] = file
    return pictures


class EditedRegion(Section):
    """Where the clip is edited (docs/edit-a-video)."""

    panel: ClassVar[str] = "Where"

    mask_shape: Literal["box", "mask"] = "box"
    """box: a loose box around each piece of the mask, as the paper has it (tight masks did worse);
    mask: the mask itself. Both are widened to whole cells of the model."""
    margin: Annotated[float, Field(ge=0, le=2)] = 0.1
    """How much wider and higher a box is than what it is around, as a share."""
    boxes: Literal["frame", "all"] = "frame"
    """frame: each frame's own boxes; all: in every frame those of all frames."""
    loss_mask: bool = False
    """Ours: the mask weighs the loss too, so that only the edited region is taught. The method
    itself teaches the whole frame, and the mask is the model's own input alone."""


class EditedClip(Section):
    """How much of the clip is edited, and at which size."""

    panel: ClassVar[str] = "Clip"

    frames: Count | None = None
    """How many frames, from the first; 1 + 4 n. By default as many as there are, up to 49, or as
    the model makes."""
    width: Count | None = None
    """Width in pixels; with --height. By default the model's own size in the clip's aspect."""
    height: Count | None = None
    """Height in pixels."""


class EditStages(Section):
    """How long the clip is learnt: 100 + 100 steps are the paper's, as are rank and rate."""

    panel: ClassVar[str] = "Learning"

    steps: Count = 100
    """Steps of the first stage: how the clip moves, with the region freed."""
    appearance_steps: Count = 100
    """Steps of the second stage, where there are --edited frames."""
    sample_only: bool = False
    """Train nothing: sample again with what was learnt."""


EditSeed = Annotated[int, Field(ge=0, lt=2**63)]


class EditSampling(Section):
    """How the edited clip is sampled."""

    panel: ClassVar[str] = "Sampling"

    negative: str = ""
    """What the clip should not be."""
    seeds: Annotated[tuple[EditSeed, ...], Field(min_length=1), option("--seed")] = (0,)
    """Seed of each sample; 0."""
    sampling_steps: Count | None = None
    """Steps of sampling; by default the model's own."""
    guidance: Annotated[float, Field(ge=0)] | None = None
    """Guidance; by default the model's own."""
    strength: float = 1.0
    """Strength of the LoRA; 1 as trained."""
    composite: bool = False
    """Lay the clip's own pixels back where it was not edited. Not part of the method."""
    feather: Annotated[float, Field(ge=0, le=256)] = 8.0
    """Pixels over which --composite blends at the edge of the region."""


class VideoEditRequest(Section):
    """One call of `frisket edit`."""

    clip: Annotated[Path, ARGUMENT]
    """The clip: a video, or a folder of frames."""
    mask: Path
    """What is edited, white: a mask video with as many frames as the clip, or one picture."""
    first: Path
    """The clip's first frame, edited."""
    edited: Annotated[dict[str, Path], option(metavar="FRAME=FILE", read=read_frames)] = Field(
        default_factory=dict
    )
    """A further edited frame of the clip, counted from 0: how the edit looks later on."""
    output: Annotated[Path, option("--output", "-o")] = Path("edit")
    """Folder of the edit; one that was stopped goes on."""
    caption: str = ""
    """What the clip shows; by default clip.txt beside it."""
    prompt: str = ""
    """What the edited clip shows; by default the caption."""
    config: Annotated[Path | None, option("--config", metavar="FILE")] = None
    """A config file whose [model], [memory], [optimizer], [lora], [timesteps], [noise] and
    [losses] are taken; and precision, seed, threads and trackers of its [run]."""
    overrides: Annotated[tuple[str, ...], option("--set", metavar="KEY=VALUE")] = ()
    """Change one key, e.g. --set lora.preset=attn."""
    model: Annotated[Model, pick_fields(*MODEL)] = Model()
    memory: Annotated[Memory, pick_fields(*MEMORY)] = Memory()
    lora: Annotated[Lora, pick_fields("rank")] = Lora()
    optimizer: Annotated[Optimizer, pick_fields("lr")] = Optimizer()
    region: EditedRegion = EditedRegion()
    extent: EditedClip = EditedClip()
    stages: EditStages = EditStages()
    sampling: EditSampling = EditSampling()

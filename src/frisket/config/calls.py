"""What one call of a command takes: a model each, of which its options are made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from frisket.config.command_options import ARGUMENT, FIRST, option, pick_fields
from frisket.config.data import Count, Section
from frisket.config.identity.typed import MethodOptions
from frisket.config.tree import Preview

SAMPLED = (
    *("prompts", "seeds", "negative", "images", "steps", "guidance", "width", "height", "frames"),
)


class Fuse(Section):
    """Several LoRAs in one picture, each by its own words (docs/freefuse, docs/tara)."""

    panel: ClassVar[str] = "Several LoRAs in one picture"

    method: Annotated[Literal["", "freefuse", "tara"], option("--fuse")] = ""
    """freefuse: every --lora acts on the cells that its --trigger drew, and nowhere else. tara: on
    the text it acts on its --trigger alone, as it was trained (lora.focus)."""
    triggers: Annotated[tuple[str, ...], option("--trigger", metavar="[NAME=]PHRASE")] = ()
    """Words of the prompt that a --lora is about; NAME is its file without the ending, else they
    count in turn."""
    background: Annotated[str, option("--fuse-background", metavar="PHRASE")] = ""
    """Words of the prompt for what is behind; empty: the cells that answer to no trigger."""
    step: Annotated[Count, option("--fuse-step")] = 5
    """Step of sampling at which it is looked who stands where."""
    layers: Annotated[tuple[str, ...], option("--fuse-layer")] = ()
    """Attention layers that are looked at; by default the family's own choice."""
    loras: Annotated[bool, option("--fuse-with-loras")] = False
    """Look with the LoRAs on, for triggers the base knows nothing of."""
    bias: Annotated[bool, option("--fuse-bias")] = False
    """Push attention to a trigger's own cells as well."""


class ControlOptions(Section):
    """A picture that samples follow, by a ControlNet."""

    panel: ClassVar[str] = "Holding the structure (docs/control)"

    picture: Annotated[Path | None, option("--control", metavar="FILE")] = None
    """Control picture or clip (pose, depth, edges) that the samples follow."""
    net: Annotated[Path | None, option("--control-net", metavar="FOLDER")] = None
    """ControlNet that reads it; by default the one the run trained, or control.source."""
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False), option("--control-scale")] = 1.0
    """Its strength; 0 is without."""
    mask: Annotated[Path | None, option("--control-mask", metavar="FILE")] = None
    """Mask: it acts there alone."""


class GenerateRequest(Section):
    """One call of `frisket generate`."""

    config: Annotated[Path, ARGUMENT] = FIRST
    """The config file, as `frisket init` writes it."""
    config_option: Annotated[Path | None, option("--config", metavar="FILE")] = None
    """The same file, by name."""
    overrides: Annotated[tuple[str, ...], option("--set", metavar="KEY=VALUE")] = ()
    """Change one key, e.g. --set lora.rank=8."""
    preview: Annotated[Preview, pick_fields(*SAMPLED)] = Preview()
    prompt_file: Path | None = None
    """Prompts, one a line, with options if you like: --n negative, --w --h pixels, --f frames, --d
    seed, --s steps, --l guidance, --i picture."""
    loras: Annotated[tuple[Path, ...], option("--lora")] = ()
    """LoRA file; by default the one in run.output."""
    strengths: Annotated[tuple[float, ...], option("--strength")] = ()
    """Strength of each --lora in turn; 1 as trained."""
    lora_masks: Annotated[tuple[str, ...], option("--lora-mask", metavar="FILE")] = ()
    """Mask of each --lora in turn: it acts there alone; `-` is everywhere (docs/regional-lora)."""
    base: bool = False
    """Sample the base model, no LoRA."""
    compare: bool = False
    """Sample with and without, same seeds."""
    fuse: Fuse = Fuse()
    methods: MethodOptions = MethodOptions()
    structure: ControlOptions = ControlOptions()
    batch: Count | None = None
    """Samples at a time."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """Folder; by default the next of run.output/samples/001, 002, ...; one that holds samples gets
    a number."""


class EvaluateRequest(Section):
    """One call of `frisket evaluate`."""

    runs: Annotated[tuple[Path, ...], ARGUMENT, Field(min_length=1)]
    """Run folders or config files, side by side."""
    overrides: Annotated[tuple[str, ...], option("--set", metavar="KEY=VALUE")] = ()
    """Change one key of every run."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """Folder; by default evaluation in the first run."""
    clips: Path | None = None
    """Clips to measure on; by default those held out."""
    masks: str = ""
    """Masks of --clips: a folder, alpha, sidecar or listed."""
    prompts: Annotated[tuple[str, ...], option("--prompt", "-p")] = ()
    """Names the subject; by default the trigger word."""
    unrelated: tuple[str, ...] = ()
    """Prompt without the subject, for drift; by default a list."""
    seeds: Count = 8
    """Samples of each prompt."""
    draws: Count = 4
    """Noises at each level of each clip."""
    images: Annotated[tuple[Path, ...], option("--image")] = ()
    """Of models that start from pictures."""
    features: Path | None = None
    """Folder of a CLIP, SigLIP or DINO model."""
    faces: Path | None = None
    """Folder of a face detector and recogniser (OpenCV's, an InsightFace pack): the same face?"""
    phrases: Annotated[tuple[str, ...], option("--phrase", metavar="REGION=PHRASE")] = ()
    """What captions call a region: how well attention fits it; by default those of [regions]."""
    no_samples: bool = False
    """Measure errors alone; sample nothing."""
    strict: bool = False
    """Exit code 1 where a claim was not shown."""


class AttendRequest(Section):
    """One call of `frisket attend`."""

    source: Annotated[Path, ARGUMENT] = FIRST
    """Config file, or folder of a run."""
    source_option: Annotated[Path | None, option("--config", metavar="FILE")] = None
    """The same, by name."""
    overrides: Annotated[tuple[str, ...], option("--set", metavar="KEY=VALUE")] = ()
    """Change one key, e.g. --set model.device=cpu."""
    phrases: Annotated[tuple[str, ...], option("--phrase", metavar="[REGION=]PHRASE")] = ()
    """Words to look for, and the region they name; by default the phrases of [regions]."""
    prompts: Annotated[tuple[str, ...], option("--prompt", "-p")] = ()
    """Sample this and look meanwhile, instead of at clips."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1), option("--seed")] = (0,)
    """Seed of each prompt; 0."""
    clips: Literal["", "held-out", "training"] = ""
    """Which clips: held-out or training; by default those held out, if there are."""
    limit: Count = 8
    """Clips at most, evenly over the set."""
    layers: Annotated[tuple[str, ...], Field(min_length=1), option("--layer")] = ("all",)
    """Attention layers: a name, its ending, a pattern, middle, or all."""
    form: Literal["attention", "output"] = "attention"
    """attention: how much is looked at; output: likeness to what the words came to, as
    ConceptAttention has it (joint attention alone)."""
    softmax: Literal["all", "text"] = "all"
    """Shares of all that is looked at, or of the text alone."""
    t: Annotated[tuple[float, ...], Field(min_length=1), option("--t")] = (0.25, 0.5, 0.75)
    """Noise level above 0 up to 1; 0.25, 0.5 and 0.75. Of a sample: how much of the way is left."""
    draws: Count = 4
    """Noises at each level of each clip."""
    loras: Annotated[tuple[Path, ...], option("--lora")] = ()
    """LoRA file; by default the one in run.output."""
    strengths: Annotated[tuple[float, ...], option("--strength")] = ()
    """Strength of each --lora in turn; 1 as trained."""
    base: bool = False
    """Look at the base model alone."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """Folder; by default attention in run.output."""


class ConvertRequest(Section):
    """One call of `frisket convert`."""

    files: Annotated[tuple[Path, ...], ARGUMENT] = ()
    """LoRA files; without -o they are described."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """File to write (of several: folder)."""
    to: Literal["comfyui", "diffusers", "kohya"] = "comfyui"
    """Keys: comfyui, diffusers or kohya."""
    family: str = ""
    """Model family, where the file is silent."""
    variant: str = ""
    """Variant, where the file is silent."""
    expert: str = ""
    """Expert a silent file is for (Wan 2.2: high or low)."""
    rank: Count | None = None
    """Resize to this rank."""
    scale: float | None = None
    """Multiply the effect; 1 is as trained."""
    average: Annotated[str, option(metavar="0.7,0.3")] = ""
    """One LoRA of all files, weighted so."""
    exact: bool = False
    """Average without loss: ranks add up."""
    merge_into: Path | None = None
    """Diffusers folder to merge into; -o is a new one."""
    extract: Annotated[tuple[Path, Path] | None, option(metavar="BASE TUNED")] = None
    """The LoRA between two diffusers folders."""
    dtype: Literal["", "float32", "bfloat16", "float16"] = ""
    """float32, bfloat16 or float16; empty leaves it."""
    drop_text: bool = False
    """Leave text encoders' tensors out."""
    drop_schedule: bool = False
    """Take an adapter whose ranks act by noise level (t-lora) for a plain LoRA."""
    leave_out: Annotated[tuple[str, ...], option(metavar="PATTERN")] = ()
    """Leave out layers, tensors or metadata of this name (`*.diff_b`)."""


def read_columns(texts: Sequence[str]) -> dict[str, str]:
    """`face=face_mask` and `mask` to region and column."""
    columns: dict[str, str] = {}
    for text in texts:
        region, _, column = text.rpartition("=")
        if region in columns:
            raise ValueError(f"the region {region!r} is named twice")
        columns[region] = column
    return columns


class PackRequest(Section):
    """One call of `frisket pack`."""

    source: Annotated[Path, ARGUMENT]
    """A folder, a manifest (.jsonl), a table or tar shards."""
    output: Annotated[Path, option("--output", "-o")]
    """New folder; or a .jsonl that names files."""
    to: str
    """folder, jsonl, parquet or webdataset."""
    kind: Annotated[str, option("--from")] = ""
    """The same for SOURCE; by default it is found out."""
    image: Annotated[str, option(metavar="COLUMN")] = ""
    """Column of the clips (of a table)."""
    caption: Annotated[str, option(metavar="COLUMN")] = ""
    """Column of the captions."""
    masks: Annotated[
        dict[str, str], option("--mask", metavar="[REGION=]COLUMN", read=read_columns)
    ] = Field(default_factory=dict)
    """Column of the masks; one a region."""
    name: Annotated[str, option(metavar="COLUMN")] = ""
    """Column of the clips' names."""
    shard: Count = 512
    """MiB of one tar or table, about."""
    follow_links: bool = False
    """Also pack what links bring from elsewhere."""


def read_numbers(texts: Sequence[str]) -> dict[str, float]:
    """`low=50` and `high=150` to names and numbers."""
    numbers: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in numbers:
            raise ValueError(f"{name!r} is given twice")
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ValueError(f"{text!r} should be NAME=NUMBER, such as low=50") from None
    return numbers


class ControlMakeRequest(Section):
    """One call of `frisket control make`."""

    folder: Annotated[Path, ARGUMENT]
    """Folder of clips (or one with `clips` in it), or a manifest (.jsonl)."""
    kind: str
    """What is drawn: `frisket control list` names the kinds."""
    output: Annotated[Path, option("--output", "-o")]
    """Folder of the control pictures, for `control` of [[data]]."""
    source: Annotated[str, option(metavar="FOLDER")] = ""
    """Folder of the model, of kinds that draw by one."""
    detector: Annotated[str, option(metavar="FOLDER")] = ""
    """Folder of a detector of people (YOLOS, RT-DETR, DETR): a pose for each; else one, of the
    whole frame."""
    options: Annotated[
        dict[str, float], option("--option", metavar="NAME=NUMBER", read=read_numbers)
    ] = Field(default_factory=dict)
    """An option of the kind, such as low=50 of canny."""
    device: str = "auto"
    """cpu, cuda, mps or auto, for a model."""
    overwrite: bool = False
    """Also pictures that were made or changed by hand."""
    dry_run: bool = False
    """Say what would be done."""

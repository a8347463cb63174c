"""The part of the configuration that says how masks are made, and the call that makes them.

Each field is one option of `frisket masks make`: its name, type, bounds, default and text stand
here and nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from frisket.config.command_options import ARGUMENT, option
from frisket.config.data import Count, Fraction, Section, _Pixels

PROMPTS, PEOPLE, MODELS = "What to look for", "Whom to keep", "Models"
ATTENTION = "Backend attention"
CLEANUP, VIDEOS, FILES, WORK = "Clean-up", "Videos", "What is written", "How it runs"

WholeNumber = Annotated[int, Field(ge=0)]


def read_point(text: str) -> list[float]:
    """`0.5,0.3` as [0.5, 0.3]."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("write x,y as shares, such as 0.5,0.3") from None
    return [x, y]


def read_sources(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=PATH` by name; a path alone is of the one backend there is, under an empty name."""
    pairs = (text.partition("=") for text in texts)
    return {name if equals else "": path if equals else name for name, equals, path in pairs}


def read_thresholds(texts: Sequence[str]) -> dict[str, dict[str, float]]:
    """`grounding_dino.box=0.3` as {"grounding_dino": {"box": 0.3}}."""
    thresholds: dict[str, dict[str, float]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        backend, dot, key = name.partition(".")
        try:
            if not dot:
                raise ValueError(name)
            thresholds.setdefault(backend, {})[key] = float(value)
        except ValueError:
            raise ValueError(
                f"{text!r}: write backend.name=number, as in grounding_dino.box=0.3"
            ) from None
    return thresholds


class MaskPrompts(Section):
    """What to look for: phrases of your own, or those of the captions."""

    panel: ClassVar[str] = PROMPTS

    phrases: str = ""
    """'face; hair; red jacket', or 'subject = mug, cup'."""
    from_captions: bool = False
    """Each clip's own caption."""
    captions: Path | None = None
    """Folder or .jsonl of captions."""
    captioner: str = ""
    """Backend that captions clips without one, such as florence2."""
    trigger: str = ""
    """Trigger word in the captions."""
    class_word: str = ""
    """What the trigger is: woman, dog."""
    rules: Path | None = None
    """Phrases to regions (frisket masks rules)."""
    everything_but: bool = False
    """Leave out what is found: the region `subject` is the rest."""


class MaskPeople(Section):
    """The people in a picture: which regions they have, and who of them is kept."""

    panel: ClassVar[str] = PEOPLE

    parts: Annotated[Literal["person", "parts"], option(panel=PROMPTS)] = "person"
    """Regions of parsed people: person (face, hair, body), or parts (hands and clothes too)."""
    neck: Annotated[str, option(panel=PROMPTS)] = "body"
    """Region of the neck: body or face."""
    keep: Literal["all", "largest", "nearest", "face"] = "all"
    """all, largest, nearest (see `near`), or face (see `like`)."""
    near: Annotated[tuple[Fraction, Fraction] | None, option(metavar="X,Y", read=read_point)] = None
    """Point for keep = nearest, shares of width and height."""
    like: tuple[Path, ...] = ()
    """Picture of the face to keep."""
    alike: Annotated[float, Field(ge=-1, le=1)] = 0.35
    """Cosine from which a face is the same."""


class MaskCleanup(Section):
    """What is done to the mask of each region, in the order of docs/make-masks."""

    panel: ClassVar[str] = CLEANUP

    threshold: Annotated[float, Field(gt=0, lt=1), option("--cut")] = 0.5
    """Probability from which a pixel belongs."""
    loosen: Annotated[float, Field(ge=0)] = 0.0
    """Share a box is grown by before cutting."""
    refine: _Pixels = 0.0
    """Pixels a border may move to an edge of the picture."""
    fill_holes: bool = False
    """Close holes."""
    largest: bool = False
    """Keep the largest patch."""
    min_area: Fraction = 0.0
    """Share below which a patch is dropped."""
    grow: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Pixels; below 0 shrinks."""
    feather: _Pixels = 0.0
    """Pixels of soft border (with soft planes)."""


class MaskTracking(Section):
    """How what is found is followed through a video."""

    panel: ClassVar[str] = VIDEOS

    every: Count = 20
    """Frames between detections."""
    window: Annotated[int, Field(ge=2)] = 48
    """Frames held at once."""
    smooth: Literal["none", "median", "motion"] = "median"
    """none, median, or motion."""
    radius: WholeNumber = 1
    """Frames to either side smoothed over."""
    gap: WholeNumber = 8
    """Frames a region may be missing for and be filled."""


class MaskAttention(Section):
    """The backend `attention`: which diffusion model is asked where the phrases are, and how."""

    panel: ClassVar[str] = ATTENTION

    family: Annotated[str, option("--attention-family")] = "pocket"
    """Model family; its weights by --source attention=PATH."""
    variant: Annotated[str, option("--attention-variant")] = ""
    """Variant of it; empty takes the first."""
    prompt: Annotated[str, option("--attention-prompt")] = "{phrases}"
    """Prompt, as "a photo of {phrases}"."""
    layers: Annotated[tuple[str, ...], Field(min_length=1), option("--attention-layer")] = ("all",)
    """Attention layers: a name, its ending, a pattern, middle, or all."""
    t: Annotated[tuple[float, ...], Field(min_length=1), option("--attention-t")] = (0.25, 0.5)
    """Noise level above 0 up to 1; 0.25 and 0.5."""
    draws: Annotated[Count, option("--attention-draws")] = 2
    """Noises at each level."""
    form: Annotated[Literal["attention", "output"], option("--attention-form")] = "attention"
    """attention, or output (ConceptAttention: joint attention, two phrases or more)."""
    softmax: Annotated[Literal["all", "text"], option("--attention-softmax")] = "all"
    """Shares of all that is looked at, or of the text alone."""

    @field_validator("t")
    @classmethod
    def _check_levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        for level in levels:
            if not 0 < level <= 1:
                raise ValueError(f"t should be above 0 and up to 1 (pure noise), got {level:g}")
        return levels


class MaskGeneration(Section):
    """How `frisket masks` makes region masks; training reads none of it."""

    backends: Annotated[tuple[str, ...], Field(min_length=1), option("--backend", "-b")] = (
        "draft",
    )
    """Backend or composition (frisket masks backends); of several, see `combine`. The default,
    `draft`, needs no download."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """Mask folder; by default `masks` beside `clips`."""
    beside: bool = False
    """Masks beside each clip, as name.mask.png."""
    prompts: MaskPrompts = MaskPrompts()
    """What to look for."""
    people: MaskPeople = MaskPeople()
    """Regions of people, and whom to keep."""
    sources: Annotated[
        dict[str, str],
        option("--source", panel=MODELS, metavar="[NAME=]PATH", read=read_sources),
    ] = Field(default_factory=dict)
    """Folder, file or hub id of a backend's weights, by the backend's name."""
    thresholds: Annotated[
        dict[str, dict[str, float]],
        option("--threshold", panel=MODELS, metavar="NAME.KEY=VALUE", read=read_thresholds),
    ] = Field(default_factory=dict)
    """A backend's thresholds, as grounding_dino.box=0.3."""
    segmenter: Annotated[str, option(panel=MODELS)] = ""
    """What cuts boxes out, or none."""
    detector: Annotated[str, option(panel=MODELS)] = ""
    """What finds the people a parser is given one by one, or none."""
    tracker: Annotated[str, option(panel=MODELS)] = ""
    """What follows through videos, or none."""
    combine: Annotated[
        Literal["union", "intersect", "subtract", "replace", "fill", "blend"], option(panel=MODELS)
    ] = "union"
    """Of several backends: union, intersect, subtract, replace, fill, blend."""
    longest: Annotated[WholeNumber, option(panel=MODELS)] = 0
    """Pixels of the longer side models see; 0: all."""
    devices: Annotated[tuple[str, ...], Field(min_length=1), option("--device", panel=MODELS)] = (
        "auto",
    )
    """auto, cuda:0, cpu ...; one process each."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], option(panel=MODELS)] = (
        "auto"
    )
    """auto, float32, bfloat16, float16."""
    batch: Annotated[Count, option(panel=MODELS)] = 4
    """Pictures at a time."""
    attention: MaskAttention = MaskAttention()
    """The backend `attention`."""
    cleanup: MaskCleanup = MaskCleanup()
    """What is done to each region's mask."""
    tracking: MaskTracking = MaskTracking()
    """Videos."""
    soft: Annotated[bool, option(panel=FILES)] = False
    """Also a soft plane a region."""
    brush: Annotated[Path | None, option(panel=FILES)] = None
    """Folder of label images laid over the result (255: leave as it is)."""
    stability: Annotated[bool, option(panel=WORK)] = False
    """Look at each picture mirrored and smaller too (three times the work)."""
    workers: Annotated[WholeNumber, option(panel=WORK)] = 0
    """Processes (threads beside a model); 0 chooses."""


class MaskRequest(Section):
    """One call of `frisket masks make`: the section, and what is of this call alone.

    What could destroy work (`overwrite`), loads code (`noun_phrases`) or is asked of a person
    stands in no file.
    """

    folder: Annotated[Path, ARGUMENT]
    """Folder of clips (or one with `clips` in it)."""
    config: Annotated[Path | None, option(metavar="FILE")] = None
    """Config file with [maskgen], a training config or one of masks alone; options typed here go
    before it."""
    overrides: Annotated[tuple[str, ...], option("--set", metavar="KEY=VALUE")] = ()
    """Change one key of it, e.g. --set maskgen.cleanup.grow=3."""
    ask_people: Annotated[bool, option("--people")] = False
    """The best parser of people on this machine; without one, asks before a small model is
    fetched."""
    noun_phrases: Annotated[str, option(panel=PROMPTS, metavar="spacy:PIPELINE")] = ""
    """What reads captions: an installed spaCy pipeline, as spacy:en_core_web_sm; by default word
    lists."""
    maskgen: MaskGeneration = MaskGeneration()
    overwrite: Annotated[bool, option(panel=FILES)] = False
    """Also masks painted by hand."""
    again: Annotated[bool, option(panel=FILES)] = False
    """Also what is done already."""
    review: Annotated[bool, option(panel=WORK)] = False
    """Then write the review page."""
    only: Annotated[tuple[str, ...], option(panel=WORK, metavar="NAME")] = ()
    """Only the clip of this name (its path below the clip folder, without suffix)."""
    limit: Annotated[WholeNumber, option(panel=WORK)] = 0
    """Stop after so many clips."""
    dry_run: Annotated[bool, option(panel=WORK)] = False
    """Say what would be done."""


class PointRequest(Section):
    """One call of `frisket masks point`: what is meant by clicks, a box or words."""

    clip: Annotated[Path, ARGUMENT]
    """The picture."""
    at: Annotated[tuple[str, ...], option("--at", metavar="X,Y")] = ()
    """A point inside the thing, in pixels."""
    outside: Annotated[tuple[str, ...], option("--not", metavar="X,Y")] = ()
    """A point outside it."""
    box: Annotated[str, option(metavar="L,T,R,B")] = ""
    """Left, top, right and bottom of a box around it, in pixels."""
    text: str = ""
    """Words for it, instead of points: needs a model that reads them."""
    region: Annotated[str, Field(min_length=1)] = "subject"
    """Region it becomes."""
    mode: Literal["add", "subtract", "replace"] = "add"
    """add, subtract, or replace what the region was."""
    candidate: Count = 1
    """Which of up to three proposals, the likeliest first."""
    backend: Annotated[str, option("--backend", "-b")] = "auto"
    """auto: SAM 3 or SAM 2 where a folder or the hub's cache has one, else `draft` (GrabCut)."""
    sources: Annotated[
        dict[str, str], option("--source", metavar="NAME=PATH", read=read_sources)
    ] = Field(default_factory=dict)
    """Folder of a backend's weights, as sam2=FOLDER."""
    device: str = "auto"
    """auto, cuda:0, cpu ..."""
    clips: Path | None = None
    """Clip folder, where the picture lies in a folder below it."""
    output: Annotated[Path | None, option("--output", "-o")] = None
    """Mask folder; by default `masks` beside `clips`."""
    beside: bool = False
    """Mask beside the clip, as name.mask.png."""

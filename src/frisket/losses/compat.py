"""Other trainers' masked losses as choices of ours, so that a learning rate keeps its meaning."""

from dataclasses import dataclass
from typing import Literal

from frisket.losses.base import ErrorKind, Normalise

# What may be true of a run; a departure shows where all of its own are.
Fact = Literal[
    "empty",  # a mask is black all over, and no floor lifts it
    "folder",  # masks come as files of their own, not as the clip's alpha
    "full",  # a mask is white all over
    "many",  # several clips a batch
    "mixed",  # some clips have a mask, some have none
    "normalised",  # the loss is divided by the mask's mean
    "pooled",  # the loss is divided by the mean of all the batch's masks, and there is no prior
    "prior",
    "segments",  # masks are cut at a threshold
    "soft",  # they are not
    "unmasked",  # a share of the draws trains without the mask
    "video",
]


@dataclass(frozen=True, slots=True)
class Departure:
    """What a trainer does otherwise than it documents or means, and what is done here instead."""

    message: str
    when: frozenset[Fact] = frozenset()


@dataclass(frozen=True, slots=True)
class PriorRule:
    """How a trainer holds what is outside the mask to the frozen model."""

    normalise: Literal["batch"] | None = None  # None: divided as the loss is
    reading: Literal["bicubic"] | None = None  # None: 1 - weights
    unscaled_by: frozenset[str] = frozenset()  # weights it is not multiplied by (training.plan)
    alone: bool = False  # under a threshold its cells are its own
    options: frozenset[str] = frozenset()  # of the term `prior`, what the trainer has too


@dataclass(frozen=True, slots=True)
class Compat:
    """The choices of one trainer. Where several are allowed, the first is its default."""

    title: str
    reading: Literal["mean", "bilinear", "nearest", "nearest-exact"]
    normalise: tuple[Normalise, ...]
    kinds: tuple[ErrorKind, ...] = ("mse",)
    floor: Literal["clamp", "affine"] | None = None
    gamma: bool = False
    threshold: float | None = None  # the one its segmentation masks are cut at
    area: bool = False  # scales by mean(raw mask)^beta
    draw: Literal["sample", "batch"] | None = None  # what is drawn to train without the mask
    prior: PriorRule | None = None
    departures: tuple[Departure, ...] = ()

    def meaning(self, normalise: Normalise) -> str:
        """One line for the banner."""
        floor = f", floor {self.floor}" if self.floor else ""
        return (
            f"as {self.title}: masks shrunk by {self.reading}{floor}, normalise = {normalise};"
            " learning rates mean what they meant there"
        )


def _departs(message: str, *when: Fact) -> Departure:
    return Departure(message, frozenset(when))


STILL = "it lays one still mask over all frames; here a mask video weighs frame by frame"

# docs/compat.md gives the formulas in full. Each departure was looked at in the code of the commits
# that tests/losses/peers/*.json name, most by running it (tests/losses/test_compat_defects.py).
COMPATS: dict[str, Compat] = {
    "kohya": Compat(
        "kohya sd-scripts",
        reading="mean",
        normalise=("none",),
        kinds=("mse", "l1"),
        departures=(
            _departs(
                "it squashes mask files to the bucket, whatever is cropped of the picture; here"
                " they are cropped like their clip",
                "folder",
            ),
        ),
    ),
    "onetrainer": Compat(
        "OneTrainer",
        reading="bilinear",
        normalise=("none", "sample"),
        kinds=("mse", "l1", "huber"),
        floor="clamp",
        draw="sample",
        prior=PriorRule(),
        departures=(
            _departs(
                "it keeps masks in train_dtype: in bfloat16 its loss is off by up to 0.14 %, its"
                " gradients by 0.42 %; here they are float32"
            ),
            _departs(
                "on latents with a frame axis it divides every column by that column's own mean;"
                " here every sample by its mean",
                "normalised",
            ),
            _departs("an empty mask makes its loss NaN; here it is 0", "normalised", "empty"),
            _departs(
                "a full mask makes its prior NaN; here it is 0", "normalised", "prior", "full"
            ),
            _departs(
                "unmasked_probability does nothing there except on inpainting models; here it"
                " draws on every model",
                "unmasked",
            ),
            _departs(STILL, "video"),
        ),
    ),
    "simpletuner": Compat(
        "SimpleTuner",
        reading="mean",
        normalise=("none",),
        threshold=0.0,
        draw="batch",
        departures=(
            _departs(
                "it reads only the first frame of a mask and stops at video latents; here every"
                " frame weighs by its own",
                "video",
            ),
            _departs(
                "masked_loss_probability counts there for segmentation masks only; here for every"
                " mask",
                "unmasked",
                "soft",
            ),
            _departs("a clip without a mask stops it; here it teaches everywhere", "mixed"),
        ),
    ),
    "ai-toolkit": Compat(
        "ai-toolkit",
        reading="nearest",
        normalise=("batch",),
        kinds=("mse", "l1"),
        floor="affine",
        prior=PriorRule(normalise="batch", reading="bicubic", unscaled_by=frozenset({"t", "set"})),
        departures=(
            _departs(
                "it keeps masks in float16 and takes their mean in train.dtype: in bf16 its loss is"
                " off by up to 0.33 %, its gradients by 0.5 %; here both are float32"
            ),
            _departs(
                "it blurs every mask by a random radius of up to 0.5 % of the picture; here none is"
                " (masks.feather gives a fixed one)"
            ),
            _departs(
                "in a batch with masks, a clip without one weighs 0 there; here it teaches"
                " everywhere",
                "mixed",
            ),
            _departs(
                "a batch of empty masks makes its loss NaN and the step is lost; here it is 0",
                "empty",
            ),
            _departs(
                "its prior takes the first clip's mask for the whole batch; here each has its own",
                "prior",
                "many",
            ),
            _departs(
                "where a model is handed its first frame clean (Wan 2.2 5B) its prior holds that"
                " frame too; here nothing is predicted there, and nothing held",
                "prior",
                "video",
            ),
            _departs(STILL, "video"),
        ),
    ),
    "diffusion-pipe": Compat(
        "diffusion-pipe",
        reading="nearest-exact",
        normalise=("none",),
        kinds=("mse", "huber", "smooth_l1"),
        departures=(
            _departs(
                "it keeps masks in float16: its loss is off by up to 0.012 %, its gradients by"
                " 0.032 %; here they are float32"
            ),
            _departs(STILL, "video"),
        ),
    ),
    "blissful": Compat(
        "blissful-tuner (DustyL)",
        reading="mean",
        normalise=("batch", "sample"),
        kinds=("mse", "huber"),
        floor="affine",
        gamma=True,
        area=True,
        prior=PriorRule(alone=True, options=frozenset({"threshold", "t_min", "warmup", "teacher"})),
        departures=(
            _departs(
                "it keeps masks in float16: its loss is off by up to 0.021 %, its gradients by"
                " 0.071 %; here they are float32"
            ),
            _departs("a batch of empty masks stops it; here its loss is 0", "empty", "pooled"),
            _departs(STILL, "video"),
        ),
    ),
}

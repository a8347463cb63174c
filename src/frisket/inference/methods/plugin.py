"""The contract of methods that a user names: what they need, and how they come to a pipeline.

A plugin is one file of `plugins`. It is asked four things, in this order: whether it runs on a
variant, whether it can act on the samples (nothing is read for either), to read its own files (no
denoiser is loaded), and to be built for the loaded parts. What can be refused is refused in the
first three.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.faces.base import FaceEmbedding
from frisket.families.base import Family, Parts
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import SampleSpec
from frisket.licence import Licence
from frisket.registry import Shelf
from frisket.shapes import Weights

ClipSize = tuple[int, int, int]  # frames, height and width, in pixels


class MethodUnusable(ValueError):
    """A method that cannot run on this model, or with what it was given; says what would do."""


@dataclass(frozen=True, slots=True)
class ReferencePicture:
    """A picture that a method is shown, with the face in it where the method reads faces.

    `keypoints` are (x, y) in pixels of `frame`: eyes, nose, corners of the mouth, as the picture
    shows them from left to right.
    """

    path: Path
    frame: UInt8[Tensor, "H W 3"]
    face: FaceEmbedding | None = None
    keypoints: Float[Tensor, "5 2"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRequest:
    """What a user asks of one method.

    `source` is the file or folder with the method's weights, `encoder` the folder of the image
    encoder that goes with it, where it has one. All `references` show one person or thing. `pose`
    is the picture whose key points the result takes (None: the first reference's). `masks` are
    where the method acts, by the size of the clip, on its latent grid (1 1 f h w in [0, 1]); empty
    is everywhere. `strict` blends predictions, so that nothing outside changes. `options` is an
    instance of the plugin's own.
    """

    source: Path
    references: tuple[ReferencePicture, ...]
    encoder: Path | None = None
    pose: ReferencePicture | None = None
    scale: float = 1.0
    masks: Mapping[ClipSize, Weights] = field(default_factory=dict)
    strict: bool = False
    options: Any = None

    def __post_init__(self) -> None:
        """MethodUnusable for a scale that is no number, and for strict without masks."""
        if not math.isfinite(self.scale):
            raise MethodUnusable(f"scale is {self.scale}; a method's scale is a finite number")
        if self.strict and not self.masks:
            raise MethodUnusable("strict keeps what is outside a mask as it is: give one (mask)")


@runtime_checkable
class ReadMethod(Protocol):
    """A method with its files read and its references projected, before the denoiser is there."""

    def build(self, family: Family, parts: Parts) -> Method:
        """The method for a loaded denoiser; MethodUnusable where its layers are not the file's."""
        ...


def accept_samples(options: Any, specs: Sequence[SampleSpec]) -> None:
    """The check of a method that can act on whatever a model can make."""


@dataclass(frozen=True, slots=True)
class MethodPlugin:
    """One method of the shelf.

    `refuse(family, variant)` gives the reason why it cannot run there, empty where it can;
    `check(options, specs)` raises MethodUnusable for samples that it cannot act on. `options` is a
    frozen dataclass of what is the method's own; its fields are keys of the config
    (`[identity.options]`). `reads` is what it wants of a reference: the picture alone, its face, or
    the face with key points. `read` raises MethodUnusable, AdapterMismatch (a file that is not
    what it should be), EmbeddingMixup, and FileNotFoundError with where the file is published.
    """

    summary: str  # one line for `frisket methods`
    reads: Literal["picture", "face", "face and key points"]
    files: str  # what `source` must be
    published: str  # where that is to be had
    licence: Licence
    refuse: Callable[[Family, str], str]
    read: Callable[[MethodRequest, Family, str], ReadMethod]
    options: type[Any]
    encoder: str = ""  # what `encoder` must be; empty where none is needed
    trains: str = ""  # what of it Frisket trains, for the table; empty where nothing
    guides: bool = False  # makes the guided prediction itself: no other such method beside it
    check: Callable[[Any, Sequence[SampleSpec]], None] = accept_samples
    changes_text: bool = False  # puts tokens into the prompt: words are no longer where they were


METHODS: Shelf[MethodPlugin] = Shelf(
    "frisket.inference.methods.plugins", "METHOD", "frisket.methods"
)

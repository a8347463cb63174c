"""Reads what FastFace needs: a FaceID file, and the options of its guidance and its maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from frisket.adapters.image.layouts import ImageAdapterKind
from frisket.families.base import Family, Parts
from frisket.inference.methods.identity.adapter_layers import refuse_places
from frisket.inference.methods.identity.attention_maps import (
    ChangedAttention,
    MapChange,
    ScalePower,
    ScheduledMask,
)
from frisket.inference.methods.identity.decoupled import check_strength
from frisket.inference.methods.identity.fastface.method import DecoupledStrengths, FastFace
from frisket.inference.methods.identity.guidance import GuidanceKind, GuidanceStrength
from frisket.inference.methods.identity.image_attention import Attend, attend_plainly
from frisket.inference.methods.identity.reference_method import ReadImageAdapter, read_request
from frisket.inference.methods.identity.reference_tokens import Combination
from frisket.inference.methods.identity.unets import has_unet
from frisket.inference.methods.plugin import MethodRequest, MethodUnusable
from frisket.inference.sample_specs import SampleSpec

KINDS: tuple[ImageAdapterKind, ...] = ("faceid", "faceid-plus", "faceid-plusv2")
SharpMaps = Literal["none", "power", "mask"]
Course = Literal["constant", "linear", "cosine", "cap", "power cosine"]


@dataclass(frozen=True, slots=True)
class FastFaceOptions:
    """FastFace's own; the numbers are the authors' strong style for four steps (at a scale of 0.8).

    `a` is the identity's strength and `b` the text's: one number, or one a step; both times a
    course of the noise level (`a_course`, `b_course`; "power cosine" takes `power`; `inverse` turns
    them round, `least` is a floor). a = b is plain guidance by that number. `guidance` says what
    the prediction between the sides was told: "identity" (the paper's), "text", "apart", or "none"
    for the pipeline's own guidance (the authors' realistic style: maps alone, without guidance).
    `rescale` and `renorm` as in `combine_decoupled`.

    `maps` changes where a face's tokens are read: "power", "mask" (by the step, token 0 being the
    background's) or "none"; `moments` below 1 brings that much of the map's moments back (theirs
    with "mask": 0.7); `map_tokens` are those that change.

    `kind`, `combination`, `structure` and `lora` are FaceID's: the version of a plus file, what
    several faces become, CLIP's part in plusv2, and the strength of the file's LoRA (theirs is 0.6
    to 1).
    """

    a: float | tuple[float, ...] = (1.0, 1.5, 1.5, 1.0)
    b: float | tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    a_course: Course = "constant"
    b_course: Course = "constant"
    power: float = 1.0
    inverse: bool = False
    least: float | None = None
    guidance: GuidanceKind | Literal["none"] = "identity"
    rescale: float = 0.75
    renorm: bool = False
    maps: SharpMaps = "power"
    moments: float = 1.0
    map_tokens: tuple[int, ...] = (0, 1, 2, 3)
    kind: Literal["", "faceid-plus", "faceid-plusv2"] = ""
    combination: Combination = "mean"
    structure: float = 1.0
    lora: float = 1.0

    def __post_init__(self) -> None:
        """MethodUnusable for numbers that mean nothing together, naming both."""
        for name in ("a", "b"):
            values, course = self._list_values(name), getattr(self, f"{name}_course")
            if not values:
                raise MethodUnusable(f"{name} is empty: give one strength, or one a step")
            if len(values) > 1 and course != "constant":
                raise MethodUnusable(
                    f"{name} = {values} says every step, so {name}_course = {course!r} has nothing"
                    " to say: give one number, or leave the course out"
                )
            if not all(map(math.isfinite, values)):
                raise MethodUnusable(f"{name} = {values} must be finite numbers")
        if any(token < 0 for token in self.map_tokens):
            raise MethodUnusable(f"map_tokens = {self.map_tokens} are counted from 0")
        if not 0 <= self.rescale <= 1 or not 0 <= self.moments <= 1:
            raise MethodUnusable(
                f"rescale = {self.rescale:g} and moments = {self.moments:g} are shares: from 0 to 1"
            )

    def list_strengths(self) -> DecoupledStrengths | None:
        """The guidance; None for the pipeline's own."""
        if self.guidance == "none":
            return None
        first, second = self._make_strength("a"), self._make_strength("b")
        return DecoupledStrengths(first, second, self.guidance, self.renorm, self.rescale)

    def make_attend(self, *, unet: bool) -> Attend:
        """How layers read the face: of a UNet all but the middle are changed, of others all."""
        changes: dict[str, tuple[MapChange, tuple[int, ...]]] = {
            "power": (ScalePower(), ()),
            "mask": (ScheduledMask(), (0,)),
        }
        if self.maps == "none":
            return attend_plainly
        change, background = changes[self.maps]
        return ChangedAttention(
            change.change,
            tokens=self.map_tokens,
            background=background,
            weight=self.moments,
            parts=("down_blocks", "up_blocks") if unet else ("",),
        )

    def _list_values(self, name: str) -> tuple[float, ...]:
        values = getattr(self, name)
        return tuple(values) if isinstance(values, Sequence) else (values,)

    def _make_strength(self, name: str) -> GuidanceStrength:
        values, course = self._list_values(name), getattr(self, f"{name}_course")
        if len(values) > 1:
            return GuidanceStrength(values=values)
        is_power = course == "power cosine"
        return GuidanceStrength(
            values[0],
            "constant" if is_power else course,
            self.power if is_power else None,
            self.inverse,
            self.least,
        )


def refuse_single_side(family: Family, variant: str) -> str:
    """Why FastFace cannot run on a variant; empty where it can."""
    if reason := refuse_places(family, variant):
        return reason
    if not family.variants[variant].negative:
        return (
            f"{family.name} {variant} takes no negative prompt: it is told its guidance as a number"
            " and asked about one side alone, so there are no two sides whose identity and text"
            " could be guided apart"
        )
    return ""


def check_samples(options: FastFaceOptions | None, specs: Sequence[SampleSpec]) -> None:
    """MethodUnusable for samples of too little guidance, or of more steps than strengths.

    A pipeline that guides its second expert by less than its first is refused when it is called.
    """
    strengths = (options or FastFaceOptions()).list_strengths()
    if strengths is None:
        return
    for spec in specs:
        try:
            check_strength(spec.guidance)
            for strength in (strengths.first, strengths.second):
                strength.check(spec.steps)
        except ValueError as error:
            raise MethodUnusable(f"fastface, {spec.prompt!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class ReadFastFace:
    """A FaceID file read and its faces projected; waits for the denoiser."""

    face: ReadImageAdapter
    options: FastFaceOptions

    def build(self, family: Family, parts: Parts) -> FastFace:
        """The method; MethodUnusable where the denoiser's layers are not the file's."""
        face = self.face.build(family, parts)
        attend = self.options.make_attend(unet=has_unet(family, parts.variant))
        return FastFace(family, face, attend, self.options.list_strengths())


def read_fastface(request: MethodRequest, family: Family, variant: str) -> ReadFastFace:
    """Read the file and project the faces; raises what a plugin's `read` raises."""
    if reason := refuse_single_side(family, variant):
        raise MethodUnusable(reason)
    options = request.options or FastFaceOptions()
    face = read_request(
        request,
        family,
        variant,
        kinds=KINDS,
        kind=options.kind or None,
        combination=options.combination,
        structure=options.structure,
        lora_scale=options.lora,
    )
    count = face.tokens.tokens.shape[1]
    if options.maps != "none" and max(options.map_tokens, default=0) >= count:
        raise MethodUnusable(
            f"map_tokens = {options.map_tokens}: {request.source} makes {count} tokens of a face,"
            f" 0 to {count - 1}"
        )
    return ReadFastFace(face, options)

"""Layouts of public image adapter files, told by the names and shapes of their tensors."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from frisket.adapters.image.attention import KeyValues
from frisket.adapters.image.perceiver import HEAD
from frisket.adapters.image.projections import (
    FacePlusProjection,
    FaceProjection,
    FaceResamplerProjection,
    ImageProjection,
    PooledProjection,
    ResamplerProjection,
    TokenwiseProjection,
)
from frisket.adapters.image.timed import TimedProjection
from frisket.adapters.image.timed_layers import TimedAttention
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.adapters.spec import AdapterMismatch

ImageAdapterKind = Literal[
    "base",
    "plus",
    "full",
    "faceid",
    "faceid-plus",
    "faceid-plusv2",
    "instantid",
    "xlabs-flux",
    "instantx-sd3",
    "uniid-adapter",
    "uniid-text",
]
Numbering = Literal["odd", "from zero", "none"]
EmbeddingForm = Literal["raw", "unit"]  # of a face: as its network answers, or of length 1
FACE_WIDTH = 512  # of the recognition networks that public adapters were trained on
_KEY_VALUE = re.compile(r"(\d+)\.to_([kv])_ip\.(weight|bias)")
_LORA = re.compile(r"(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")
_SD3 = re.compile(
    r"(\d+)\.(to_[kv]_ip\.weight|norm_(q|k|ip_q|ip_k|ip_v)\.weight|norm_ip\.linear\.(weight|bias))"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What holds for all files of a kind.

    `build` makes the projection of a file's sizes; `form` is that of a face's embedding it reads,
    None where it reads none; `numbering` that of its attention layers. `family` is the one whose
    models its public files are for, empty where UNets of several have them.
    """

    build: Callable[[Mapping[str, Tensor]], nn.Module]
    form: EmbeddingForm | None
    numbering: Numbering = "odd"
    family: str = ""


def _build_plus_with_shortcut(tensors: Mapping[str, Tensor]) -> FacePlusProjection:
    projection = FacePlusProjection.from_shapes(tensors)
    projection.shortcut = True
    return projection


LAYOUTS: dict[ImageAdapterKind, Layout] = {
    "base": Layout(PooledProjection.from_shapes, None),
    "plus": Layout(ResamplerProjection.from_shapes, None),
    "full": Layout(TokenwiseProjection.from_shapes, None),
    "faceid": Layout(FaceProjection.from_shapes, "unit"),
    "faceid-plus": Layout(FacePlusProjection.from_shapes, "unit"),
    "faceid-plusv2": Layout(_build_plus_with_shortcut, "unit"),
    "instantid": Layout(FaceResamplerProjection.from_shapes, "raw"),
    "xlabs-flux": Layout(PooledProjection.from_shapes, None, "from zero", "flux"),
    "instantx-sd3": Layout(TimedProjection.from_shapes, None, "from zero", "sd3"),
    "uniid-adapter": Layout(UniIdAdapterProjection.from_shapes, "raw"),
    "uniid-text": Layout(UniIdTextProjection.from_shapes, "raw", "none"),
}
# Kinds whose tensors have the same names: a file of one may be called the other by who knows.
ALIKE: tuple[frozenset[ImageAdapterKind], ...] = (
    frozenset({"plus", "instantid"}),
    frozenset({"faceid-plus", "faceid-plusv2"}),
)


@dataclass(frozen=True, slots=True)
class ImageAdapterFile:
    """An image adapter as a file has it.

    `projection`, `layers` and `loras` are its tensors: those of the projection, the attention's by
    `{number}.to_k_ip.weight`, and FaceID's LoRA by `{number}.to_q_lora.down.weight`. `tokens` are
    made of one image (full: 257, by the format), `width` channels each (two for UniID's text
    branch); `embedding` is the width of what the projection reads first, `states` that of what
    FaceID-Plus reads beside it. `numbers` are those of its attention layers, `inner` their widths.
    `notes` say what no tensor tells and was taken from elsewhere. `config` is what lies beside a
    branch of UniID. `family` is the one that an adapter of ours was trained on, empty for public
    files: its numbers may then be those of a transformer
    (`frisket.adapters.image.numbering.number_layers`).
    """

    kind: ImageAdapterKind
    projection: Mapping[str, Tensor]
    layers: Mapping[str, Tensor]
    loras: Mapping[str, Tensor]
    tokens: int
    width: tuple[int, ...]
    embedding: int
    states: int | None = None
    numbers: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""

    @property
    def shortcut(self) -> bool:
        """Whether the face's own tokens are added (the second version of FaceID-Plus)."""
        return self.kind == "faceid-plusv2"

    @property
    def form(self) -> EmbeddingForm | None:
        """The form of a face's embedding that it reads; None where it reads no face's."""
        return LAYOUTS[self.kind].form

    def build_projection(self) -> nn.Module:
        """The projection with its weights, in their dtype."""
        projection = LAYOUTS[self.kind].build(self.projection)
        projection.to(next(iter(self.projection.values())).dtype)
        projection.load_state_dict(dict(self.projection))
        return projection

    def build_layers(self) -> KeyValues:
        """Keys and values of all layers with their weights, in their dtype.

        AdapterMismatch for a kind whose layers have more (`build_timed_layers`), or none.
        """
        if self.kind == "instantx-sd3" or not self.layers:
            part = "norms beside keys and values" if self.layers else "no keys and values"
            raise AdapterMismatch(f"the attention layers of {self.kind} have {part}")
        layers = KeyValues.from_shapes(self.layers)
        layers.to(next(iter(self.layers.values())).dtype)
        layers.load_state_dict(dict(self.layers))
        return layers

    def build_timed_layers(self) -> dict[int, TimedAttention]:
        """Attention layers of InstantX's kind for SD3, by number; AdapterMismatch for others."""
        if self.kind != "instantx-sd3":
            raise AdapterMismatch(f"the attention layers of {self.kind} know no time")
        grouped: dict[int, dict[str, Tensor]] = {number: {} for number in self.numbers}
        for key, value in self.layers.items():
            number, _, name = key.partition(".")
            grouped[int(number)][name] = value
        return {number: TimedAttention.from_tensors(part) for number, part in grouped.items()}


def recognise(
    projection: Mapping[str, Tensor],
    layers: Mapping[str, Tensor],
    *,
    kind: ImageAdapterKind | None = None,
    plus_v2: bool = False,
    family: str = "",
) -> ImageAdapterFile:
    """What an adapter's tensors are, all of them accounted for.

    `kind` names it where the tensors leave two (`ALIKE`): without it a resampler over 512 numbers
    is InstantID's, as no CLIP is that wide, and a FaceID-Plus is of the second version where
    `plus_v2` (what its file's name says). `notes` repeat what was taken so. `family` is that of an
    adapter of ours. AdapterMismatch names the tensor that is missing, left over or of another
    shape.
    """
    likely, notes = _tell_kind(projection, layers, plus_v2=plus_v2)
    if kind is not None and kind != likely:
        if not any({kind, likely} <= group for group in ALIKE):
            raise AdapterMismatch(f"its tensors are those of {likely}, not of {kind}")
        likely = kind
    loras = {key: value for key, value in layers.items() if _LORA.fullmatch(key)}
    key_values = {key: value for key, value in layers.items() if key not in loras}
    build = _check_projection(likely, projection)
    numbers = _check_layers(likely, key_values, family)
    _check_loras(likely, loras)
    width = build.widths if isinstance(build, UniIdTextProjection) else (build.width,)
    _check_widths(likely, key_values, numbers, width[0])
    inner = tuple(key_values[f"{number}.to_k_ip.weight"].shape[0] for number in numbers)
    states = projection.get("perceiver_resampler.proj_in.weight")
    return ImageAdapterFile(
        kind=likely,
        projection=dict(projection),
        layers=key_values,
        loras=loras,
        tokens=build.tokens,
        width=width,
        embedding=_read_embedding_width(projection),
        states=None if states is None else states.shape[1],
        numbers=numbers,
        inner=inner,
        notes=() if kind is not None else notes,
        family=family,
    )


def _tell_kind(
    projection: Mapping[str, Tensor], layers: Mapping[str, Tensor], *, plus_v2: bool
) -> tuple[ImageAdapterKind, tuple[str, ...]]:
    simple: dict[str, ImageAdapterKind] = {
        "text_resampler_1.proj_in.weight": "uniid-text",
        "adapter_resampler.proj_out.weight": "uniid-adapter",
        "time_embedding.linear_1.weight": "instantx-sd3",
        "proj.3.weight": "full",
    }
    for key, kind in simple.items():
        if key in projection:
            return kind, ()
    if "proj.weight" in projection:
        return ("xlabs-flux" if "0.to_k_ip.bias" in layers else "base"), ()
    if "perceiver_resampler.proj_in.weight" in projection:
        return _tell_version(plus_v2)
    if "proj.2.weight" in projection and "norm.weight" in projection:
        return "faceid", ()
    if "latents" in projection and "proj_in.weight" in projection:
        return _tell_resampler(projection["proj_in.weight"])
    keys = ", ".join(sorted(projection)[:4]) or "nothing"
    raise AdapterMismatch(
        f"its projection has {keys} and so on, which is that of no image adapter known here"
        f" ({', '.join(LAYOUTS)})"
    )


def _tell_version(plus_v2: bool) -> tuple[ImageAdapterKind, tuple[str, ...]]:
    version, shortcut = ("second", "with") if plus_v2 else ("first", "without")
    note = (
        f"taken for the {version} version of FaceID-Plus ({shortcut} shortcut) by its file name:"
        " no tensor tells the two apart"
    )
    return ("faceid-plusv2" if plus_v2 else "faceid-plus"), (note,)


def _tell_resampler(proj_in: Tensor) -> tuple[ImageAdapterKind, tuple[str, ...]]:
    if proj_in.shape[-1] != FACE_WIDTH:
        return "plus", ()
    note = f"taken for InstantID's by the {FACE_WIDTH} numbers it reads: plus has the same tensors"
    return "instantid", (note,)


def _check_projection(
    kind: ImageAdapterKind, projection: Mapping[str, Tensor]
) -> ImageProjection | UniIdTextProjection:
    """The projection of a file's sizes; AdapterMismatch where its tensors are not all of that."""
    try:
        build = LAYOUTS[kind].build(projection)
    except KeyError as error:
        raise AdapterMismatch(f"its projection is that of {kind} without {error}") from error
    except (ValueError, IndexError, TypeError, RuntimeError, ZeroDivisionError) as error:
        if isinstance(error, AdapterMismatch):
            raise
        raise AdapterMismatch(f"the shapes of its projection fit no {kind}: {error}") from error
    _compare_shapes(f"its projection ({kind})", build.state_dict(), projection)
    assert isinstance(build, ImageProjection | UniIdTextProjection)
    return build


def _compare_shapes(
    part: str, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    if missing := sorted(set(expected) - set(tensors)):
        raise AdapterMismatch(f"{part} lacks {missing[0]} ({len(missing)} tensors in all)")
    if more := sorted(set(tensors) - set(expected)):
        raise AdapterMismatch(f"{part} has no place for {more[0]} ({len(more)} tensors in all)")
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            raise AdapterMismatch(
                f"{part}: {key} is {tuple(tensors[key].shape)}; by the others it would be"
                f" {tuple(value.shape)} (heads have {HEAD} channels)"
            )


def _check_layers(
    kind: ImageAdapterKind, layers: Mapping[str, Tensor], family: str
) -> tuple[int, ...]:
    """Numbers of the attention layers; AdapterMismatch for a name or number out of place."""
    pattern = _SD3 if kind == "instantx-sd3" else _KEY_VALUE
    matches = {key: pattern.fullmatch(key) for key in layers}
    if unknown_key := next((key for key, match in matches.items() if match is None), None):
        raise AdapterMismatch(f"its attention has {unknown_key}, which no file of {kind} has")
    numbers = tuple(sorted({int(match[1]) for match in matches.values() if match}))
    _check_numbers(kind, numbers, family)
    ends = {key.split(".", 1)[1] for key in layers} | {"to_k_ip.weight", "to_v_ip.weight"}
    for number in numbers:
        for end in sorted(ends):
            if f"{number}.{end}" not in layers:
                raise AdapterMismatch(f"its attention layer {number} lacks {number}.{end}")
    return numbers


def _check_numbers(kind: ImageAdapterKind, numbers: tuple[int, ...], family: str) -> None:
    numbering = LAYOUTS[kind].numbering
    count = 0 if numbering == "none" else len(numbers)
    if not numbers and numbering != "none":
        raise AdapterMismatch(f"it has no keys and values, which every {kind} has")
    public_numbers = tuple(range(1, 2 * count, 2) if numbering == "odd" else range(count))
    if family and numbers == tuple(range(count)):
        return
    if kind == "faceid" and numbers == tuple(range(count)):
        raise AdapterMismatch(
            "it has FaceID's projection and a transformer's numbers, as InstantX's adapter for FLUX"
            " has, which also joins the prompt's rows of single blocks, where there is no place for"
            " it here: take XLabs' (XLabs-AI/flux-ip-adapter). One of Frisket's own says its family"
            " in its metadata"
        )
    if numbers != public_numbers:
        raise AdapterMismatch(
            f"its attention layers are numbered {_shorten(numbers)}, where {kind} has"
            f" {_shorten(public_numbers)}"
        )


def _check_widths(
    kind: ImageAdapterKind, layers: Mapping[str, Tensor], numbers: tuple[int, ...], width: int
) -> None:
    for number in numbers:
        key, value = (layers[f"{number}.to_{part}_ip.weight"] for part in "kv")
        if key.shape != value.shape or key.ndim != 2:
            raise AdapterMismatch(
                f"its attention layer {number} has keys of {tuple(key.shape)} and values of"
                f" {tuple(value.shape)}"
            )
        if key.shape[1] != width:
            raise AdapterMismatch(
                f"its attention layer {number} reads tokens of {key.shape[1]} channels; its"
                f" projection ({kind}) makes {width}"
            )


def _check_loras(kind: ImageAdapterKind, loras: Mapping[str, Tensor]) -> None:
    if loras and not kind.startswith("faceid"):
        raise AdapterMismatch(f"it has a LoRA ({next(iter(loras))}), which no file of {kind} has")
    for key in loras:
        twin = key.replace(".down.", ".up.") if ".down." in key else key.replace(".up.", ".down.")
        if twin not in loras:
            raise AdapterMismatch(f"its LoRA has {key} without {twin}")


def _read_embedding_width(projection: Mapping[str, Tensor]) -> int:
    for key in ("proj.weight", "proj.0.weight", "proj_in.weight", "proj_1.proj.0.weight"):
        if key in projection:
            return projection[key].shape[1]
    return projection["adapter_resampler.proj_face_recog_model_layers.1.weight"].shape[1]


def _shorten(numbers: tuple[int, ...]) -> str:
    if len(numbers) <= 6:
        return ", ".join(map(str, numbers)) or "not at all"
    return f"{numbers[0]}, {numbers[1]}, ... {numbers[-1]} ({len(numbers)})"

"""Which family and variant another trainer's base model is, and what of its weights is taken."""

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from frisket.families.base import FAMILIES
from frisket.importers.base import Kind
from frisket.importers.files import place
from frisket.importers.noise import is_flow
from frisket.importers.options import Table, filled

TRAINERS = ("onetrainer", "simpletuner", "ai_toolkit", "diffusion_pipe", "kohya", "musubi")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FILES = (".safetensors", ".ckpt", ".pt", ".bin", ".gguf")
BLOCKS = "blocks"  # a preset of layers
LAID_OUT = ("model_index.json", "transformer", "unet")  # one of them marks diffusers' layout
DTYPES: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat16", "bfloat_16"), "bfloat16"),
    **dict.fromkeys(("fp16", "float16", "float_16"), "float16"),
    **dict.fromkeys(("no", "fp32", "float32", "float", "float_32", "tfloat_32"), "float32"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of Frisket's by name; an empty variant or expert is one that is not told."""

    family: str
    variant: str = ""
    expert: str = ""


@cache
def models() -> Mapping[str, Mapping[str, Any]]:
    """The tables of `models.toml`."""
    text = (resources.files("frisket.importers") / "models.toml").read_text("utf-8")
    return tomllib.loads(text)


def find(trainer: str, kind: str, names: Iterable[str] = ()) -> Model | None:
    """The model of a trainer's type, or None where Frisket has none.

    `names` are paths and hub ids of its weights, what counts most first. Their words go before the
    type: a run of type FLUX_DEV_1 may train Kontext.
    """
    types = models()[trainer]
    named = types.get(kind) or types.get(kind.partition(":")[0] if trainer == "ai_toolkit" else "")
    if named is None:
        return None
    family, variant, expert = (*named.split("/"), "", "")[:3]
    ends = [_end(name) for name in names]
    told = _first(models()["words"].get(family, {}), ends)
    if told == "":
        return None
    return Model(family, told or variant, expert or _first(models()["experts"], ends) or "")


def _end(name: str) -> str:
    """The last two parts of a path or hub id, in small letters and dashes."""
    parts = [part for part in re.split(r"[\\/]", name.lower()) if part]
    return re.sub(r"[^a-z0-9]+", "-", "/".join(parts[-2:]))


def _first(words: Mapping[str, str], ends: Sequence[str]) -> str | None:
    return next(
        (
            told
            for end in ends
            for pattern, told in words.items()
            if fnmatch.fnmatchcase(end, pattern)
        ),
        None,
    )


def by_checkpoint(names: Iterable[str]) -> Model | str | None:
    """The model that paths and hub ids of weights tell by themselves, what counts most first.

    The name that told it where Frisket has no such model; None where nothing tells.
    """
    for name in names:
        named = _first(models()["checkpoints"], [_end(name)])
        if named == "":
            return name
        if named is not None:
            family, variant = (*named.split("/"), "")[:2]
            told = _first(models()["words"].get(family, {}), [_end(name)])
            return name if told == "" else Model(family, told or variant)
    return None


def by_weights(names: Iterable[str]) -> str | None:
    """The network module of musubi-tuner that the names of weights tell, None where none does."""
    return _first(models()["weights"], [_end(name) for name in names])


def missing(kind: str) -> str:
    """What to say of a type that Frisket has no family for."""
    near = _first(models()["nearest"], [kind.lower()])
    families = sorted({each.split("/")[0] for name in TRAINERS for each in models()[name].values()})
    there = f"the nearest family is {near}" if near else f"there are {', '.join(families)}"
    return f"Frisket does not have this model; {there}: set [model] (`frisket families`)"


def model_of(
    table: Table,
    option: str,
    kind: str,
    *,
    trainer: str,
    weights: Sequence[tuple[Table, str]] = (),
) -> dict[str, Any]:
    """`[model]` without its dtype, with a note for each option; empty where Frisket has none.

    `option` of `table` names the model's `kind`. `weights` are the options that may name its files,
    the one that counts first: a denoiser of its own goes before the model it replaces.
    """
    given = [(owner, name) for owner, name in weights if owner.text(name) not in ("", "None")]
    model = find(trainer, kind, [owner.text(name) for owner, name in given])
    if model is None:
        table.say(option, "no equivalent", missing(kind), kind)
        for owner, name in given:
            without(owner, name)
        return {}
    if model.variant:
        said = "is model.family and model.variant here"
        table.say(option, "mapped", said + (", with model.experts" if model.expert else ""), kind)
    else:
        said = (
            "is model.family here; nothing tells the variant, so it is the family's first: set it"
        )
        table.say(option, "no equivalent", f"{said} (`frisket families {model.family}`)", kind)
    hub = trainer != "diffusion_pipe"  # which takes paths alone
    source = _source(*given[0], hub=hub) if given else models()["sources"].get(kind, "")
    for owner, name in given[1:]:
        said = f"{given[0][1]} goes before it; [model] source names one folder, file or hub id"
        owner.say(name, "no equivalent", said)
    named = {"family": model.family, "variant": model.variant, "source": source}
    return filled(**named, experts=model.expert)


def _source(table: Table, name: str, *, hub: bool) -> str:
    source, kind, said = source_of(table, name, hub=hub)
    table.say(name, kind, said)
    return source


def source_of(table: Table, name: str, *, hub: bool) -> tuple[str, Kind, str]:
    """`model.source` where an option names weights that can be read here, and what to say of it.

    Empty otherwise. `hub`: a name that is no file may be one of the model hub.
    """
    written = table.text(name)
    there = place(written, table.sheet.written.path.absolute().parent)[0]
    lost = "model.source is left empty, which takes the variant's own from the hub"
    if there is None and hub and HUB_ID.fullmatch(written) and not written.endswith(FILES):
        return written, "mapped", "is model.source here"
    if there is None:
        return "", "no equivalent", f"is not there: {lost}"
    if there.is_dir() and any((there / each).exists() for each in LAID_OUT):
        return str(there.absolute()), "mapped", "is model.source here"
    if there.is_dir():
        said = f"is not in the layout of diffusers (no transformer/ or unet/ in it): {lost}"
        return "", "no equivalent", said
    if there.suffix != ".safetensors":
        return "", "no equivalent", f"is no .safetensors file, others are not opened: {lost}"
    said = "is model.source here; what it does not hold (VAE, text encoders) must lie beside it"
    return str(there.absolute()), "mapped", f"{said}, in diffusers' folders (docs/families.md)"


def whole_blocks(model: Mapping[str, Any]) -> dict[str, str]:
    """`lora.preset` for every linear layer of the blocks, modulation too; {} where it is another.

    Of the U-Nets the layers of their attention blocks are what a family takes by itself.
    """
    if not is_flow(model) or "family" not in model:
        return {}
    presets = FAMILIES.load(str(model["family"])).lora_presets
    return {"preset": BLOCKS} if BLOCKS in presets else {}


def without(table: Table, *options: str) -> None:
    """Note the options that are given of a model that Frisket does not have."""
    for option in options:
        if table.values.get(option):
            table.say(option, "no equivalent", "belongs to a model that Frisket does not have")


def with_v(model: Mapping[str, Any], table: Table, option: str) -> dict[str, Any]:
    """`model` as one that predicts v, which an option asks for, with its note."""
    if str(model.get("variant", "")).startswith("sdxl"):
        table.say(option, "mapped", "is model.variant = sdxl-v here")
        return {**model, "variant": "sdxl-v"}
    table.say(option, "no equivalent", "of the models here only SDXL has a variant that predicts v")
    return dict(model)


def dtype_of(table: Table, name: str, default: str = "") -> str:
    """Our name of a precision; empty for one that is not there, which is left to the rules."""
    return DTYPES.get(table.text(name, default).lower(), "")


def quantised(
    table: Table, name: str, kinds: Mapping[str, str], default: str = ""
) -> dict[str, Any]:
    """`[memory]` of frozen weights in fewer bits, with its note.

    `kinds` are patterns of the trainer's names, each with ours of `memory.quantise`, or "float8"
    for `memory.storage`; empty asks for nothing, and what fits none has no equivalent.
    """
    written = table.text(name, default).lower()
    kind = _first(kinds, [written]) if written else ""
    if kind is None:
        said = "memory.quantise has nf4, int8 and fp8: set the one that fits your card"
        table.say(name, "no equivalent", said, written)
        return {}
    if not kind:
        return {}
    key = "storage" if kind == "float8" else "quantise"
    table.say(name, "mapped", f"is memory.{key} = {kind} here", written)
    return {key: kind}

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
from frisket.importers.base import NoteKind
from frisket.importers.files import locate
from frisket.importers.noise import is_flow
from frisket.importers.options import OptionTable, drop_unset

TRAINERS = ("onetrainer", "simpletuner", "ai_toolkit", "diffusion_pipe", "kohya", "musubi")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FILES = (".safetensors", ".ckpt", ".pt", ".bin", ".gguf")
BLOCKS = "blocks"  # a preset of layers
DIFFUSERS_FILES = ("model_index.json", "transformer", "unet")  # one of them marks diffusers' layout
DTYPES: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "bfloat16", "bfloat_16"), "bfloat16"),
    **dict.fromkeys(("fp16", "float16", "float_16"), "float16"),
    **dict.fromkeys(("no", "fp32", "float32", "float", "float_32", "tfloat_32"), "float32"),
}


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A model of Frisket's by name; an empty variant or expert is one that is not told."""

    family: str
    variant: str = ""
    expert: str = ""


@cache
def read_models() -> Mapping[str, Mapping[str, Any]]:
    """The tables of `models.toml`."""
    text = (resources.files("frisket.importers") / "models.toml").read_text("utf-8")
    return tomllib.loads(text)


def find_model(trainer: str, kind: str, names: Iterable[str] = ()) -> ImportedModel | None:
    """The model of a trainer's type, or None where Frisket has none.

    `names` are paths and hub ids of its weights, what counts most first. Their words go before the
    type: a run of type FLUX_DEV_1 may train Kontext.
    """
    types = read_models()[trainer]
    row = types.get(kind) or types.get(kind.partition(":")[0] if trainer == "ai_toolkit" else "")
    if row is None:
        return None
    family, variant, expert = (*row.split("/"), "", "")[:3]
    ends = [_shorten_name(name) for name in names]
    variant_by_name = _match_first(read_models()["words"].get(family, {}), ends)
    if variant_by_name == "":
        return None
    return ImportedModel(
        family,
        variant_by_name or variant,
        expert or _match_first(read_models()["experts"], ends) or "",
    )


def _shorten_name(name: str) -> str:
    """The last two parts of a path or hub id, in small letters and dashes."""
    parts = [part for part in re.split(r"[\\/]", name.lower()) if part]
    return re.sub(r"[^a-z0-9]+", "-", "/".join(parts[-2:]))


def _match_first(words: Mapping[str, str], ends: Sequence[str]) -> str | None:
    return next(
        (
            result
            for end in ends
            for pattern, result in words.items()
            if fnmatch.fnmatchcase(end, pattern)
        ),
        None,
    )


def find_by_checkpoint(names: Iterable[str]) -> ImportedModel | str | None:
    """The model that paths and hub ids of weights tell by themselves, what counts most first.

    The name that told it where Frisket has no such model; None where nothing tells.
    """
    for name in names:
        row = _match_first(read_models()["checkpoints"], [_shorten_name(name)])
        if row == "":
            return name
        if row is not None:
            family, variant = (*row.split("/"), "")[:2]
            variant_by_name = _match_first(
                read_models()["words"].get(family, {}), [_shorten_name(name)]
            )
            return (
                name if variant_by_name == "" else ImportedModel(family, variant_by_name or variant)
            )
    return None


def find_by_weights(names: Iterable[str]) -> str | None:
    """The network module of musubi-tuner that the names of weights tell, None where none does."""
    return _match_first(read_models()["weights"], [_shorten_name(name) for name in names])


def describe_missing(kind: str) -> str:
    """What to say of a type that Frisket has no family for."""
    near = _match_first(read_models()["nearest"], [kind.lower()])
    families = sorted(
        {row.split("/")[0] for name in TRAINERS for row in read_models()[name].values()}
    )
    suggestion = f"the nearest family is {near}" if near else f"there are {', '.join(families)}"
    return f"Frisket does not have this model; {suggestion}: set [model] (`frisket families`)"


def map_model(
    table: OptionTable,
    option: str,
    kind: str,
    *,
    trainer: str,
    weights: Sequence[tuple[OptionTable, str]] = (),
) -> dict[str, Any]:
    """`[model]` without its dtype, with a note for each option; empty where Frisket has none.

    `option` of `table` names the model's `kind`. `weights` are the options that may name its files,
    the one that counts first: a denoiser of its own goes before the model it replaces.
    """
    options = [(owner, name) for owner, name in weights if owner.text(name) not in ("", "None")]
    model = find_model(trainer, kind, [owner.text(name) for owner, name in options])
    if model is None:
        table.say(option, "no equivalent", describe_missing(kind), kind)
        for owner, name in options:
            note_without_model(owner, name)
        return {}
    if model.variant:
        message = "is model.family and model.variant here"
        table.say(
            option, "mapped", message + (", with model.experts" if model.expert else ""), kind
        )
    else:
        message = (
            "is model.family here; nothing tells the variant, so it is the family's first: set it"
        )
        table.say(option, "no equivalent", f"{message} (`frisket families {model.family}`)", kind)
    hub = trainer != "diffusion_pipe"  # which takes paths alone
    source = (
        _note_source(*options[0], hub=hub) if options else read_models()["sources"].get(kind, "")
    )
    for owner, name in options[1:]:
        message = f"{options[0][1]} goes before it; [model] source names one folder, file or hub id"
        owner.say(name, "no equivalent", message)
    section = {"family": model.family, "variant": model.variant, "source": source}
    return drop_unset(**section, experts=model.expert)


def _note_source(table: OptionTable, name: str, *, hub: bool) -> str:
    source, kind, message = map_source(table, name, hub=hub)
    table.say(name, kind, message)
    return source


def map_source(table: OptionTable, name: str, *, hub: bool) -> tuple[str, NoteKind, str]:
    """`model.source` where an option names weights that can be read here, and what to say of it.

    Empty otherwise. `hub`: a name that is no file may be one of the model hub.
    """
    text = table.text(name)
    path = locate(text, table.sheet.written.path.absolute().parent)[0]
    consequence = "model.source is left empty, which takes the variant's own from the hub"
    if path is None and hub and HUB_ID.fullmatch(text) and not text.endswith(FILES):
        return text, "mapped", "is model.source here"
    if path is None:
        return "", "no equivalent", f"is not there: {consequence}"
    if path.is_dir() and any((path / name_inside).exists() for name_inside in DIFFUSERS_FILES):
        return str(path.absolute()), "mapped", "is model.source here"
    if path.is_dir():
        message = (
            f"is not in the layout of diffusers (no transformer/ or unet/ in it): {consequence}"
        )
        return "", "no equivalent", message
    if path.suffix != ".safetensors":
        return "", "no equivalent", f"is no .safetensors file, others are not opened: {consequence}"
    message = "is model.source here; what it does not hold (VAE, text encoders) must lie beside it"
    return str(path.absolute()), "mapped", f"{message}, in diffusers' folders (docs/families.md)"


def map_whole_blocks(model: Mapping[str, Any]) -> dict[str, str]:
    """`lora.preset` for every linear layer of the blocks, modulation too; {} where it is another.

    Of the U-Nets the layers of their attention blocks are what a family takes by itself.
    """
    if not is_flow(model) or "family" not in model:
        return {}
    presets = FAMILIES.load(str(model["family"])).lora_presets
    return {"preset": BLOCKS} if BLOCKS in presets else {}


def note_without_model(table: OptionTable, *options: str) -> None:
    """Note the options that are given of a model that Frisket does not have."""
    for option in options:
        if table.values.get(option):
            table.say(option, "no equivalent", "belongs to a model that Frisket does not have")


def with_v(model: Mapping[str, Any], table: OptionTable, option: str) -> dict[str, Any]:
    """`model` as one that predicts v, which an option asks for, with its note."""
    if str(model.get("variant", "")).startswith("sdxl"):
        table.say(option, "mapped", "is model.variant = sdxl-v here")
        return {**model, "variant": "sdxl-v"}
    table.say(option, "no equivalent", "of the models here only SDXL has a variant that predicts v")
    return dict(model)


def map_dtype(table: OptionTable, name: str, default: str = "") -> str:
    """Our name of a precision; empty for one that is not there, which is left to the rules."""
    return DTYPES.get(table.text(name, default).lower(), "")


def map_quantisation(
    table: OptionTable, name: str, kinds: Mapping[str, str], default: str = ""
) -> dict[str, Any]:
    """`[memory]` of frozen weights in fewer bits, with its note.

    `kinds` are patterns of the trainer's names, each with ours of `memory.quantise`, or "float8"
    for `memory.storage`; empty asks for nothing, and what fits none has no equivalent.
    """
    text = table.text(name, default).lower()
    kind = _match_first(kinds, [text]) if text else ""
    if kind is None:
        message = "memory.quantise has nf4, int8 and fp8: set the one that fits your card"
        table.say(name, "no equivalent", message, text)
        return {}
    if not kind:
        return {}
    key = "storage" if kind == "float8" else "quantise"
    table.say(name, "mapped", f"is memory.{key} = {kind} here", text)
    return {key: kind}

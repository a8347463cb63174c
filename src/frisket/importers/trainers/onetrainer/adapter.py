"""OneTrainer's adapters, as [lora]."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.onetrainer.words import word_of

METHODS = ("FINE_TUNE", "LORA", "EMBEDDING", "FINE_TUNE_VAE")
KINDS = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr"}
EVERY_LAYER = "/./"  # a target that hits every layer
UNADAPTED = {"HUNYUAN_VIDEO": ("x_embedder.proj",)}  # convolutions of three axes get no adapter
FORMATS = {"DIFFUSERS_LORA": "diffusers", "KOHYA_LORA": "kohya", "COMFY_LORA": "comfyui"}
FUSED = ("ORIGINAL_LORA", "COMFY_LORA", "KOHYA_LORA")
OF_KIND: Mapping[str, Sequence[str]] = {  # options that one kind of adapter alone reads
    "LORA": (
        *("lora_decompose", "lora_decompose_norm_epsilon", "lora_decompose_output_axis"),
        "lora_rank",
    ),
    "LOHA": ("lora_rank",),
    "LOKR": (
        *("lokr_dim", "lokr_decompose_both", "lokr_decompose_factor", "lokr_use_tucker"),
        *("lokr_weight_decompose", "lokr_dora_on_output", "lokr_full_matrix", "lokr_vec_trick"),
    ),
    "OFT_2": ("oft_block_size", "oft_block_share", "oft_scaled"),
}


def is_adapter(config: OptionTable) -> bool:
    """Whether an adapter of a kind that is here is trained, at a rate that fits it."""
    trained = word_of(config, "training_method", METHODS, METHODS[0]) == "LORA"
    return trained and word_of(config, "peft_type", (*OF_KIND,), "LORA") in KINDS


def adapter_of(config: OptionTable, model_type: str) -> dict[str, Any]:
    """[lora]; what trains no adapter there is told, and Frisket's own stands."""
    method = word_of(config, "training_method", METHODS, METHODS[0])
    if method != "LORA":
        _tell_unadapted(config, method)
        return {}
    config.say("training_method", "mapped", "is [lora] here")
    if "embedding" in config:
        config.say("embedding", "not needed", "no embedding is trained besides a LoRA")
    peft = word_of(config, "peft_type", (*OF_KIND,), "LORA")
    if peft not in KINDS:
        message = "is not here: a plain LoRA is trained, set its size in [lora] and optimizer.lr"
        config.say("peft_type", "no equivalent", message)
    _answer(config, peft)
    return _read_size(config, peft) | drop_unset(
        source=config.text("lora_model_name"),
        targets=_read_targets(config),
        exclude=list(UNADAPTED.get(model_type, ())) if not config.text("layer_filter") else [],
        format=_read_format(config),
    )


def _tell_unadapted(config: OptionTable, method: str) -> None:
    """What a method of training other than LORA trains there."""
    trained = {"EMBEDDING": "an embedding", "FINE_TUNE_VAE": "the VAE"}
    message = (
        f"trains {trained.get(method, 'the whole model')} there; Frisket trains an adapter of"
        " the denoiser: [lora] sets its size, and optimizer.lr its rate"
    )
    config.say("training_method", "no equivalent", message, method)
    for name in ("peft_type", "lora_model_name", "lora_alpha", "dropout_probability"):
        config.say(name, "not needed", f"{method} trains no LoRA")
    for name in {name for names in OF_KIND.values() for name in names}:
        config.say(name, "not needed", f"{method} trains no LoRA")


def _read_size(config: OptionTable, peft: str) -> dict[str, Any]:
    """Kind, rank, alpha and dropout; of a kind that is not here Frisket's own rank and alpha."""
    dora = peft == "LORA" and _read_dora(config)
    full_matrix = peft == "LOKR" and config.flag("lokr_full_matrix")
    if peft in ("LOHA", "LOKR") and config.number("dropout_probability", low=0):
        message = f"drops what goes into a layer there; lora.dropout of a {KINDS[peft]} its rows"
        config.say("dropout_probability", "no equivalent", message)
    rank = config.whole("lokr_dim" if peft == "LOKR" else "lora_rank", 16, low=1)
    return drop_unset(
        kind="dora" if dora else KINDS.get(peft, "lora"),
        rank=rank if peft in KINDS else None,
        alpha=None if full_matrix or peft not in KINDS else config.number("lora_alpha", 1),
        factor=config.whole("lokr_decompose_factor", -1, low=-1) if peft == "LOKR" else None,
        full_matrix=full_matrix,
        dropout=config.number("dropout_probability", low=0) or None,
    )


def _answer(config: OptionTable, peft: str) -> None:
    """Note the options that another kind of adapter reads."""
    options = OF_KIND[peft]
    for names in OF_KIND.values():
        for name in names:
            if name not in options and name in config.written:
                config.say(name, "not needed", f"{peft} does not read it")
    for name in ("lokr_decompose_both", "lokr_use_tucker", "lokr_weight_decompose"):
        if not config.flag(name):
            config.say(name, "not needed", "is off")
    if peft == "LOKR":
        config.say("lokr_vec_trick", "not needed", "about speed: it changes no step")
        if not config.flag("lokr_weight_decompose"):
            config.say("lokr_dora_on_output", "not needed", "lokr_weight_decompose is off")
        config.say("lokr_dim", "mapped", "is lora.rank here", 16)
        config.say("lokr_decompose_factor", "mapped", "is lora.factor here", -1)
        config.say("lokr_full_matrix", "mapped", "is lora.full_matrix here")


def _read_dora(config: OptionTable) -> bool:
    if not config.flag("lora_decompose"):
        for name in ("lora_decompose_norm_epsilon", "lora_decompose_output_axis"):
            config.say(name, "not needed", "lora_decompose is off")
        return False
    if config.flag("lora_decompose_output_axis"):
        config.say("lora_decompose_output_axis", "mapped", "as of lora.kind = dora here")
    else:
        message = (
            "gives a magnitude to each input of a layer; lora.kind = dora to each output, as the"
            " paper does (and as it does with this on)"
        )
        config.say("lora_decompose_output_axis", "no equivalent", message, False)
    return True


def _read_targets(config: OptionTable) -> list[str]:
    """Its filter by parts of names; none of it means every linear layer and convolution there."""
    layer_filter = config.text("layer_filter")
    parts = [part.strip() for part in layer_filter.split(",")]
    config.say("layer_filter_preset", "not needed", "a name for what layer_filter holds")
    if "" in parts:
        message = "adapters go on every linear layer and convolution there: lora.targets says so"
        config.say("layer_filter", "mapped", message, "")
        config.say("layer_filter_regex", "not needed", "there is no layer_filter")
        return [EVERY_LAYER]
    regex = config.flag("layer_filter_regex")
    config.say("layer_filter_regex", "mapped", "is lora.targets here, an expression in slashes")
    joined = "|".join(parts if regex else map(re.escape, parts))
    config.say("layer_filter", "mapped", "is lora.targets here, parts of names as an expression")
    return [f"/{joined}/"]


def _read_format(config: OptionTable) -> str | None:
    """Whose keys the file has; a format that fuses attention there trains it fused, too."""
    name = "output_model_format"
    file_format = config.text(name).upper()
    if file_format in FUSED:
        message = (
            "trains query, key and value of some models as one layer there, with one A for the"
            " three; here each has its own"
        )
        config.say(name, "no equivalent", message)
    elif file_format in FORMATS:
        config.say(name, "mapped", "is lora.format here")
    else:
        message = "lora.format says whose keys the file has: comfyui, diffusers or kohya"
        config.say(name, "not needed", message)
    return FORMATS.get(file_format)

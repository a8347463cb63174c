"""How Stable Diffusion's prompts are read in other trainers' configurations: for [model]."""

from collections.abc import Mapping
from typing import Any

from frisket.importers.flags.options import Flags
from frisket.importers.options import OptionTable

FAMILY = "stable_diffusion"
SINGLE = "sd15"  # the variant with one encoder
LAYERS = 12  # of that encoder
LENGTHS = (150, 225)


def map_sd_scripts_reading(flags: Flags, model: Mapping[str, Any]) -> dict[str, int]:
    """`model.clip_skip` and `model.max_tokens` of sd-scripts' options; {} for other families."""
    if model.get("family") != FAMILY:
        return {}
    section: dict[str, int] = {}
    if "clip_skip" in flags:
        if model.get("variant", SINGLE) == SINGLE:
            section |= _map_skip(flags, "clip_skip", flags.whole("clip_skip"))
        else:
            message = (
                "its trainer of SDXL ignores it: the last layer but one is read, as it is here"
            )
            flags.say("clip_skip", "not needed", message)
    if "max_token_length" in flags and flags.whole("max_token_length") in LENGTHS:
        section["max_tokens"] = flags.whole("max_token_length")
        flags.say("max_token_length", "mapped", "is model.max_tokens here")
    elif "max_token_length" in flags and flags.whole("max_token_length") == 75:
        flags.say("max_token_length", "not needed", "prompts of 75 tokens are what is read anyway")
    return section


def map_onetrainer_reading(config: OptionTable, model: Mapping[str, Any]) -> dict[str, int]:
    """`model.clip_skip` of OneTrainer's layers left out, which count one less; {} elsewhere."""
    single = model.get("family") == FAMILY and model.get("variant", SINGLE) == SINGLE
    name = "text_encoder_layer_skip"
    if not single or name not in config:
        return {}
    return _map_skip(config, name, config.whole(name) + 1)


def _map_skip(options: Flags | OptionTable, name: str, layer: int) -> dict[str, int]:
    if layer <= 1:
        options.say(name, "not needed", "the last layer of the text encoder is read anyway")
        return {}
    if layer > LAYERS:
        message = f"the text encoder has {LAYERS} layers: the last one is read (model.clip_skip)"
        options.say(name, "no equivalent", message)
        return {}
    options.say(name, "mapped", f"is model.clip_skip = {layer} here")
    return {"clip_skip": layer}

"""What kohya's trainers do to fit a card."""

from typing import Any

from frisket.importers.flags.options import Flags

SWITCHES: dict[str, dict[str, Any]] = {
    "gradient_checkpointing": {"checkpointing": True},
    "gradient_checkpointing_cpu_offload": {"checkpointing": True},
    "cpu_offload_checkpointing": {"checkpointing": True},
    "unsloth_offload_checkpointing": {"checkpointing": True},
    "vae_tiling": {"tile_vae": True},
    "compile": {"compile": True},
    "torch_compile": {"compile": True},
    "fp8_base": {"storage": "float8"},
    "fp8_base_unet": {"storage": "float8"},
    "fp8_scaled": {"storage": "same", "quantise": "fp8"},
    "flash_attn": {"attention": "flash"},
    "use_flash_attn": {"attention": "flash"},
    "flash3": {"attention": "_flash_3"},
    "xformers": {"attention": "xformers"},
}
MODES = {"flash": "flash", "xformers": "xformers"}  # of sd-scripts' attn_mode
SAGE = ("sage_attn", "use_sage_attn")


def map_memory(flags: Flags) -> dict[str, Any]:
    """`[memory]`: what is moved off the card, stored smaller or worked out again."""
    section: dict[str, Any] = {}
    for option, keys in SWITCHES.items():
        if flags.flag(option):
            section |= keys
    if (mode := flags.text("attn_mode")) in MODES:
        section["attention"] = MODES[mode]
    for option in SAGE:
        if flags.flag(option):
            message = (
                "sage attention has no gradient, so nothing trains through it; torch's is taken"
            )
            flags.say(option, "no equivalent", message)
    if "blocks_to_swap" in flags:
        section["swap_blocks"] = flags.whole("blocks_to_swap")
    return {name: value for name, value in section.items() if value != "same"}

"""Network modules and their arguments as kohya's GUIs choose them from a kind of LoRA."""

from collections.abc import Mapping
from typing import Any

_DROPS = ("rank_dropout", "module_dropout")
_BLOCKS = (
    *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
    *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
)
_FLUX = (
    *("img_attn_dim", "img_mlp_dim", "img_mod_dim", "single_dim", "txt_attn_dim", "txt_mlp_dim"),
    *("txt_mod_dim", "single_mod_dim", "in_dims", "train_double_block_indices"),
    "train_single_block_indices",
)
_CONV = ("conv_dim", "conv_alpha")
_COMMON = (*_CONV, "use_tucker", *_DROPS, "rank_dropout_scale", "train_norm")
_HEAVY = (*_COMMON, "bypass_mode", "dora_wd", "use_scalar")
_LYCORIS: Mapping[str, tuple[str, tuple[str, ...]]] = {  # algorithm, and fields that are arguments
    "BOFT": ("boft", _COMMON),
    "Diag-OFT": ("diag-oft", (*_COMMON, "rescaled")),
    "DyLoRA": ("dylora", (*_CONV, "use_tucker", *_DROPS, "train_norm")),
    "GLoRA": ("glora", _COMMON),
    "iA3": ("ia3", (*_CONV, "train_on_input")),
    "LoCon": ("locon", _HEAVY),
    "LoHa": ("loha", _HEAVY),
    "LoKr": ("lokr", (*_HEAVY, "factor", "use_cp", "decompose_both")),
    "Native Fine-Tuning": ("full", (*_DROPS, "rank_dropout_scale", "train_norm")),
}
_PLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
_PLAIN = {  # module, and fields that are arguments where they are set
    "Standard": ("networks.lora", (*_BLOCKS, *_DROPS)),
    "Kohya LoCon": ("networks.lora", (*_BLOCKS, *_DROPS)),
    "LoRA-FA": ("networks.lora_fa", (*_BLOCKS, *_DROPS)),
    "Kohya DyLoRA": ("networks.dylora", (*_CONV, *_BLOCKS, *_DROPS, "unit")),
    "Flux1": ("networks.lora_flux", (*_FLUX, *_DROPS)),
    "Flux1 OFT": ("networks.oft_flux", ("enable_all_linear",)),
    "HunyuanImage-2.1": ("networks.lora_hunyuan_image", _DROPS),
    "Anima": ("networks.lora_anima", _DROPS),
    "Lumina": ("networks.lora_lumina", _DROPS),
    "Kohya LoHa": ("networks.loha", ("use_tucker", *_DROPS)),
    "Kohya LoKr": ("networks.lokr", ("use_tucker", *_DROPS)),
}


def choose_network(
    fields: Mapping[str, Any], *, flux: bool = False, sd3: bool = False
) -> tuple[str, list[str]]:
    """The module and its arguments (`name=value`) for the kind of LoRA in `LoRA_type`.

    `flux`, `sd3`: the model. An empty module for a kind that kohya_ss does not know.
    """
    kind = fields.get("LoRA_type")
    if isinstance(kind, str) and kind.startswith("LyCORIS/"):
        module, arguments = _choose_lycoris(kind.removeprefix("LyCORIS/"), fields)
    elif isinstance(kind, str) and kind in _PLAIN:
        module, names = _PLAIN[kind]
        module = "networks.lora_sd3" if sd3 and module == "networks.lora" else module
        arguments = {name: fields.get(name) for name in names if fields.get(name)}
        arguments = _find_special_arguments(kind, fields, flux=flux) | arguments
    else:
        return "", []
    arguments |= {name: fields.get(name) for name in _PLUS if fields.get(name)}
    texts = (f"{name}={value}".replace('"', "").split() for name, value in arguments.items())
    return module, [word for words in texts for word in words]


def _choose_lycoris(name: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if name not in _LYCORIS:
        return "", {}
    algorithm, names = _LYCORIS[name]
    arguments = {"preset": fields.get("LyCORIS_preset"), "algo": algorithm}
    arguments |= {field: fields.get(field) for field in names}
    if name == "Diag-OFT":
        arguments["constraint"] = fields.get("constrain")
    if name == "DyLoRA":
        arguments["block_size"] = fields.get("unit")
    return "lycoris.kohya", arguments


def _find_special_arguments(kind: str, fields: Mapping[str, Any], *, flux: bool) -> dict[str, Any]:
    """Arguments that hang on more than one field."""
    if kind == "Kohya LoCon":
        return {name: fields.get(name) for name in _CONV}
    if kind in ("Kohya LoHa", "Kohya LoKr"):
        arguments = {name: fields.get(name) for name in _CONV} if fields.get("conv_dim") else {}
        factor = fields.get("factor", -1)
        return arguments | ({"factor": factor} if kind == "Kohya LoKr" and factor != -1 else {})
    return _find_flux_arguments(fields, flux=flux) if kind == "Flux1" else {}


def _find_flux_arguments(fields: Mapping[str, Any], *, flux: bool) -> dict[str, Any]:
    names = ("ggpo_beta", "ggpo_sigma") if fields.get("train_lora_ggpo") else ()
    arguments = {name: fields.get(name) for name in names if fields.get(name)}
    if fields.get("split_mode"):
        arguments["train_blocks"] = "single"
    arguments |= {"split_qkv": True} if fields.get("split_qkv") else {}
    return arguments | ({"train_t5xxl": True} if fields.get("train_t5xxl") and flux else {})

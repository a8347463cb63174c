"""ai-toolkit's options of training, as sections of a Frisket configuration."""

import re
from collections.abc import Mapping
from typing import Any

from frisket.importers.models import (
    map_dtype,
    map_model,
    map_quantisation,
    map_whole_blocks,
    note_without_model,
    with_v,
)
from frisket.importers.noise import DIFFUSION
from frisket.importers.options import OptionTable, drop_unset
from frisket.importers.trainers.ai_toolkit.noise_levels import timesteps_of
from frisket.importers.trainers.ai_toolkit.preview import preview_of
from frisket.importers.trainers.ai_toolkit.run import run_of, stepping_of, stride_of

FLAGS = {  # which told the model before `arch` did; the first that is set counts
    **{"is_v2": "sd2", "is_v3": "sd3", "is_xl": "sdxl", "is_pixart": "pixart"},
    **{"is_pixart_sigma": "pixart_sigma", "is_auraflow": "auraflow", "is_flux": "flux"},
    **{"is_lumina2": "lumina2", "is_vega": "vega", "is_ssd": "ssd"},
}
QUANTISED = {
    **dict.fromkeys(("qfloat8", "float8"), "fp8"),
    **dict.fromkeys(("qint8", "int8", "uint8"), "int8"),
}
OTHER_LOSSES = ("wavelet", "stepped", "mean_flow", "pixelspace")
PRIOR = 0.5  # its default of inverted_mask_prior_multiplier


def sections_of(
    process: OptionTable, *, masked: bool, trigger: str, job: str = ""
) -> dict[str, Mapping[str, Any]]:
    """What follows from a process besides its data sets; `trigger` fills its prompts.

    `job` is the name of the job.
    """
    train, network = process.table("train", "train"), process.table("network", "network")
    save, sample = process.table("save", "save"), process.table("sample", "sample")
    model = process.table("model", "model")
    base, bits = _read_model(model, train)
    stride = stride_of(train)
    lora = _read_lora(process, network, base)
    sections: dict[str, dict[str, Any]] = {
        "model": base,
        "losses": _read_loss(train, masked=masked),
        "timesteps": timesteps_of(train, base, kind_of(model)[1]),
        "noise": _read_noise(train),
        "lora": lora,
        "optimizer": stepping_of(train, stride, adapted=bool(lora)) if train.values else {},
        "memory": drop_unset(
            checkpointing=train.flag("gradient_checkpointing", default=bool(train.values)),
            compile=model.flag("compile") or model.flag("block_compile"),
        )
        | bits,
        "preview": preview_of(sample, train, base, trigger, stride),
        "run": run_of(process, train, save, stride, job),
    }
    _tell(train, base)
    for table in (train, network, save, sample, model):
        table.close()
    return {name: section for name, section in sections.items() if section}


def _tell(train: OptionTable, model: Mapping[str, Any]) -> None:
    """What is trained there, or in another order, whatever the options that were given say."""
    two_experts = model.get("variant", "").endswith("a14b") and "experts" not in model
    if two_experts:
        message = (
            "there the experts take turns by this many steps, half of the run each; here the level"
            " of each clip chooses the expert"
        )
        train.say("switch_boundary_every", "no equivalent", message, 1)
    if "unet_lr" in train:
        message = (
            "is read and never used there: lr is the rate (BaseSDTrainProcess.py), and here too"
        )
        train.defect("unet_lr", message)
        train.say("unet_lr", "not needed", "lr is the rate, there and here")


def _read_noise(train: OptionTable) -> dict[str, Any]:
    return drop_unset(offset=abs(train.number("noise_offset")) or None)


def kind_of(model: OptionTable) -> tuple[str, str]:
    """The option that tells which model it is, and its architecture; "" where none is named."""
    if "arch" in model or not model.values:
        return "arch", model.text("arch")
    return next(((name, arch) for name, arch in FLAGS.items() if model.flag(name)), ("arch", "sd1"))


def _read_model(table: OptionTable, train: OptionTable) -> tuple[dict[str, Any], dict[str, Any]]:
    """[model], and what of [memory] belongs to it."""
    option, kind = kind_of(table)
    if not kind:
        return {}, {}
    sources = [(table, "unet_path"), (table, "name_or_path")]
    model = map_model(table, option, kind, trainer="ai_toolkit", weights=sources)
    if not model:
        note_without_model(table, "quantize", "qtype", "model_kwargs")
        return {}, {}
    if table.flag("is_v_pred"):
        model = with_v(model, table, "is_v_pred")
    extra = table.values.get("model_kwargs") or {}
    trained = [name for name in ("high", "low") if extra.get(f"train_{name}_noise", True)]
    if len(trained) == 1 and model.get("variant", "").endswith("a14b"):
        model["experts"] = trained[0]
    bits: dict[str, Any] = {}
    if table.flag("quantize"):
        bits = map_quantisation(table, "qtype", QUANTISED, "qfloat8")
    elif "qtype" in table:
        table.say("qtype", "not needed", "quantize is off")
    # Its own dtype is overwritten by that of the training.
    return model | drop_unset(dtype=map_dtype(train, "dtype", "fp32")), bits


def _read_loss(train: OptionTable, *, masked: bool) -> dict[str, Any]:
    losses: dict[str, Any] = {"compat": "ai-toolkit"} if masked else {}
    losses |= _read_error(train)
    multiplier = train.number("inverted_mask_prior_multiplier", PRIOR, low=0)
    if not train.flag("inverted_mask_prior"):
        message = "inverted_mask_prior is off"
        if "inverted_mask_prior_multiplier" in train:
            train.say("inverted_mask_prior_multiplier", "not needed", message)
        return losses
    if not masked:
        message = "there are no masks, so it does nothing"
        train.say("inverted_mask_prior", "not needed", message)
        return losses
    message = (
        "it lays the first clip's mask on the whole batch, and a value that is not finite drops the"
        " term (27a03a91, August 2026). Here each clip has its own mask"
    )
    train.defect("inverted_mask_prior", message)
    return losses | drop_unset(prior=multiplier)


def _read_error(train: OptionTable) -> dict[str, Any]:
    kind = train.text("loss_type", "mse")
    if kind == "mae":
        return {"denoise": {"kind": "l1"}}
    if kind == "pseudo_huber":
        message = (
            "there a pseudo-Huber loss with c = 0.01; smooth_l1 with that delta stands in, whose"
            " slope is the same near 0 and far off"
        )
        train.say("loss_type", "no equivalent", message)
        return {"denoise": {"kind": "smooth_l1", "delta": 0.01}}
    if kind in OTHER_LOSSES:
        message = "losses.denoise has mse, l1, huber and smooth_l1; mse is taken"
        train.say("loss_type", "no equivalent", message)
    elif kind != "mse":
        message = "it knows no such loss and takes mse, and so here"
        train.say("loss_type", "mapped", f"is losses.denoise here: {message}")
    return {}


def _read_lora(
    process: OptionTable, network: OptionTable, model: Mapping[str, Any]
) -> dict[str, Any]:
    """[lora]; empty for a job that trains something else, whose rate is not taken then."""
    if not network.values:
        _tell_unadapted(process)
        return {}
    kind = _read_network_type(network)
    lora = drop_unset(
        kind=kind if kind == "lokr" else None,
        dropout=network.number("dropout") or None,
        source=network.text("pretrained_lora_path"),
        **_read_layers(network, model),
    )
    if kind == "lokr" and network.flag("lokr_full_rank", default=True):
        return lora | _read_full_matrix(network)
    if kind == "lokr":
        lora["factor"] = network.whole("lokr_factor", -1, low=-1)
    rank = network.whole("rank", network.whole("linear", 4, low=1), low=1)
    alpha = network.number("linear_alpha", network.number("alpha", 1, low=0), low=0)
    if "alpha" not in network.written and "linear_alpha" not in network.written:
        network.say("linear_alpha", "mapped", "is lora.alpha here, its default", 1.0)
    return lora | {"rank": rank, "alpha": alpha or float(rank)} | _read_conv(network, model)


def _tell_unadapted(process: OptionTable) -> None:
    """What is trained there by a job without a network."""
    other = next((name for name in ("adapter", "embedding", "decorator") if name in process), "")
    action = f"{other} is trained" if other else "it trains the whole model"
    message = (
        f"there is no network: {action}. Frisket trains an adapter: [lora] sets its size, and"
        " optimizer.lr must be chosen anew for it"
    )
    process.say("network", "no equivalent", message)


def _read_network_type(network: OptionTable) -> str:
    """`lora` or `lokr`, with a note for any other type, which is a LoRA here."""
    kind = network.text("type", "lora").lower()
    if kind in ("lora", "lokr"):
        return kind
    conv = kind in ("locon", "lycoris") and "conv" in network
    message = "is a LoRA with lora.conv_rank" if conv else "is not known here: a LoRA is trained"
    network.say("type", "mapped" if conv else "no equivalent", message)
    return "lora"


def _read_full_matrix(network: OptionTable) -> dict[str, Any]:
    """A LoKr of whole matrices, beside which no rank or alpha is read."""
    message = "is lora.full_matrix here; linear, conv and their alphas are not read with it"
    network.say("lokr_full_rank", "mapped", message, value=True)
    for name in ("rank", "linear", "alpha", "linear_alpha", "conv", "conv_alpha"):
        if name in network.written:
            network.say(name, "not needed", "lokr_full_rank goes before it")
    return {"full_matrix": True, "factor": network.whole("lokr_factor", -1, low=-1)}


def _read_conv(network: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """Rank on 3 x 3 convolutions, which only the U-Nets have in their blocks."""
    rank = network.whole("conv")
    if not rank:
        return {}
    if model.get("family") != DIFFUSION:
        message = "of the models here the U-Nets alone have 3 x 3 convolutions in their blocks"
        for name in ("conv", "conv_alpha"):
            if name in network:
                network.say(name, "not needed", message)
        return {}
    return {"conv_rank": rank, "conv_alpha": network.number("conv_alpha", rank) or float(rank)}


def _read_layers(network: OptionTable, model: Mapping[str, Any]) -> dict[str, Any]:
    """`lora.preset`, or `lora.targets` and `lora.exclude` of words that names of layers hold."""
    layers: dict[str, Any] = dict(map_whole_blocks(model))
    if layers and not network.flag("transformer_only", default=True):
        network.say("transformer_only", "mapped", "is lora.preset = full here")
        layers["preset"] = "full"
    elif layers:
        message = "is lora.preset = blocks here: every linear layer of them, their modulation too"
        network.say("transformer_only", "mapped", message, value=True)
    if not network.values.get("network_kwargs"):
        return layers
    words = network.table("network_kwargs", "words")
    for name, key in (("only_if_contains", "targets"), ("ignore_if_contains", "exclude")):
        parts = [_escape_part(part) for part in words.texts(name)]
        if parts:
            layers[key] = [f"/{'|'.join(parts)}/"]
            if key == "targets":
                layers.pop("preset", None)
    words.close()
    return layers


def _escape_part(part: str) -> str:
    """An expression for words of a layer's name, which may stand there with _ or $$ for a dot."""
    for before in ("transformer.", "transformer$$", "unet.", "lora_unet_"):
        part = part.removeprefix(before)
    return re.escape(part.replace("$$", ".")).replace("_", "[._]")

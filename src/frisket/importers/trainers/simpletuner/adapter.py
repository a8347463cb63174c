"""SimpleTuner's adapters, as [lora]."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from frisket.importers.base import BadImport
from frisket.importers.files import read_config
from frisket.importers.options import OptionTable, Sheet, drop_unset
from frisket.importers.trainers.simpletuner.beside import find_beside

ATTENTION = ("to_k", "to_q", "to_v", "to_out.0")
ADDED = ("add_k_proj", "add_q_proj", "add_v_proj", "to_add_out")
FEED = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
SINGLE = ("proj_mlp", "proj_out")
NORMS = ("norm.linear", "norm1.linear", "norm1_context.linear")
LAYERS: Mapping[str, Sequence[str]] = {  # by family; PLAIN for all others
    "hunyuanvideo": (*ATTENTION, *ADDED),
    "flux2": (*(f"attn.{name}" for name in ATTENTION), "attn.to_qkv_mlp_proj"),
}
FLUX: Mapping[str, Sequence[str]] = {  # by flux_lora_target; without layers that are there fused
    "mmdit": ATTENTION,
    "context": ADDED,
    "context+ffs": (*ADDED, *FEED[2:]),
    "all": (*ATTENTION, *ADDED),
    "all+ffs": (*ATTENTION, *ADDED, *FEED, *SINGLE),
    "all+ffs+embedder": ("x_embedder", *ATTENTION, *ADDED, *FEED, *SINGLE),
    "ai-toolkit": (*ATTENTION, *ADDED, *FEED, *NORMS, *SINGLE),
    "tiny": ("single_transformer_blocks.7.proj_out", "single_transformer_blocks.20.proj_out"),
    "nano": ("single_transformer_blocks.7.proj_out",),
}
LYCORIS = "config/lycoris_config.json"  # its default
KINDS = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr"}
DIM, ALPHA = 4, 1  # LyCORIS' own
CLASSES = ("attention", "feedforward")  # in names of classes of modules
PRESETS = {frozenset(CLASSES[:1]): "attn", frozenset(CLASSES): "attn-mlp"}


def is_adapter(trainer: OptionTable) -> bool:
    """Whether an adapter of a kind that is here is trained, at a rate that fits it."""
    if trainer.text("model_type", "full").lower() != "lora":
        return False
    if trainer.text("lora_type", "standard").lower() != "lycoris":
        return True
    lycoris = _open_lycoris(trainer)
    return lycoris is None or lycoris.text("algo", "lora").lower() in KINDS


def adapter_of(trainer: OptionTable) -> tuple[dict[str, Any], Sheet | None]:
    """[lora], and the sheet of the file that holds LyCORIS' options, where one does."""
    if trainer.text("model_type", "full").lower() != "lora":
        message = (
            "trains the whole model there; Frisket trains an adapter: [lora] sets its size, and"
            " optimizer.lr its rate"
        )
        trainer.say("model_type", "no equivalent", message, "full")
        for name in ("lora_type", "lora_rank", "lora_alpha", "lora_dropout", "use_dora"):
            trainer.say(name, "not needed", "no adapter is trained there")
        return {}, None
    trainer.say("model_type", "mapped", "is [lora] here")
    lora = drop_unset(source=trainer.text("init_lora"), format=_read_format(trainer))
    if trainer.text("lora_type", "standard").lower() == "lycoris":
        trainer.say("lora_type", "mapped", "is lora.kind here, of the file in lycoris_config")
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "use_dora", "lora_init_type"):
            trainer.say(name, "not needed", "LyCORIS' options stand in lycoris_config")
        for name in ("flux_lora_target", "peft_lora_target_modules"):
            trainer.say(name, "not needed", "LyCORIS' layers stand in lycoris_config")
        lycoris = _open_lycoris(trainer)
        if lycoris is None:
            _tell_missing(trainer)
            return lora, None
        trainer.say("lycoris_config", "mapped", "is [lora] here, read from that file", LYCORIS)
        return lora | _read_lycoris(lycoris), lycoris.sheet
    trainer.say("lycoris_config", "not needed", "lora_type is standard")
    rank = trainer.whole("lora_rank", 16, low=1)
    dora = trainer.flag("use_dora") and "quanto" not in trainer.text("base_model_precision")
    if trainer.flag("use_dora") and not dora:
        message = "is switched off there with quanto: a plain LoRA is trained, as it was"
        trainer.say("use_dora", "not needed", message)
    return lora | drop_unset(
        kind="dora" if dora else None,
        rank=rank,
        alpha=trainer.number("lora_alpha") or rank,
        dropout=trainer.number("lora_dropout", 0.1, low=0),
        targets=_read_targets(trainer),
    ), None


def _read_format(trainer: OptionTable) -> str:
    return trainer.choice("lora_format", ("diffusers", "comfyui"), "diffusers")


def _read_targets(trainer: OptionTable) -> list[str]:
    """Names of layers: given ones, else those of the family (`get_lora_target_layers`)."""
    name, family = "peft_lora_target_modules", trainer.text("model_family").lower()
    targets = trainer.values.get(name)
    if isinstance(targets, str):
        targets = _parse_names(targets)
    if isinstance(targets, list) and targets and all(isinstance(target, str) for target in targets):
        trainer.say(name, "mapped", "is lora.targets here")
        trainer.say("flux_lora_target", "not needed", f"{name} goes before it")
        return list(targets)
    if name in trainer:
        trainer.say(name, "no equivalent", "is no list of names: the family's layers are taken")
    if family != "flux":
        trainer.say("flux_lora_target", "not needed", "the model is not FLUX.1")
        return list(LAYERS.get(family, ATTENTION))
    layers = trainer.text("flux_lora_target", "all").lower()
    if layers not in FLUX:
        message = (
            "SimpleTuner knows no such layers to train of this model: mmdit is taken, as there"
        )
        trainer.say("flux_lora_target", "no equivalent", message)
        return list(FLUX["mmdit"])
    trainer.say("flux_lora_target", "mapped", "is lora.targets here", "all")
    return list(FLUX[layers])


def _parse_names(text: str) -> Any:
    if text.strip().startswith("["):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _open_lycoris(trainer: OptionTable) -> OptionTable | None:
    """LyCORIS' options, of the file that is named; None where it is not there."""
    path = trainer.text("lycoris_config", LYCORIS)
    file = find_beside(trainer, path)
    if file is None or not file.is_file():
        return None
    read = read_config(file)
    if not isinstance(read.tree, dict):
        raise BadImport(f"{read.path}: a table of LyCORIS' options is needed")
    sheet = Sheet(read, trainer.sheet.rules, name=f"{read.path.name}: ")
    return OptionTable(sheet, "lycoris", read.tree, ())


def _tell_missing(trainer: OptionTable) -> None:
    path = trainer.text("lycoris_config", LYCORIS)
    message = f"{path} is not there: set lora.kind, rank, alpha and factor to what it holds"
    trainer.say("lycoris_config", "no equivalent", message, LYCORIS)


def _read_lycoris(lycoris: OptionTable) -> dict[str, Any]:
    algo = lycoris.text("algo", "lora").lower()
    if algo not in KINDS:
        message = "is not here: a plain LoRA is trained, set its size in [lora] and optimizer.lr"
        lycoris.say("algo", "no equivalent", message)
        lycoris.skip(f"an option of {algo}")
        return {}
    lycoris.say("algo", "mapped", "is lora.kind here")
    kind = _read_kind(lycoris, algo)
    full_matrix = kind == "lokr" and lycoris.flag("full_matrix")
    rank = None if full_matrix else lycoris.whole("linear_dim", DIM, low=1)
    if full_matrix:
        lycoris.say("linear_dim", "not needed", "full_matrix is on")
        lycoris.say("linear_alpha", "not needed", "full_matrix is on")
    lora = drop_unset(
        kind=kind,
        rank=rank,
        alpha=None if full_matrix else lycoris.number("linear_alpha", ALPHA) or rank,
        factor=lycoris.whole("factor", -1, low=-1) if kind == "lokr" else None,
        full_matrix=full_matrix,
        **_read_dropouts(lycoris, kind),
        **_read_conv(lycoris),
    )
    if kind != "lokr":
        for name in ("factor", "full_matrix", "decompose_both", "use_scalar"):
            lycoris.say(name, "not needed", f"{algo} does not read it")
    lora |= _read_classes(lycoris, factor=lora.get("factor"))
    lycoris.close()
    return lora


def _read_kind(lycoris: OptionTable, algo: str) -> str:
    """`lora.kind` of an algorithm that is here, a DoRA where it has weights decomposed."""
    if not lycoris.flag("dora_wd"):
        return KINDS[algo]
    if algo in ("lora", "locon"):
        return "dora"
    message = f"only a LoRA has it here: lora.kind = dora; {algo} is trained without"
    lycoris.say("dora_wd", "no equivalent", message)
    return KINDS[algo]


def _read_conv(lycoris: OptionTable) -> dict[str, Any]:
    """Rank and alpha on 3 x 3 convolutions, where they get any."""
    rank = lycoris.whole("conv_dim")
    return (
        drop_unset(conv_rank=rank, conv_alpha=lycoris.number("conv_alpha") or None) if rank else {}
    )


def _read_dropouts(lycoris: OptionTable, kind: str) -> dict[str, float]:
    """The chances of leaving out what this kind leaves out, there and here."""
    names = {"lora": ("dropout", "rank_dropout", "module_dropout"), "dora": ("dropout",)}
    options = names.get(kind, ("rank_dropout", "module_dropout"))
    if kind not in names:
        message = f"LyCORIS has none for a {kind}, whatever its options say"
        lycoris.say("dropout", "not needed", message)
    for name in ("rank_dropout", "module_dropout"):
        if name not in options and lycoris.number(name, low=0):
            lycoris.say(name, "no equivalent", "a dora has lora.dropout alone")
    return drop_unset(**{name: lycoris.number(name, low=0) or None for name in options})


def _choose_preset(table: OptionTable, names: Sequence[str]) -> str | None:
    """The preset that has the layers of classes of modules; of none, LyCORIS takes every layer."""
    if not names and "target_name" not in table:
        message = "every layer gets one, as without it there: lora.preset = full"
        table.say("target_module", "mapped", message, [])
        return "full"
    kinds = {next((kind for kind in CLASSES if kind in name.lower()), name) for name in names}
    preset = PRESETS.get(frozenset(kinds))
    if preset:
        message = f"is lora.preset = {preset} here, the layers of these classes"
        table.say("target_module", "mapped", message)
    elif names:
        message = "classes of modules: name endings of their layers in lora.targets"
        table.say("target_module", "no equivalent", message)
    return preset


def _read_classes(lycoris: OptionTable, *, factor: int | None) -> dict[str, Any]:
    """The preset that has the layers of its classes of modules, and what differs by class."""
    table = lycoris.table("apply_preset", "preset")
    names = table.texts("target_module")
    preset = _choose_preset(table, names)
    value = table.values.get("module_algo_map")
    overrides = value if isinstance(value, dict) else {}
    rows = [row for row in overrides.values() if isinstance(row, dict)]
    factors = {row["factor"] for row in rows if isinstance(row.get("factor"), int)}
    own_factor: dict[str, Any] = {}
    if factors and all(set(row) <= {"factor"} for row in rows) and factor is not None:
        if len(factors) == 1 and len(rows) == max(len(names), 1):
            own_factor = {"factor": factors.pop()}
            table.say("module_algo_map", "mapped", "is lora.factor here")
        else:
            message = f"lora.factor is one for all layers: {factor} is taken, not one a class"
            table.say("module_algo_map", "no equivalent", message)
    elif overrides:
        message = "lora.kind, rank and factor are the same for all layers"
        table.say("module_algo_map", "no equivalent", message)
    table.close()
    return drop_unset(preset=preset) | own_factor

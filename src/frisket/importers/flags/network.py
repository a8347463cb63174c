"""The adapter of kohya's trainers: a module, its size, and its arguments one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frisket.importers.files import locate
from frisket.importers.flags.options import Flags, parse_named_values
from frisket.importers.noise import is_flow
from frisket.importers.options import OptionTable

RANK, ALPHA = 4, 1.0  # theirs, where nothing is given
KINDS = {"lora": "lora", "locon": "lora", "lycoris": "lora", "loha": "loha", "lokr": "lokr"}
PRESETS = {
    "full": "full", "full-lin": "full", "attn-mlp": "attn-mlp", "attn-only": "attn",
    "unet-transformer-only": "attn-mlp",
}  # fmt: skip
SAME_NAMES = ("factor", "full_matrix", "rank_dropout", "module_dropout")
PLUS = ("loraplus_unet_lr_ratio", "loraplus_lr_ratio")  # the first that is given counts
LAYERS = (
    "its layers are chosen, or sized, one by one there: here all of lora.targets have one rank, and"
    " lora.exclude leaves some alone"
)
WITHOUT_EQUAL = {
    **dict.fromkeys(
        (
            "block_dims",
            "block_alphas",
            "conv_block_dims",
            "conv_block_alphas",
            "down_lr_weight",
            "mid_lr_weight",
            "up_lr_weight",
            "block_lr_zero_threshold",
            "in_dims",
            "img_attn_dim",
            "txt_attn_dim",
            "img_mlp_dim",
            "txt_mlp_dim",
            "img_mod_dim",
            "txt_mod_dim",
            "single_dim",
            "single_mod_dim",
            "context_attn_dim",
            "context_mlp_dim",
            "context_mod_dim",
            "x_attn_dim",
            "x_mlp_dim",
            "x_mod_dim",
            "emb_dims",
            "attn_dim",
            "mlp_dim",
            "mod_dim",
            "refiner_dim",
            "embedder_dims",
            "train_blocks",
            "train_double_block_indices",
            "train_single_block_indices",
            "train_block_indices",
            "network_reg_dims",
            "network_reg_lrs",
            "exclude_patterns",
            "include_patterns",
            "enable_conv",
            "enable_all_linear",
            "use_tucker",
            "use_cp",
            "use_conv_cp",
        ),
        LAYERS,
    ),
    **dict.fromkeys(
        ("train_t5xxl", "train_llm_adapter", "loraplus_text_encoder_lr_ratio"),
        "text encoders are left as they are",
    ),
    **dict.fromkeys(("ggpo_sigma", "ggpo_beta"), "gradients are not perturbed"),
    "train_norm": "norms are left as they are",
    "use_scalar": "there is no trained scale",
    "decompose_both": "LoKr keeps its smaller factor whole; lora.factor sets the size of it",
    "unbalanced_factorization": "LoKr's factors are the balanced ones; lora.factor sets their size",
    "split_qkv": "projections that are one layer in the file are one here",
    "unit": "DyLoRA is not there: all of the rank is trained in every step",
    "constraint": "there is no constraint on the update; lora.max_norm limits its norm",
    "rescaled": "the update has no trained scale",
    "block_size": "the kind that has it is not there",
}
NOTHING = ("verbose", "bypass_mode", "wd_on_output", "disable_conv_cp")  # of how, not of what


@dataclass(frozen=True, slots=True)
class Network:
    """`[lora]`, LoRA+'s ratio, and whether it stands in for a whole model or an `other` kind."""

    section: dict[str, Any]
    plus: float = 0.0
    whole: bool = False
    other: str = ""


def map_network(flags: Flags, model: Mapping[str, Any]) -> Network:
    """The adapter that is trained, with a note for each argument of its module."""
    module = flags.text("network_module")
    table = flags.at("network_args")
    arguments = parse_named_values(table, "network_args")
    algorithm = str(arguments.pop("algo", "")).lower() or module.rpartition(".")[2].lower()
    notes = _ArgumentNotes(table)
    kind, other = _map_kind(flags, algorithm, arguments, notes)
    section: dict[str, Any] = {} if kind == "lora" else {"kind": kind}
    section["rank"] = flags.whole("network_dim", RANK, low=1)
    section["alpha"] = flags.number("network_alpha", ALPHA) or float(section["rank"])
    if arguments.pop("rs_lora", False):
        section["alpha"] *= section["rank"] ** 0.5
        notes.note_mapped("rs_lora", "lora.alpha, times the root of the rank")
    dropout = flags.number("network_dropout", low=0.0) or _number(arguments.pop("dropout", 0))
    if dropout:
        section["dropout"] = dropout
    section |= _map_convolutions(arguments, notes, model, section, lycoris="lycoris" in module)
    section |= {
        name: _unquote(arguments.pop(name))
        for name in SAME_NAMES
        if notes.is_set_in(arguments, name)
    }
    if section.get("full_matrix"):
        _drop_alpha(flags, section)
    if norm := flags.number("scale_weight_norms", low=0.0):
        section["max_norm"] = norm
    section |= _find_source(flags)
    plus = _map_lora_plus(arguments, notes)
    notes.note_rest(arguments)
    whole = not (algorithm or "network_dim" in flags)
    return Network(section, plus, whole, other)


def _find_source(flags: Flags) -> dict[str, Any]:
    """`lora.source`, where training goes on from weights; as it is written where it is not here."""
    name = flags.text("network_weights")
    if not name:
        return {}
    folder = flags.at("network_weights").sheet.written.path.absolute().parent
    return {"source": str(locate(name, folder)[0] or name)}


def _drop_alpha(flags: Flags, section: dict[str, Any]) -> None:
    """Leave alpha out of `[lora]`: a whole matrix has a scale of 1, whatever alpha says."""
    for name in ("alpha", "conv_alpha"):
        section.pop(name, None)
    message = "counts for nothing there: of a LoKr's whole matrices the scale is 1"
    flags.say("network_alpha", "not needed", message)


class _ArgumentNotes:
    """Notes on the arguments of a network, one by one."""

    def __init__(self, table: OptionTable) -> None:
        self.table = table
        if "network_args" in table:
            message = "is [lora] here; each argument has a note of its own"
            table.say("network_args", "mapped", message)

    def note_mapped(self, name: str, key: str, value: Any = None) -> None:
        self.table.part("network_args", name, "mapped", f"is {key} here", value)

    def note_lost(self, name: str, message: str, value: Any = None) -> None:
        self.table.part("network_args", name, "no equivalent", message, value)

    def is_set_in(self, arguments: Mapping[str, Any], name: str) -> bool:
        """Whether an argument of `[lora]` asks for something, with its note."""
        if name not in arguments or arguments[name] in (None, "", False, 0):
            return False
        self.note_mapped(name, f"lora.{name}", arguments[name])
        return True

    def note_rest(self, arguments: Mapping[str, Any]) -> None:
        """Every argument that is still there."""
        for name, value in arguments.items():
            idle = value in (None, "", False, "all") or name in NOTHING or name in SAME_NAMES
            if idle:
                message = "asks for nothing that is not here anyway"
                self.table.part("network_args", name, "not needed", message, value)
            else:
                reason = WITHOUT_EQUAL.get(
                    name, "no network of these trainers documents such an argument"
                )
                self.note_lost(name, reason, value)


def _map_kind(
    flags: Flags, algorithm: str, arguments: dict[str, Any], notes: _ArgumentNotes
) -> tuple[str, str]:
    """`lora.kind`, and the kind that it stands in for."""
    doted = bool(arguments.pop("dora_wd", False))
    kind = KINDS.get(algorithm, "lora" if algorithm.startswith("lora_") else "")
    if algorithm == "lora_fa":
        kind = ""
    if kind == "lora" and doted:
        notes.note_mapped("dora_wd", "lora.kind = 'dora'", value=True)
        return "dora", ""
    if doted:
        notes.note_lost(
            "dora_wd", f"weights are decomposed for LoRA alone, not for {kind}", value=True
        )
    if kind:
        return kind, ""
    if not algorithm:
        message = (
            "is not set: the command line says it"
            if "network_dim" in flags
            else "is not set, so the whole model is trained there; here an adapter is, of rank 4"
        )
        flags.at("network_module").say("network_module", "no equivalent", message)
        return "lora", ""
    message = (
        f"{algorithm} is not there (lora.kind has lora, dora, loha, lokr): a LoRA of that rank"
        " stands in"
    )
    holder = "network_args" if "algo" in str(flags.texts("network_args")) else "network_module"
    if holder == "network_args":
        notes.note_lost("algo", message, algorithm)
    else:
        flags.say("network_module", "no equivalent", message)
    return "lora", algorithm


def _map_convolutions(
    arguments: dict[str, Any],
    notes: _ArgumentNotes,
    model: Mapping[str, Any],
    adapter: Mapping[str, Any],
    *,
    lycoris: bool,
) -> dict[str, Any]:
    """Rank and alpha on convolutions, and the preset of layers."""
    rank, alpha = arguments.pop("conv_dim", None), arguments.pop("conv_alpha", None)
    preset = arguments.pop("preset", "full" if lycoris else "")
    section = _map_preset(preset, notes, lycoris=lycoris)
    has = not is_flow(model)  # the models here that predict noise have convolutions, and only they
    if lycoris and preset == "full" and has:  # which trains them always, at the rank of all else
        rank, alpha = rank or adapter["rank"], alpha or adapter["alpha"]
    elif not rank:
        return section
    if not has:
        notes.note_lost(
            "conv_dim", "this model has no convolutions that an adapter could be on", rank
        )
        return section
    section["conv_rank"] = int(_number(rank))
    section["conv_alpha"] = _number(alpha) or 1.0
    notes.note_mapped("conv_dim", "lora.conv_rank", rank)
    notes.note_mapped("conv_alpha", "lora.conv_alpha", alpha)
    return section


def _map_preset(preset: str, notes: _ArgumentNotes, *, lycoris: bool) -> dict[str, Any]:
    """`lora.preset`, with a note where it is one of LyCORIS' that has a name here, or none."""
    if preset in PRESETS:
        if lycoris and preset != "full":
            notes.note_mapped("preset", "lora.preset", preset)
        return {"preset": PRESETS[preset]}
    if preset:
        notes.note_lost("preset", "no lora.preset is of those layers: set lora.targets", preset)
    return {}


def _map_lora_plus(arguments: dict[str, Any], notes: _ArgumentNotes) -> float:
    """LoRA+: how many times A's rate B has."""
    entries = [(name, arguments.pop(name)) for name in PLUS if name in arguments]
    ratios = [(name, _number(value)) for name, value in entries if value]
    if not ratios:
        return 0.0
    name, ratio = ratios[0]
    notes.note_mapped(name, "optimizer.lora_plus", ratio)
    for other, value in ratios[1:]:
        notes.table.part("network_args", other, "not needed", f"{name} goes before it", value)
    return ratio


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def _unquote(value: Any) -> Any:
    """A number that stands in quotes, as itself."""
    return value if not isinstance(value, str) else _number(value)

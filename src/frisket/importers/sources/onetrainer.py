"""OneTrainer's configurations of other ages, brought to today's names as OneTrainer does it.

After the migrations 0 to 10 of modules/util/config/TrainConfig.py and 0 and 1 of ConceptConfig.py
at Nerogar/OneTrainer 23df383; tests/importers/sources/onetrainer.json holds what they make of
files.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key, list_paths
from frisket.importers.base import BadImport
from frisket.importers.files import Written, peek, read_config
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

NEWEST = 11  # of a configuration
CONCEPT = 2  # of a concept
CASCADE = ("STABLE_CASCADE_1", "WUERSTCHEN_2")
_PARTS = (
    *("unet", "prior", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("text_encoder_4", "vae", "effnet_encoder", "decoder", "decoder_text_encoder"),
    "decoder_vqgan",
)
_OF_2023 = ("unet", "prior", "text_encoder", "text_encoder_2", "vae", "effnet_encoder", "decoder",
            "decoder_text_encoder", "decoder_vqgan")  # fmt: skip
_OLD = ("train_unet", "train_text_encoder", "unet_learning_rate", "train_text_encoder_epochs")
Tree = dict[str, Any]
Moves = dict[Key, Key]  # where an option stands now, and where its file has it


def matches(path: Path) -> bool:
    """A JSON configuration that an older OneTrainer wrote."""
    tree = peek(path) if path.suffix.lower() == ".json" else None
    names = {"concepts", "concept_file_name", "model_type"}
    return (
        isinstance(tree, dict)
        and bool(names & set(tree))
        and "training_method" in tree
        and _read_version(tree) < NEWEST
    )


def _read_version(tree: Mapping[str, Any]) -> int:
    """The version of a configuration.

    One that names none is of 2023 (version 0) where its options lie flat as they did then, and else
    written by hand in today's names, as OneTrainer's own presets are.
    """
    version = tree.get("__version")
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    flat = isinstance(tree.get("optimizer"), str) or any(name in tree for name in _OLD)
    return 0 if version is None and flat else NEWEST


def read(path: Path, command: int | None = None) -> Sources:
    """The configuration in today's names; its lines are those of the file."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    written = read_config(path)
    version = _read_version(written.tree)
    if version < 0:
        raise BadImport(f"{path}: __version = {version}: OneTrainer counts from 0")
    tree, moves = migrate(written.tree, version)
    lines: dict[Key, int] = {}
    for key in list_paths(tree):
        line = written.lines.get(moves.get(key, key))
        if line is None and (near := _find_moved(key, moves)) is not None:
            line = written.lines.get(near)
        if line is not None:
            lines[key] = line
    converted = Written(path, tree, lines)
    return (
        ConfigSource(
            "onetrainer", "both", f"OneTrainer configuration of version {version}", converted
        ),
    )


def _find_moved(key: Key, moves: Moves) -> Key | None:
    """Where a key stood whose table was moved."""
    for size in range(len(key) - 1, 0, -1):
        if key[:size] in moves:
            return (*moves[key[:size]], *key[size:])
    return None


def migrate(tree: Mapping[str, Any], version: int) -> tuple[Tree, Moves]:
    """A configuration of a version in today's names, and where its options stood."""
    now: Tree = {name: _copy(value) for name, value in tree.items()}
    moves: Moves = {}
    for step in STEPS[version:]:
        now = step(now, moves)
    if isinstance(rows := now.get("concepts"), list):
        now["concepts"] = [migrate_concept(row) for row in rows]
    return now, moves


def migrate_concept(row: Any) -> Any:
    """A concept in today's names: `repeats` became `balancing`, `validation_concept` a type.

    One without a version counts as new where it has either of today's names.
    """
    if not isinstance(row, dict):
        return row
    new = any(name in row for name in ("balancing", "type"))
    version = row.get("__version", CONCEPT if new else 0)
    if type(version) is not int or version >= CONCEPT:
        return row
    renamed = {"repeats": "balancing"} if version < 1 else {}
    now = {renamed.get(name, name): value for name, value in row.items()}
    if "validation_concept" in now:
        now["type"] = "VALIDATION" if now.pop("validation_concept") else "STANDARD"
    return now


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _rename(tree: Tree, moves: Moves, old: str, *new: str) -> None:
    """Move an option, where it is given, to its new place."""
    if old in tree:
        value, table = tree.pop(old), tree
        for part in new[:-1]:
            table = table.setdefault(part, {})
        table[new[-1]] = value
        moves[new] = moves.pop((old,), (old,))


def _migrate_optimizer(tree: Tree, moves: Moves) -> Tree:
    """0: the optimizer's options lay flat, as optimizer_weight_decay."""
    settings: Tree = {}
    for name in [name for name in tree if name.startswith("optimizer")]:
        short = name if name == "optimizer" else name.removeprefix("optimizer").removeprefix("_")
        settings[short] = tree.pop(name)
        moves[("optimizer", short)] = (name,)
    if isinstance(optimizer_name := settings.get("optimizer"), str):
        tree["optimizer"] = settings
        tree["optimizer_defaults"] = {optimizer_name: _copy(settings)}
    elif "optimizer" in settings:
        tree["optimizer"] = settings["optimizer"]
    return tree


def _migrate_parts(tree: Tree, moves: Moves) -> Tree:
    """1: what belongs to a part of the model lay flat, as train_unet."""
    new: Tree = {name: {} for name in _OF_2023} | {"embeddings": [{}]}
    for part in _OF_2023:
        epochs = f"train_{part}_epochs"
        if epochs in tree and part in ("unet", "prior", "text_encoder", "text_encoder_2"):
            new[part]["stop_training_after_unit"] = "EPOCH"
            moves[(part, "stop_training_after_unit")] = (epochs,)
        for old, name in _list_flat_options(part):
            if old in tree:
                new[part][name] = tree.pop(old)
                moves[(part, name)] = (old,)
    embedding = new["embeddings"][0]
    names = tree.get("embedding_model_names")
    if isinstance(names, list) and names:
        embedding["model_name"] = tree.pop("embedding_model_names")[0]
    for name in ("token_count", "initial_embedding_text"):
        if name in tree:
            embedding[name] = tree.pop(name)
            moves[("embeddings", 0, name)] = (name,)
    return new | tree


def _list_flat_options(part: str) -> list[tuple[str, str]]:
    """The flat options of a part, and what they are called within it."""
    trained = [(f"train_{part}", "train"), (f"train_{part}_epochs", "stop_training_after"),
               (f"{part}_learning_rate", "learning_rate")]  # fmt: skip
    model_name = (f"{part}_model_name", "model_name")
    dtype = (f"{part}_weight_dtype", "weight_dtype")
    return {
        "unet": [*trained, dtype],
        "prior": [*trained, model_name, dtype],
        "text_encoder": [*trained, dtype],
        "text_encoder_2": [*trained, dtype],
        "vae": [model_name, dtype],
        "effnet_encoder": [model_name, dtype],
        "decoder": [model_name, dtype],
    }.get(part, [dtype])


def _migrate_min_snr(tree: Tree, moves: Moves) -> Tree:
    """2: min_snr_gamma became one of several weights of the loss."""
    gamma = tree.pop("min_snr_gamma", 0.0)
    if gamma:
        tree |= {"loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": gamma}
        moves[("loss_weight_strength",)] = moves[("loss_weight_fn",)] = ("min_snr_gamma",)
    elif tree.get("model_type") in CASCADE:
        tree |= {"loss_weight_fn": "P2", "loss_weight_strength": 1.0}
    return tree


def _migrate_timesteps(tree: Tree, moves: Moves) -> Tree:
    """3: a weight above 0 meant a sigmoid, with its middle at a bias of 0.5."""
    weight, bias = tree.pop("noising_weight", 0.0), tree.pop("noising_bias", 0.5)
    if weight and isinstance(bias, int | float):
        moves[("timestep_distribution",)] = ("noising_weight",)
        return tree | {"timestep_distribution": "SIGMOID", "noising_weight": weight,
                       "noising_bias": bias - 0.5}  # fmt: skip
    return tree | {"timestep_distribution": "UNIFORM", "noising_weight": 0.0, "noising_bias": 0.0}


def _migrate_checkpointing(tree: Tree, _: Moves) -> Tree:
    """4: true and false became words; it was on where nothing was said."""
    tree["gradient_checkpointing"] = "ON" if tree.get("gradient_checkpointing", True) else "OFF"
    return tree


def _migrate_saving(tree: Tree, moves: Moves) -> Tree:
    """5: what is saved after so much time became what is saved every so often."""
    _rename(tree, moves, "save_after", "save_every")
    _rename(tree, moves, "save_after_unit", "save_every_unit")
    return tree


def _migrate_preset(tree: Tree, _: Moves) -> Tree:
    """6: null was written for "full" by mistake."""
    if "lora_layer_preset" in tree and tree["lora_layer_preset"] is None:
        tree["lora_layer_preset"] = "full"
    return tree


def _migrate_filters(tree: Tree, moves: Moves) -> Tree:
    """7: the layers of a LoRA became a filter that serves every training."""
    _rename(tree, moves, "lora_layers", "layer_filter")
    _rename(tree, moves, "lora_layer_preset", "layer_filter_preset")
    _rename(tree, moves, "lora_layers_regex", "layer_filter_regex")
    return tree


def _migrate_transformer(tree: Tree, moves: Moves) -> Tree:
    """8: the prior of all but two families is called transformer."""
    if tree.get("model_type") not in CASCADE and "prior" in tree:
        tree["transformer"] = _copy(tree["prior"])
        moves[("transformer",)] = ("prior",)
        for key in [key for key in moves if key[0] == "prior"]:
            moves[("transformer", *key[1:])] = moves[key]
    return tree


def _migrate_dtypes(tree: Tree, moves: Moves) -> Tree:
    """9: a part without a type of its own took the global one, which is gone."""
    common = tree.pop("weight_dtype", None)
    for part in _PARTS:
        table = tree.get(part)
        if isinstance(table, dict) and table.get("weight_dtype") == "NONE" and common is not None:
            table["weight_dtype"] = common
            moves[(part, "weight_dtype")] = ("weight_dtype",)
    return tree


def _migrate_offloading(tree: Tree, moves: Moves) -> Tree:
    """10: checkpointing and offloading became a matter of each part."""
    word = tree.pop("gradient_checkpointing", "ON")
    active = tree.pop("enable_activation_offloading", True)
    share = tree.pop("layer_offload_fraction", 0.0)
    _rename(tree, moves, "enable_async_offloading", "async_offloading")
    tree.setdefault("async_offloading", True)
    away = word == "CPU_OFFLOADED"
    for part in _PARTS:
        if isinstance(table := tree.get(part), dict):
            table["gradient_checkpointing"] = word != "OFF"
            table["activation_offloading"] = away and active
            table["offload_fraction"] = share if away else 0.0
            moves[(part, "gradient_checkpointing")] = ("gradient_checkpointing",)
            moves[(part, "offload_fraction")] = ("layer_offload_fraction",)
    if tree.get("output_model_format") == "SAFETENSORS":
        method = tree.get("training_method")
        if method != "EMBEDDING":
            kind = "LORA" if method == "LORA" else "SAFETENSORS"
            tree["output_model_format"] = f"LEGACY_{kind}"
    return tree


STEPS: tuple[Callable[[Tree, Moves], Tree], ...] = (
    *(
        _migrate_optimizer,
        _migrate_parts,
        _migrate_min_snr,
        _migrate_timesteps,
        _migrate_checkpointing,
        _migrate_saving,
        _migrate_preset,
        _migrate_filters,
    ),
    *(_migrate_transformer, _migrate_dtypes, _migrate_offloading),
)
FORM = SourceForm("OneTrainer's configuration of another age (2023 on)", matches, read)

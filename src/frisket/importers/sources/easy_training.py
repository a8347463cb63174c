"""LoRA Easy Training Scripts (.toml with `[[subsets]]` and `*_args.args`) as sd-scripts' two files.

After `process_toml` of derrian-distro/LoRA_Easy_Training_Scripts ae5ce07 and utils/validation.py of
its backend 162e56d; tests/importers/sources/easy_training.json holds what that makes of files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import show
from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written, peek, read_config
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

OWN_OPTIONS = (  # options of the program itself
    *(
        "sdxl",
        "tag_occurrence",
        "tag_file_location",
        "save_toml",
        "save_toml_location",
        "easy_name",
    ),
    "fa",
)
JOINED = (  # arguments of a network that are lists there
    *("down_lr_weight", "up_lr_weight", "block_dims", "block_alphas", "conv_block_dims"),
    "conv_block_alphas",
)
REPLACED = ("output_dir", "output_name", "resume", "log_prefix")  # may hold ${replace}
MODES = {"lora": "", "textual_inversion": "an embedding"}


def matches(path: Path) -> bool:
    """A TOML with subsets outermost and sections that hold `args` or `dataset_args`."""
    tree = peek(path) if path.suffix.lower() == ".toml" else None
    if not isinstance(tree, dict) or not isinstance(tree.get("subsets"), list):
        return False
    sections = (table for table in tree.values() if isinstance(table, dict))
    return any({"args", "dataset_args"} & set(section) for section in sections)


def read(path: Path, command: int | None = None) -> Sources:
    """Its training options and its data set, a source each."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    written = read_config(path)
    mode = written.tree.get("train_mode")
    mode = mode.get("train_mode", "lora") if isinstance(mode, dict) else "lora"
    if mode != "lora":
        target = MODES.get(str(mode)) or show(mode, 40)
        raise BadImport(f"{written.where(('train_mode',))}: trains {target}; Frisket trains LoRAs")
    training, notes = _read_training(written)
    data = _read_data(written)
    script = _choose_script(written.tree)
    form = "LoRA Easy Training Scripts"
    return (
        ConfigSource("kohya", "training", form, training, script, tuple(notes)),
        ConfigSource("kohya", "data", form, data),
    )


def _list_sections(written: Written, inner: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The tables `inner` of all sections, with the section's name."""
    tables: list[tuple[str, Mapping[str, Any]]] = []
    for name, section in written.tree.items():
        table = section.get(inner) if isinstance(section, dict) else None
        if table is None or name in ("subsets", "train_mode"):
            continue
        if not isinstance(table, dict):
            message = f"is {show(table, 40)}, a table of options is needed"
            raise BadImport(f"{written.where((name, inner))}: {name}.{inner} {message}")
        tables.append((name, table))
    return tables


def _choose_script(tree: Mapping[str, Any]) -> str:
    general = tree.get("general_args", {})
    general = general.get("args", {}) if isinstance(general, dict) else {}
    for name, script in (("flux", "flux"), ("anima", "anima")):
        section = tree.get(f"{name}_args")
        if isinstance(section, dict) and section.get("args"):
            return f"{script}_train_network.py"
    large = isinstance(general, dict) and general.get("sdxl")
    return "sdxl_train_network.py" if large else "train_network.py"


def _read_training(written: Written) -> tuple[Written, list[Note]]:
    tree: dict[str, Any] = {}
    lines: dict[Key, int] = {}
    program_options: dict[str, Any] = {}
    notes: list[Note] = []
    for section, table in _list_sections(written, "args"):
        for option, value in table.items():
            key = (section, "args", option)
            if option in OWN_OPTIONS:
                program_options[option] = value
                if value and option not in ("sdxl", "fa"):
                    message = "what LoRA Easy Training Scripts does besides training is not needed"
                    notes.append(Note(option, value, "not needed", message, written.line(key)))
                continue
            entry = _read_value(option, value)
            if not entry:
                continue
            tree[option] = entry
            if (line := written.line(key)) is not None:
                lines[(option,)] = line
    tree.setdefault("network_module", _choose_module(written, program_options, tree))
    for option in REPLACED:
        if isinstance(tree.get(option), str):
            tree[option] = tree[option].replace(
                "${replace}", str(program_options.get("easy_name", ""))
            )
    _schedule(tree, lines)
    return Written(written.path, tree, lines), notes


def _read_value(option: str, value: Any) -> Any:
    """An option as the backend writes it; what is empty there is left out."""
    if option in ("network_args", "optimizer_args", "lr_scheduler_args") and isinstance(
        value, dict
    ):
        return [f"{name}={_format_word(option, name, argument)}" for name, argument in value.items()
                if not (name == "preset" and argument == "")]  # fmt: skip
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def _format_word(option: str, name: str, value: Any) -> str:
    if option == "network_args" and name in JOINED and isinstance(value, list):
        return ",".join(map(str, value))
    if option == "optimizer_args" and value in ("true", "false"):
        return str(value).capitalize()
    return str(value)


def _choose_module(
    written: Written, program_options: Mapping[str, Any], tree: Mapping[str, Any]
) -> str:
    """The network, which follows from its arguments."""
    if program_options.get("fa"):
        return "networks.lora_fa"
    argument_names: set[str] = set()
    for _, table in _list_sections(written, "args"):
        arguments = table.get("network_args")
        argument_names |= set(arguments) if isinstance(arguments, dict) else set()
    if "algo" in argument_names:
        return "lycoris.kohya"
    if "unit" in argument_names:
        return "networks.dylora"
    return "networks.lora_flux" if "guidance_scale" in tree else "networks.lora"


def _schedule(tree: dict[str, Any], lines: dict[Key, int]) -> None:
    """Warm-up as a share, and cycles of schedules of its own, in steps where those are known."""
    steps, has_own_schedule = tree.get("max_train_steps"), "lr_scheduler_type" in tree
    steps = steps if isinstance(steps, int) else None
    cycles = tree.get("lr_scheduler_num_cycles")
    cycles = cycles if isinstance(cycles, int) and cycles > 0 else 1
    share = tree.pop("warmup_ratio", None)
    if isinstance(share, int | float):
        warm = round(steps * share) if steps else share
        if has_own_schedule:
            arguments = tree.setdefault("lr_scheduler_args", [])
            arguments.append(f"warmup_steps={warm // cycles if steps else warm / cycles}")
        else:
            tree["lr_warmup_steps"] = warm
        if ("warmup_ratio",) in lines:
            lines[("lr_warmup_steps",)] = lines.pop(("warmup_ratio",))
    if has_own_schedule and steps and "lr_scheduler_num_cycles" in tree:
        del tree["lr_scheduler_num_cycles"]
        tree.setdefault("lr_scheduler_args", []).append(f"first_cycle_max_steps={steps // cycles}")


def _read_data(written: Written) -> Written:
    lines: dict[Key, int] = {}
    general = _read_general(written, lines)
    subsets = _read_subsets(written, lines)
    tree = {"general": general, "datasets": [{"subsets": subsets}]}
    return Written(written.path, tree, lines)


def _read_general(written: Written, lines: dict[Key, int]) -> dict[str, Any]:
    """Options of all data sets; their lines are put into `lines`."""
    general: dict[str, Any] = {}
    for section, table in _list_sections(written, "dataset_args"):
        for option, value in table.items():
            if not value or (option == "max_token_length" and value == 75):
                continue
            general[option] = value
            if (line := written.line((section, "dataset_args", option))) is not None:
                lines[("general", option)] = line
    return general


def _read_subsets(written: Written, lines: dict[Key, int]) -> list[Any]:
    """The subsets of the one data set; their lines are put into `lines`."""
    subsets: list[Any] = []
    for number, subset in enumerate(written.tree["subsets"]):
        if not isinstance(subset, dict):
            subsets.append(subset)
            continue
        subsets.append({name: value for name, value in subset.items() if value and name != "name"})
        key: Key = ("datasets", 0, "subsets", len(subsets) - 1)
        for name in subset:
            if (line := written.line(("subsets", number, name))) is not None:
                lines[(*key, name)] = line
        if (line := written.line(("subsets", number))) is not None:
            lines[key] = line
    return subsets


FORM = SourceForm("LoRA Easy Training Scripts (.toml with [[subsets]])", matches, read)

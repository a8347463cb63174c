"""Configurations of Akegarasu's lora-scripts (.toml): sd-scripts' options, and a few of its own.

After `create_toml_file` of mikazuki/app/api.py at Akegarasu/lora-scripts fdefba9.
"""

from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import show
from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written, peek, read_config
from frisket.importers.shells.options import BadShellOption, convert_word, read_option_types
from frisket.importers.shells.words import Word
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

TYPE = "model_train_type"
SCRIPTS = {
    "sd-lora": "train_network.py",
    "sdxl-lora": "sdxl_train_network.py",
    "sd3-lora": "sd3_train_network.py",
    "flux-lora": "flux_train_network.py",
    "sd-dreambooth": "train_db.py",
    "sdxl-finetune": "sdxl_train.py",
    "flux-finetune": "flux_train.py",
}
PROMPTS = ("positive_prompts", "negative_prompts", "prompt_file")
OWN_OPTIONS = (  # options of its pages, which it takes out or which sd-scripts passes over
    *("gpu_ids", "enable_preview", "randomly_choice_prompt", "sample_width", "sample_height"),
    *("sample_cfg", "sample_seed", "sample_steps", "ui_custom_params", "lr_restart_cycles"),
    "save_n_epoch_ratio",
)


def matches(path: Path) -> bool:
    """A TOML that names a type of training, or a template with [metadata] and [data]."""
    tree = peek(path) if path.suffix.lower() == ".toml" else None
    if not isinstance(tree, dict):
        return False
    about, data = tree.get("metadata"), tree.get("data")
    template = isinstance(about, dict) and isinstance(data, dict) and "name" in about
    return isinstance(tree.get(TYPE), str) or template


def read(path: Path, command: int | None = None) -> Sources:
    """Its options for sd-scripts; numbers in quotes become numbers."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    written = read_config(path)
    if TYPE not in written.tree:
        raise BadImport(
            f"{path}: is a template of lora-scripts, which changes a few fields of its page: fill"
            " the page in there, save it, and import what is saved"
        )
    kind = written.tree[TYPE]
    if kind not in SCRIPTS:
        at = f"{written.where((TYPE,))}: {TYPE} = {show(kind, 40)}"
        raise BadImport(f"{at}: there is none of this kind here: {', '.join(SCRIPTS)}")
    tree: dict[str, Any] = {}
    lines: dict[Key, int] = {}
    notes = _note_whole_model(written, str(kind))
    for name, value in written.tree.items():
        if name == TYPE:
            continue
        if name in (*OWN_OPTIONS, *PROMPTS):
            notes += _note_own(written, name, value)
            continue
        tree[name] = _number(written, name, value)
        if (line := written.line((name,))) is not None:
            lines[(name,)] = line
    converted = Written(path, tree, lines)
    return (ConfigSource("kohya", "both", "lora-scripts", converted, SCRIPTS[kind], tuple(notes)),)


def _number(written: Written, name: str, value: Any) -> Any:
    """A value as sd-scripts types it, where the page has put it into quotes."""
    kind = read_option_types("kohya").get(name, "str")
    if not isinstance(value, str) or not value.strip() or kind in ("str", "bool"):
        return value
    try:
        return convert_word(kind, Word(value.strip(), 0), name)
    except BadShellOption as error:
        at = f"{written.where((name,))}: {name} = {show(value, 60)}"
        raise BadImport(f"{at}: {error.message}") from error


def _note_own(written: Written, name: str, value: Any) -> list[Note]:
    line = written.line((name,))
    if name in PROMPTS and value:
        message = "is not read: set preview.prompts to what it says"
        return [Note(name, value, "no equivalent", message, line)]
    if name == "gpu_ids" and isinstance(value, list) and len(value) > 1:
        message = f"one card trains here: multiply optimizer.accumulate by {len(value)} for as many"
        return [Note(name, value, "no equivalent", message, line)]
    message = "belongs to the pages of lora-scripts; sd-scripts is not given it"
    return [Note(name, value, "not needed", message, line)] if value else []


def _note_whole_model(written: Written, kind: str) -> list[Note]:
    if kind.endswith("-lora"):
        return []
    message = "trains the whole model; here a LoRA is trained, of the size in [lora]"
    return [Note(TYPE, kind, "no equivalent", message, written.line((TYPE,)))]


FORM = SourceForm("Akegarasu lora-scripts' saved configuration (.toml)", matches, read)

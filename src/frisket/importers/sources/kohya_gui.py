"""kohya_ss GUI configurations (.json): its fields as the options that it starts sd-scripts with.

After `open_configuration` and `train_model` of kohya_gui/lora_gui.py at bmaltais/kohya_ss 45088f0.
tests/importers/sources/kohya_gui.json holds what they make of the repository's own files.
"""

import math
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import show
from frisket.importers.base import BadImport, Note
from frisket.importers.files import Written, locate, peek, read_config
from frisket.importers.kohya_ss.fields import (
    OF_MODEL,
    RENAMED,
    SAME,
    SPLIT,
    Fields,
    as_whole,
    read_defaults,
)
from frisket.importers.kohya_ss.networks import choose_network
from frisket.importers.shells.options import BadShellOption, parse
from frisket.importers.shells.words import Word
from frisket.importers.source_base import ConfigSource, SourceForm, Sources

MARKS = ("max_resolution", "LoRA_type", "train_batch_size", "sdxl", "lr_warmup", "xformers")
SCRIPTS = (  # a switch of a model and its script, the first that is on counts
    ("sdxl", "sdxl_train_network.py"),
    ("flux1_checkbox", "flux_train_network.py"),
    ("sd3_checkbox", "sd3_train_network.py"),
    ("hunyuan_image_checkbox", "hunyuan_image_train_network.py"),
    ("anima_checkbox", "anima_train_network.py"),
    ("lumina_checkbox", "lumina_train_network.py"),
)
WHOLE_MODEL = {  # scripts of the DreamBooth tab
    "sdxl_train_network.py": "sdxl_train.py",
    "flux_train_network.py": "flux_train.py",
    "sd3_train_network.py": "sd3_train.py",
}
NETWORK = ("network_dim", "network_alpha", "network_dropout", "network_weights", "dim_from_weights",
           "scale_weight_norms", "unet_lr", "network_train_unet_only",
           "network_train_text_encoder_only")  # fmt: skip
PICTURES = (".jpg", ".jpeg", ".png", ".webp")  # what it counts


def matches(path: Path) -> bool:
    """A JSON table with several fields of the GUI's LoRA tab."""
    tree = peek(path) if path.suffix.lower() == ".json" else None
    return isinstance(tree, dict) and sum(name in tree for name in MARKS) >= 3


def read(path: Path, command: int | None = None) -> Sources:
    """What the GUI would start: one source with all options, data and training."""
    if command is not None:
        raise BadImport(f"{path}: holds no commands; leave --command out")
    written = read_config(path)
    fields = Fields(written)
    model = next((name for name, _ in SCRIPTS if fields.on(name)), "")
    script = dict(SCRIPTS).get(model, "train_network.py")
    tree: dict[str, Any] = {}
    lines: dict[Key, int] = {}

    def put(option: str, value: Any, *names: str) -> None:
        """An option, unless it is what the GUI leaves out, with the line of its field."""
        if option != "max_data_loader_n_workers" and (value in ("", False, None) or value == []):
            return  # 0 is False here as it is there
        tree[option] = value
        field_lines = (written.lines.get((name,)) for name in names)
        if (
            line := next((field_line for field_line in field_lines if field_line), None)
        ) is not None:
            lines[(option,)] = line

    _put_plain(fields, model, put)
    _adjust(fields, model, tree, put)
    _put_noise(fields, tree)
    _put_rates(fields, model, put)
    _put_steps(fields, path, put)
    notes = _note_dropped(written, fields)
    if not {"LoRA_type", "network_dim"} & set(written.tree):
        script, note = _choose_whole_script(written, script)
        notes.insert(0, note)
        tree = {name: value for name, value in tree.items() if name not in NETWORK}
        converted = Written(path, tree, lines)
        return (
            ConfigSource(
                "kohya", "both", "kohya_ss GUI (DreamBooth)", converted, script, tuple(notes)
            ),
        )
    module, arguments = choose_network(fields.values, flux=model == "flux1_checkbox",
                                   sd3=model == "sd3_checkbox")  # fmt: skip
    if not module:
        kind = show(fields.value("LoRA_type"), 40)
        raise BadImport(
            f"{written.where(('LoRA_type',))}: LoRA_type = {kind}: kohya_ss has none so"
        )
    put("network_module", module, "LoRA_type")
    put("network_args", arguments, "LoRA_type")
    _put_typed_in(fields, script, tree, lines)
    converted = Written(path, tree, lines)
    return (
        ConfigSource(
            "kohya", "both", "kohya_ss GUI configuration", converted, script, tuple(notes)
        ),
    )


def _choose_whole_script(written: Written, script: str) -> tuple[str, Note]:
    """The script of the DreamBooth tab, and a note; BadImport for the tabs that are not read."""
    tree, path = written.tree, written.path
    if "num_vectors_per_token" in tree or "token_string" in tree:
        raise BadImport(f"{path}: trains an embedding in kohya_ss; Frisket trains LoRAs alone")
    if "train_data_dir" not in tree and not tree.get("dataset_config"):
        raise BadImport(
            f"{path}: is of kohya_ss' tab for fine-tuning, whose data lie in files that it made:"
            " import the folder of pictures, or a configuration of its LoRA tab"
        )
    script = WHOLE_MODEL.get(script, "train_db.py")
    message = "trains the whole model; here a LoRA is trained, of the size in [lora]"
    return script, Note("script", script, "no equivalent", message, None)


def _put_plain(fields: Fields, model: str, put: Any) -> None:
    """Options that hang on one field."""
    for name in SAME:
        put(name, fields.value(name), name)
    for name, option in (RENAMED | OF_MODEL[model]).items():
        put(option, fields.value(name), name)
    for name in SPLIT:
        put(name, _split(fields.text(name)), name)


def _split(text: str) -> list[str]:
    return text.replace('"', "").split()


def _adjust(fields: Fields, model: str, tree: dict[str, Any], put: Any) -> None:
    """Options that depend on more than a field of theirs."""
    put("xformers", fields.text("xformers") == "xformers", "xformers")
    put("sdpa", fields.text("xformers") == "sdpa", "xformers")
    put("sample_prompts", fields.text("sample_prompts"), "sample_prompts")
    put("wandb_run_name", fields.text("wandb_run_name") or fields.text("output_name"))
    if model not in ("", "sdxl"):
        tree.pop("train_inpainting", None)
    if tree.get("train_inpainting"):  # its masks are drawn anew for each step
        tree.pop("cache_latents", None)
        tree.pop("cache_latents_to_disk", None)
    if model == "hunyuan_image_checkbox":
        tree.pop("v2", None)
    prefix = {"hunyuan_image_checkbox": "hunyuan", "anima_checkbox": "anima"}.get(model)
    if prefix and not fields.text(f"{prefix}_vae"):
        tree.pop("vae", None)
    if model == "anima_checkbox":
        _adjust_anima(fields, tree, put)
    if model == "flux1_checkbox" and fields.text("model_type").lower() == "chroma":
        _adjust_chroma(fields, tree, put)
    if model in ("flux1_checkbox", "sd3_checkbox", "anima_checkbox", "lumina_checkbox"):
        put("show_timesteps", fields.text("show_timesteps"), "show_timesteps")
        if "show_timesteps" in tree:
            put("show_timesteps_resolution", fields.text("show_timesteps_resolution"))


def _adjust_chroma(fields: Fields, tree: dict[str, Any], put: Any) -> None:
    tree.pop("clip_l", None)
    put("model_type", "chroma", "model_type")
    tree["apply_t5_attn_mask"] = True
    tree["guidance_scale"] = fields.number("guidance_scale")


def _adjust_anima(fields: Fields, tree: dict[str, Any], put: Any) -> None:
    if tree.get("attn_mode") == "torch":
        del tree["attn_mode"]
    if fields.on("anima_compile"):
        for name in ("backend", "mode", "fullgraph", "cache_size_limit"):
            put(f"compile_{name}", fields.value(f"anima_compile_{name}"), f"anima_compile_{name}")
        if fields.text("anima_compile_dynamic") != "auto":
            put("compile_dynamic", fields.value("anima_compile_dynamic"), "anima_compile_dynamic")


def _put_noise(fields: Fields, tree: dict[str, Any]) -> None:
    """Noise that is not plain: one of two kinds."""
    original = fields.text("noise_offset_type") == "Original"
    multires = fields.text("noise_offset_type") == "Multires"
    if original:
        for name in ("adaptive_noise_scale", "noise_offset", "noise_offset_random_strength"):
            if value := fields.value(name):
                tree[name] = value
    if multires:
        for name in ("multires_noise_iterations", "multires_noise_discount"):
            if value := fields.value(name):
                tree[name] = value


def _put_rates(fields: Fields, model: str, put: Any) -> None:
    """Rates of the text encoders, and which of the parts is trained at all."""
    text, t5, unet = (fields.number(name) for name in ("text_encoder_lr", "t5xxl_lr", "unet_lr"))
    if text > 0:
        put("text_encoder_lr", [text, t5 if t5 > 0 else text], "text_encoder_lr")
    forced = model == "hunyuan_image_checkbox"
    put("network_train_unet_only", forced or (text == 0 and unet != 0), "text_encoder_lr")
    put("network_train_text_encoder_only", not forced and text != 0 and unet == 0, "unet_lr")


def _put_steps(fields: Fields, path: Path, put: Any) -> None:
    """Steps and warm-up: from epochs and pictures where the field of steps is 0."""
    steps = fields.value("max_train_steps")
    if not steps and not fields.text("dataset_config"):
        folder = locate(fields.text("train_data_dir"), path.parent)[0]
        batch = max(fields.number("train_batch_size"), 1)
        batch *= max(fields.number("gradient_accumulation_steps"), 1)
        twice = 2 if fields.text("reg_data_dir") else 1
        pictures = _count_pictures(folder) if folder is not None and folder.is_dir() else 0
        steps = math.ceil(pictures / batch * fields.value("epoch") * twice)
        if not steps:
            put("max_train_epochs", fields.value("epoch"), "epoch")
    put("max_train_steps", steps, "max_train_steps", "epoch")
    share, fixed = fields.number("lr_warmup"), fields.number("lr_warmup_steps")
    warm: float = int(fixed) if fixed > 0 else share / 100
    if fields.text("dataset_config") and fixed <= 0:
        warm = round(share * steps / 100) if steps else share / 100
    put("lr_warmup_steps", warm, "lr_warmup_steps" if fixed > 0 else "lr_warmup")


def _count_pictures(folder: Path) -> int:
    """Pictures of an epoch, repeats counted: those of folders that begin with a number."""
    total = 0
    for subfolder in folder.iterdir():
        repeats = subfolder.name.partition("_")[0]
        if subfolder.is_dir() and repeats.isascii() and repeats.isdigit() and len(repeats) < 9:
            names = (file.name.lower() for file in subfolder.iterdir())
            total += int(repeats) * sum(name.endswith(PICTURES) for name in names)
    return total


def _put_typed_in(fields: Fields, script: str, tree: dict[str, Any], lines: dict[Key, int]) -> None:
    """Options that were typed in by hand, which go before all others."""
    name = "additional_parameters"
    line = fields.written.lines.get((name,), 0)
    words = [Word(text, line) for text in _split(fields.text(name))]
    try:
        options = parse(words, "kohya", script)
    except BadShellOption as error:
        raise fields.bad(name, error.message) from error
    for option, value in options.tree.items():
        tree[option] = value
        if line:
            lines[(option,)] = line


OWN_FIELDS = (  # fields of the GUI itself, or of what it starts with
    *("LoRA_type", "LyCORIS_preset", "model_list", "additional_parameters", "training_preset"),
    *("num_cpu_threads_per_process", "num_machines", "multi_gpu", "gpu_ids", "main_process_port"),
    *("extra_accelerate_launch_args", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"),
    *("use_8bit_adam", "use_wandb", "lora_network_weights", "save_as_bool"),
)


def _note_dropped(written: Written, fields: Fields) -> list[Note]:
    """A note on every field of the file that the GUI passes on to nothing."""
    notes: list[Note] = []
    count = as_whole(fields.values.get("num_processes"), 1)
    if count > 1:
        message = (
            f"{count} processes draw a batch each and a step is made of all; here one does:"
            f" multiply optimizer.accumulate by {count} for the same steps"
        )
        notes.append(Note("num_processes", count, "no equivalent", message,
                          written.line(("num_processes",))))  # fmt: skip
    for name, value in written.tree.items():
        if name not in read_defaults() and name not in OWN_FIELDS:
            message = "kohya_ss has no such field today; it is not used"
            notes.append(Note(name, value, "not needed", message, written.line((name,))))
    return notes


FORM = SourceForm("kohya_ss GUI configuration (.json of its LoRA tab)", matches, read)

"""SimpleTuner's config.env: which variables are options of it, and what a shell makes of them."""

import re
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key
from frisket.importers.files import Written
from frisket.importers.shells.options import parse_untyped
from frisket.importers.shells.posix.script import read_assignments
from frisket.importers.shells.words import Word

# simpletuner/helpers/configuration/env_file.py: variables whose option is not named as they are.
NAMES = {
    "accelerate_config_path": "accelerate_config",
    "resume_checkpoint": "resume_from_checkpoint",
    "dataloader_config": "data_backend_config",
    "training_seed": "seed",
    "use_xformers": "enable_xformers_memory_efficient_attention",
    "minimum_resolution": "minimum_image_size",
    "push_checkpoints": "push_checkpoints_to_hub",
    "max_num_steps": "max_train_steps",
    "num_epochs": "num_train_epochs",
    "checkpointing_steps": "checkpoint_step_interval",
    "checkpointing_limit": "checkpoints_total_limit",
    "hub_model_name": "hub_model_id",
    "model_name": "pretrained_model_name_or_path",
    "use_gradient_checkpointing": "gradient_checkpointing",
    "validation_steps": "validation_step_interval",
    "lr_schedule": "lr_scheduler",
    "training_num_processes": "num_processes",
    "training_num_machines": "num_machines",
    "training_dynamo_backend": "dynamo_backend",
    "trainer_dynamo_backend": "dynamo_backend",
}
SWITCHES = (  # of 2024, before MODEL_FAMILY, and the family that each is of
    ("flux", "flux"),
    ("stable_diffusion_3", "sd3"),
    ("stable_diffusion_legacy", "sd1x"),
    ("pixart_sigma", "pixart_sigma"),
    ("kolors", "kolors"),
    ("smoldit", "smoldit"),
)
EXTRA = "trainer_extra_args"  # options as on a command line; `debug_extra_args` too, of 2024
_FIELD = re.compile(r"\{env:([^{}]+)\}")


def read_environment(path: Path) -> Written:
    """The options that a config.env sets, by SimpleTuner's names, as `. config.env` leaves them.

    Text as it is; "true" and "false" in any case are switches. Options in TRAINER_EXTRA_ARGS count
    too, after all others. Raises BadImport for a file that no shell would read.
    """
    written = read_assignments(path)
    values: dict[str, str] = written.tree
    tree: dict[str, Any] = {}
    lines: dict[Key, int] = {}
    for name, value in values.items():
        lower_name = name.lower()
        if lower_name in (EXTRA, "debug_extra_args") or not value:
            continue
        option = NAMES.get(lower_name, lower_name)
        tree[option] = _read_switch(_FIELD.sub(lambda match: values.get(match[1], ""), value))
        lines[(option,)] = written.lines[(name,)]
    for name in ("TRAINER_EXTRA_ARGS", "DEBUG_EXTRA_ARGS"):
        line = written.lines.get((name,), 0)
        words = [Word(text, line) for text in values.get(name, "").split()]
        for option, value in parse_untyped(words).items():
            tree[option], lines[(option,)] = value, line
    _replace_switches(tree, lines)
    return Written(path, tree, lines)


def _replace_switches(tree: dict[str, Any], lines: dict[Key, int]) -> None:
    """The family that the switches of 2024 name, in their place; SDXL where all are off."""
    switches = [name for name, _ in SWITCHES if isinstance(tree.get(name), bool)]
    if not switches or "model_family" in tree:
        return
    on = next((name for name in switches if tree[name]), switches[0])
    family = dict(SWITCHES)[on] if tree[on] else "sdxl"
    if family == "sd1x" and "-2" in str(tree.get("pretrained_model_name_or_path", "")):
        family = "sd2x"
    lines[("model_family",)] = lines[(on,)]
    tree["model_family"] = family
    for name in switches:
        del tree[name]


def _read_switch(value: str) -> Any:
    return value.lower() == "true" if value.lower() in ("true", "false") else value

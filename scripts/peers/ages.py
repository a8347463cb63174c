"""Records what OneTrainer's own migrations make of configurations of every age.

    python scripts/peers/ages.py CHECKOUT TEXT > tests/importers/sources/onetrainer.json

CHECKOUT is a git folder with history, whose presets of 2023 are given to today's code; TEXT holds
the repository's text at its newest commit.
"""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from options import Finder

DATES = ("2023-06-15", "2023-10-15", "2024-02-01")  # before the first migration
PRESETS = 3  # of each date, evenly
SHARED = {
    "training_method": "LORA",
    "concept_file_name": "concepts.json",
    "weight_dtype": "FLOAT_16",
    "prior": {"weight_dtype": "NONE", "train": True},
    "unet": {"weight_dtype": "NONE", "train": True},
    "vae": {"weight_dtype": "FLOAT_32"},
    "output_model_format": "SAFETENSORS",
}
BY_HAND: tuple[dict[str, Any], ...] = (
    {
        "optimizer": "ADAM",
        "optimizer_weight_decay": 0.02,
        "optimizer_beta1": 0.8,
        "train_unet": True,
        "train_unet_epochs": 20,
        "unet_learning_rate": 2e-4,
        "train_text_encoder": False,
        "text_encoder_learning_rate": 1e-5,
        "vae_model_name": "vae.safetensors",
        "unet_weight_dtype": "NONE",
        "embedding_model_names": ["one", "two"],
        "token_count": 4,
        "initial_embedding_text": "*",
        "min_snr_gamma": 5.0,
        "noising_weight": 3.0,
        "noising_bias": 0.25,
        "gradient_checkpointing": False,
        "save_after": 10,
        "save_after_unit": "EPOCH",
        "lora_layers": "attn",
        "lora_layer_preset": None,
    },
    {"__version": 1, "train_prior": True, "prior_learning_rate": 1e-4, "prior_model_name": "x"},
    {"__version": 2, "model_type": "WUERSTCHEN_2"},
    {"__version": 2, "model_type": "STABLE_CASCADE_1", "min_snr_gamma": 0.0},
    {"__version": 3, "noising_weight": 0.0, "noising_bias": 0.1},
    {"__version": 4, "gradient_checkpointing": True},
    {"__version": 5, "gradient_checkpointing": "CPU_OFFLOADED", "layer_offload_fraction": 0.5},
    {"__version": 6, "lora_layer_preset": None, "lora_layers": ""},
    {"__version": 7, "lora_layer_preset": "attn-mlp", "lora_layers_regex": True},
    {"__version": 8, "model_type": "FLUX_DEV_1"},
    {"__version": 9, "transformer": {"weight_dtype": "NONE"}, "training_method": "FINE_TUNE"},
    {"__version": 10, "enable_activation_offloading": False, "enable_async_offloading": False,
     "gradient_checkpointing": "CPU_OFFLOADED", "layer_offload_fraction": 0.25},
    {"__version": 10, "gradient_checkpointing": "OFF", "training_method": "EMBEDDING"},
)  # fmt: skip


def git(folder: str, *words: str) -> str:
    """What git says."""
    command = ["git", "-C", folder, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def presets(checkout: str) -> list[dict[str, Any]]:
    """Presets as OneTrainer shipped them at some dates."""
    found: list[dict[str, Any]] = []
    for date in DATES:
        commit = git(checkout, "rev-list", "-1", f"--before={date}", "HEAD").strip()
        listed = git(checkout, "ls-tree", "-r", "-z", "--name-only", commit, "training_presets")
        names = [name for name in listed.split("\0") if name.endswith(".json")]
        for name in names[:: max(1, len(names) // PRESETS)][:PRESETS]:
            found.append(json.loads(git(checkout, "show", f"{commit}:{name}")))
    return found


def main(checkout: str, text: str) -> None:
    """Print the record."""
    sys.path.insert(0, text)
    sys.meta_path.insert(0, Finder([Path(text)]))
    from modules.util.config.ConceptConfig import ConceptConfig  # noqa: PLC0415
    from modules.util.config.TrainConfig import TrainConfig  # noqa: PLC0415

    def migrated(config: Any, data: dict[str, Any]) -> dict[str, Any]:
        data = deepcopy(data)
        version = data.get("__version", 0)
        while version in config.config_migrations:
            data = config.config_migrations[version](data)
            version += 1
        return json.loads(json.dumps(data, default=str))  # type: ignore[no-any-return]

    train, concept = TrainConfig.default_values(), ConceptConfig.default_values()
    base = {"model_type": "STABLE_DIFFUSION_15", "concept_file_name": "concepts.json"}
    parts = ("unet", "prior", "text_encoder", "text_encoder_2", "vae", "effnet_encoder", "decoder",
             "decoder_text_encoder", "decoder_vqgan")  # fmt: skip
    flat = base | {f"{part}_weight_dtype": "NONE" for part in parts}  # as all saved files have
    cases = [flat | {"weight_dtype": "FLOAT_16"} | each for each in presets(checkout)]
    cases += [
        ({**flat, **each} if each.get("__version", 0) < 2 else {**base, **SHARED, **each})
        | {"weight_dtype": "FLOAT_16"}
        for each in BY_HAND
    ]
    rows: list[dict[str, Any]] = [
        {"name": "a", "repeats": 3},
        {"__version": 1, "balancing": 2, "validation_concept": True},
        {"repeats": 0.5, "validation_concept": False},
    ]
    record = {
        "source": f"Nerogar/OneTrainer {git(checkout, 'rev-parse', 'HEAD').strip()}",
        "configs": [{"given": each, "made": migrated(train, each)} for each in cases],
        "concepts": [{"given": each, "made": migrated(concept, each)} for each in rows],
    }
    print("{")
    print(f'"source": {json.dumps(record["source"])},')
    for name in ("configs", "concepts"):
        print(f'"{name}": [')
        print(",\n".join(json.dumps(each) for each in record[name]))
        print("]," if name == "configs" else "]")
    print("}")


if __name__ == "__main__":
    main(*sys.argv[1:])

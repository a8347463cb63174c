"""The smallest training configurations of other trainers, for what they say of noise levels."""

import json
from pathlib import Path
from typing import Any


def write_job(trainer: str, folder: Path, model: dict[str, Any], options: dict[str, Any]) -> Path:
    """The smallest training configuration of a trainer, with one folder of one picture."""
    file = folder / (
        "job.toml" if trainer in ("kohya", "musubi", "blissful", "diffusion_pipe") else "job.json"
    )
    match trainer:
        case "kohya":
            tree: dict[str, Any] = {"train_data_dir": "train", "resolution": 512}
            tree |= model | options
        case "musubi" | "blissful":
            sets = f"[general]\nresolution = [64, 64]\n[[datasets]]\n{key('image_directory')}"
            (folder / "sets.toml").write_text(f'{sets}cache_directory = "cache"\n')
            tree = {"dataset_config": "sets.toml"} | model | options
        case "diffusion_pipe":
            row = "resolutions = [512]\n[[directory]]\npath = 'pictures'\nnum_repeats = 1\n"
            (folder / "sets.toml").write_text(row)
            lines = [f"{name} = {json.dumps(value)}" for name, value in (model | options).items()]
            file.write_text("\n".join(["dataset = 'sets.toml'", "epochs = 1", "[model]", *lines]))
            return file
        case "onetrainer":
            concept = {"path": str(folder / "pictures"), "name": "one"}
            tree = {"training_method": "LORA", "concepts": [concept]} | model | options
        case "ai_toolkit":
            train = {"noise_scheduler": "flowmatch"} | options
            process = {"type": "sd_trainer", "model": model, "train": train}
            process["datasets"] = [{"folder_path": str(folder / "pictures")}]
            tree = {"job": "extension", "config": {"name": "one", "process": [process]}}
        case _:
            backend = {"id": "one", "type": "local", "instance_data_dir": str(folder / "pictures")}
            (folder / "sets.json").write_text(json.dumps([backend | {"resolution": 512}]))
            tree = {"data_backend_config": "sets.json"} | model | options
    toml = "\n".join(f"{name} = {json.dumps(value)}" for name, value in tree.items())
    file.write_text(toml if file.suffix == ".toml" else json.dumps(tree))
    return file


def key(name: str) -> str:
    return f'{name} = "pictures"\n'

"""Damaged configurations of the six trainers: imported, or refused in a sentence."""

import json
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import yaml
from PIL import Image
from tests.fuzz.mutate import damage, damage_value, tried
from tests.fuzz.mutate_text import brief, text_of
from tests.importers.trainers.ai_toolkit import files as ai_toolkit_files
from tests.importers.trainers.diffusion_pipe import files as diffusion_pipe_files
from tests.importers.trainers.kohya import files as kohya_files
from tests.importers.trainers.onetrainer import files as onetrainer_files
from tests.importers.trainers.simpletuner import files as simpletuner_files

from frisket.recipes.import_ import run as imported

QUICK = 24  # a trainer
MANY = pytest.mark.slow
MUSUBI = """
[general]
caption_extension = ".txt"
resolution = [960, 544]
[[datasets]]
image_directory = "cats"
control_directory = "cats"
mask_directory = "masks"
num_repeats = 3
[[datasets]]
image_jsonl_file = "list.jsonl"
"""


def _yaml(tree: Any) -> str:
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


BACKENDS = [
    simpletuner_files.images(instance_data_dir="cats", conditioning_data="masks"),
    simpletuner_files.masks(),
    simpletuner_files.TEXTS,
]
JOB = ai_toolkit_files.job(
    {"folder_path": "cats", "mask_path": "masks", "caption_ext": "txt"},
    train={"steps": 10, "optimizer": "adamw8bit", "optimizer_params": {"weight_decay": 1e-4}},
    model={"name_or_path": "black-forest-labs/FLUX.1-dev", "is_flux": True},
)
CONCEPTS = onetrainer_files.config(concepts=[onetrainer_files.concept("cats")])

FLAGS = {
    "dataset_config": "data.toml", "learning_rate": 1e-4, "optimizer_type": "Prodigy",
    "optimizer_args": ["d_coef=0.8", "betas=0.9,0.99"], "lr_scheduler": "warmup_stable_decay",
    "lr_decay_steps": 0.2, "lr_warmup_steps": 5, "max_train_epochs": 3, "save_every_n_epochs": 1,
    "network_args": ["conv_dim=4", "loraplus_lr_ratio=4", "block_dims=1,2"], "network_dim": 8,
    "sample_prompts": "prompts.txt", "sample_every_n_steps": 10, "mixed_precision": "bf16",
}  # fmt: skip
KOHYA_TRAINING = {
    "rates": FLAGS,
    "model": {
        "pretrained_model_name_or_path": "m/sd_xl_base_1.0.safetensors",
        "network_module": "networks.lora",
        "noise_offset": 0.05,
    },
}
MUSUBI_TRAINING = {
    **FLAGS, "task": "t2v-A14B", "dit": "wan2.2_low_noise.safetensors", "flash_attn": True,
    "network_module": "networks.lora_wan", "timestep_sampling": "shift",
}  # fmt: skip
BESIDE = {"kohya": "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\n",
          "musubi": "[[datasets]]\nimage_directory = 'cats'\n"}  # fmt: skip

# Trainer, name of the file, what it holds, and how a tree is written.
SEEDS: tuple[tuple[str, str, Any, Callable[[Any], str]], ...] = (
    ("kohya", "set.toml", tomllib.loads(kohya_files.EVERYTHING), tomlkit.dumps),
    ("musubi", "set.toml", tomllib.loads(MUSUBI), tomlkit.dumps),
    ("kohya", "train.toml", KOHYA_TRAINING, tomlkit.dumps),
    ("musubi", "train.toml", MUSUBI_TRAINING, tomlkit.dumps),
    ("diffusion_pipe", "main.toml", tomllib.loads(diffusion_pipe_files.MAIN), tomlkit.dumps),
    ("onetrainer", "config.json", CONCEPTS, json.dumps),
    ("simpletuner", "multidatabackend.json", BACKENDS, json.dumps),
    ("ai_toolkit", "job.yaml", JOB, _yaml),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which every seed finds what it names."""
    pictures = ("cats", "dogs", "reg", "grey")
    for folder, mode in [
        *((name, "RGB") for name in pictures),
        ("masks", "L"),
        ("grey/masks", "L"),
    ]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            Image.new(mode, (32, 32), 200).save(tmp_path / folder / f"{name}.png")
            for suffix in (".txt", ".caption"):
                (tmp_path / folder / f"{name}{suffix}").write_text("one, two")
    (tmp_path / "list.jsonl").write_text('{"image_path": "cats/a.png", "caption": "one"}\n')
    (tmp_path / "prompts.txt").write_text("a cat --w 64 --d 1\n")
    (tmp_path / "dataset.toml").write_text("resolutions = [512]\n[[directory]]\npath = 'grey'\n")
    return tmp_path


@pytest.mark.parametrize("seeds", [range(QUICK), pytest.param(range(QUICK, 400), marks=MANY)])
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed[0]}-{seed[1]}")
def test_a_damaged_import(
    project: Path, seed: tuple[str, str, Any, Callable[[Any], str]], seeds: range
) -> None:
    trainer, name, tree, dump = seed
    source, output = project / name, project / "mine" / "frisket.toml"
    whole = dump(tree)
    source.write_text(whole)
    (project / "data.toml").write_text(BESIDE.get(trainer, ""))
    imported(source, output, trainer=trainer)  # as it is, it works

    def write(rng: random.Random) -> None:
        if rng.random() < 0.4:
            source.write_bytes(damage(whole.encode(), rng))
            return
        text = text_of(damage_value(tree, rng), dump)
        source.write_text(text, encoding="utf-8", errors="surrogatepass")

    def run(rng: random.Random) -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        write(rng)
        brief(lambda: imported(source, output, trainer=trainer))

    tried(seeds, run)

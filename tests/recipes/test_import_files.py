"""`frisket import` of several files of one run: training options on one flag, data on another."""

import itertools
import tomllib
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from frisket.config.load import ConfigError
from frisket.importers.base import BadImport
from frisket.recipes.import_ import run

KOHYA = """\
[network]
unet_lr = 5e-4
text_encoder_lr = 1e-4
network_dim = 32
network_alpha = 16
network_module = "networks.lora"
[rates]
learning_rate = 5e-4
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 303
optimizer_type = "AdamW8bit"
[training]
max_train_epochs = 15
save_every_n_epochs = 1
save_last_n_epochs = 10
train_batch_size = 2
min_snr_gamma = 5.0
max_token_length = 225
clip_skip = 2
seed = 42
output_name = "subject"
[model]
pretrained_model_name_or_path = "/elsewhere/downloaded_model.safetensors"
v2 = false
"""
KOHYA_SETS = """\
[[datasets]]
[[datasets.subsets]]
num_repeats = 15
image_dir = "clips"
[general]
resolution = 1024
shuffle_caption = true
keep_tokens = 1
flip_aug = true
caption_extension = ".txt"
enable_bucket = true
"""
MUSUBI = """\
task = "t2v-14B"
network_module = "networks.lora_wan"
network_dim = 8
learning_rate = 1e-4
max_train_epochs = 4
save_every_n_epochs = 2
"""
MUSUBI_SETS = """\
[[datasets]]
image_directory = "clips"
resolution = [64, 64]
caption_extension = ".txt"
"""
SD3 = """\
pretrained_model_name_or_path = "/models/unet/sd3.5_large.safetensors"
clip_l = "/models/clip/clip_l.safetensors"
clip_g = "/models/clip/clip_g.safetensors"
train_data_dir = "numbered"
train_batch_size = 2
save_every_n_epochs = 1
optimizer_type = "AdamW8bit"
optimizer_args = []
learning_rate = 1e-4
lr_scheduler = "constant_with_warmup"
lr_warmup_steps = 0
network_module = "networks.lora_sd3"
network_dim = 128
network_alpha = 128
max_train_epochs = 5
max_train_steps = 100000000
discrete_flow_shift = 3.1582
timestep_sampling = "shift"
mixed_precision = "fp16"
resolution = "1024,1024"
enable_bucket = true
caption_extension = ".txt"
dataset_config = ""
reg_data_dir = ""
"""


@pytest.fixture
def job(tmp_path):
    """A folder for the files of each kind, as people have them, beside three pictures."""
    for name in ("sets/clips", "own/numbered/10_sks thing"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = np.full((48, 64, 3), 60 * number, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            (folder / f"{number}.txt").write_text(f"sks thing, tag{number}, on a beach")
    texts = {"train.toml": KOHYA, "sets/data.toml": KOHYA_SETS, "wan.toml": MUSUBI,
             "sets/wan.toml": MUSUBI_SETS, "own/sd3.toml": SD3}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def imported(job, *names, **options) -> tuple[dict, list[str]]:
    output = job / "out" / f"{'-'.join(name.replace('/', '_') for name in names)}"
    output.parent.mkdir(exist_ok=True)
    said = run([job / name for name in names], output, **options)
    return tomllib.loads(output.read_text()), said


@pytest.mark.parametrize("names", list(itertools.permutations(["train.toml", "sets/data.toml"])))
def test_a_pair_of_files_is_one_run_in_either_order(job, names):
    config, said = imported(job, *names)
    assert config["lora"] == {"rank": 32, "alpha": 16.0}
    assert config["optimizer"] == {
        "name": "adamw8bit", "lr": 5e-4, "weight_decay": 0.01, "warmup": 303, "cycles": 3.0,
        "schedule": "cosine_with_restarts",
    }  # fmt: skip
    # A flipped set is twice as long here, so an epoch is two of theirs, and 15 are no whole number.
    assert config["run"] == {
        "batch": 2, "steps": 15 * 23, "save_every": 23, "keep": 10, "seed": 42, "output": "subject",
    }  # fmt: skip
    (data,) = config["data"]
    assert data.pop("clips").endswith("sets/clips")
    assert data == {
        "repeats": 15, "flip": True, "shuffle_tags": True, "keep_tags": 1, "resolution": 1024,
        "buckets": True, "caption_part": "line",
    }  # fmt: skip
    assert config["timesteps"]["min_snr"] == 5.0
    assert config["model"] == {"family": "stable_diffusion", "variant": "sdxl", "max_tokens": 225}
    text = "\n".join(said)
    assert "text_encoder_lr" in text
    assert "cannot be told from the name" in text
    assert "--variant" in text


@pytest.mark.parametrize("names", list(itertools.permutations(["wan.toml", "sets/wan.toml"])))
def test_the_data_tell_whose_a_training_file_is(job, names):
    config, said = imported(job, *names)
    assert "musubi" in said[0]
    assert config["model"]["variant"] == "2.1-t2v-14b"
    assert config["run"] == {"batch": 1, "epochs": 4, "save_every": 0, "save_every_epochs": 2,
                             "keep": 2}  # fmt: skip


def test_a_training_file_alone_says_that_it_needs_another(job):
    with pytest.raises(BadImport, match=r"frisket import train\.toml dataset\.toml"):
        imported(job, "train.toml")
    with pytest.raises(ConfigError, match="give the other files of its run"):
        imported(job, "wan.toml")
    with pytest.raises(BadImport, match=r"frisket import wan\.toml dataset\.toml"):
        imported(job, "wan.toml", trainer="musubi")


def test_a_data_file_that_is_elsewhere_is_given_besides(job):
    text = 'dataset_config = "/content/gone.toml"\n'
    (job / "train.toml").write_text(text + KOHYA)
    with pytest.raises(BadImport, match="or give both files"):
        imported(job, "train.toml")
    config, _ = imported(job, "train.toml", "sets/data.toml")
    assert len(config["data"]) == 1


def test_files_of_two_trainers_are_refused_by_name(job):
    with pytest.raises(ConfigError, match=r"different trainers: .*train\.toml.*wan\.toml"):
        imported(job, "train.toml", "sets/wan.toml")


def test_the_name_of_a_checkpoint_tells_the_model(job):
    config, _ = imported(job, "own/sd3.toml")
    assert config["model"] == {"family": "sd3", "variant": "3.5-large", "dtype": "float16"}
    assert config["lora"] == {"rank": 128, "alpha": 128.0}
    assert config["optimizer"]["lr"] == 1e-4
    assert config["optimizer"]["schedule"] == "constant"
    assert config["run"]["epochs"] == 5
    assert config["run"]["save_every_epochs"] == 1
    assert config["run"]["keep"] == 5


def test_what_must_be_done_first_is_told_at_once(job):
    text = SD3.replace(
        'optimizer_type = "AdamW8bit"', 'optimizer_type = "DAdaptAdam"\nxformers = true'
    )
    (job / "own/sd3.toml").write_text(text.replace("learning_rate = 1e-4", "learning_rate = 1.0"))
    config, said = imported(job, "own/sd3.toml")
    assert config["optimizer"]["name"] == "DAdaptAdam of sd-scripts"
    assert "lr" not in config["optimizer"]
    todo = said[said.index("Before it trains:") :]
    assert any("optimizer.lr" in line for line in todo)
    assert any("xformers" in line for line in todo) == (find_spec("xformers") is None)


def test_the_output_of_another_machine_is_not_made_here(job):
    for written in ("/content/drive/MyDrive/out", "D:\\loras\\out"):
        (job / "own/sd3.toml").write_text(f"output_dir = '{written}'\n" + SD3)
        config, _ = imported(job, "own/sd3.toml")
        assert config["run"]["output"] == "runs/out"
        (job / "out/own_sd3.toml").unlink()

# ruff: noqa: PLC0415
"""Records what LoRA Easy Training Scripts' backend makes of saved files for sd-scripts.

    python scripts/peers/easy.py BACKEND COMMIT > tests/importers/sources/easy_training.json

BACKEND is a folder with the repository's text. Each file is split as the program's `process_toml`
splits it (sections' `args` and `dataset_args`), and goes through the backend's own `validate`.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import tomllib
from pathlib import Path

from options import Finder

PLAIN = """
[[subsets]]
name = "subset 1"
num_repeats = 10
keep_tokens = 1
caption_extension = ".txt"
shuffle_caption = true
flip_aug = false
random_crop = true
is_reg = false
image_dir = "images"
[noise_args]
[train_mode]
train_mode = "lora"
[general_args.args]
pretrained_model_name_or_path = "model.safetensors"
mixed_precision = "bf16"
seed = 23
clip_skip = 2
xformers = true
max_train_steps = 500
[general_args.dataset_args]
resolution = 768
batch_size = 2
max_token_length = 75
[network_args.args]
network_dim = 8
network_alpha = 1.0
[optimizer_args.args]
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine"
learning_rate = 0.0001
lr_scheduler_num_cycles = 2
warmup_ratio = 0.05
[saving_args.args]
output_dir = "out"
output_name = "test"
save_every_n_epochs = 1
[bucket_args.dataset_args]
enable_bucket = true
min_bucket_reso = 256
max_bucket_reso = 1024
bucket_reso_steps = 64
[optimizer_args.args.optimizer_args]
weight_decay = 0.1
betas = "0.9,0.99"
"""
MORE = PLAIN.replace('optimizer_type = "AdamW8bit"', """optimizer_type = "Prodigy"
lr_scheduler_type = "a.b.Cosine"
unet_lr = 0.0
masked_loss = "true"
weighted_captions = "False"
""") + """
decouple = "true"
[network_args.args.network_args]
algo = "lokr"
factor = 8
preset = ""
conv_dim = 4
[optimizer_args.args.lr_scheduler_args]
min_lr = 1e-6
"""  # fmt: skip
BLOCKS = PLAIN.replace("network_dim = 8", "network_dim = 8\nfa = true") + """
[network_args.args.network_args]
down_lr_weight = [0.5, 1, 1]
block_dims = [2, 4]
"""  # fmt: skip
DYLORA = PLAIN + "[network_args.args.network_args]\nunit = 4\n"
FLUX = (
    PLAIN + '[flux_args.args]\nguidance_scale = 3.5\ntimestep_sampling = "sigmoid"\nae = "ae.sft"\n'
)


def main(root: Path, commit: str) -> None:
    """Print the record."""
    sys.path.insert(0, str(root))
    sys.meta_path.insert(0, Finder([root]))
    from utils.validation import validate

    cases = []
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("images").mkdir()
        Path("out").mkdir()
        Path("model.safetensors").touch()
        Path("config.json").write_text("{}")
        for text in (PLAIN, MORE, BLOCKS, DYLORA, FLUX):
            tree = tomllib.loads(text)
            data = {"subsets": tree.pop("subsets")}
            args = {}
            for name, section in tree.items():
                if "args" in section:
                    args[name] = section["args"]
                if "dataset_args" in section:
                    data[name] = section["dataset_args"]
            with contextlib.redirect_stdout(io.StringIO()):
                passed, _, errors, made, dataset, _ = validate({"args": args, "dataset": data})
            assert passed, errors
            cases.append({"text": text, "args": made, "dataset": dataset})
    source = f"derrian-distro/LoRA_Easy_Training_scripts_Backend {commit}"
    print(json.dumps({"source": source, "cases": cases}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])

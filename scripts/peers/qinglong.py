# ruff: noqa: PLC0415
"""Records what the qinglong GUI starts musubi-tuner with for its own presets.

    python scripts/peers/qinglong.py SCRIPTS COMMIT > tests/importers/sources/qinglong.json

SCRIPTS is a folder with the repository's text. Presets go through its own `build_train_job`.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from options import Finder

MODELS = ("Wan2.1", "HunyuanVideo", "FramePack", "FLUX Kontext", "FLUX.2", "Qwen Image", "Z-Image",
          "HV 1.5")  # fmt: skip
SECRETS = ("wandb_api_key", "huggingface_token")
MORE: tuple[dict[str, Any], ...] = (
    {"optimizer_type": "Prodigy", "lr_warmup_steps": 10, "d_coef": "2", "d0": "1e-5"},
    {"optimizer_type": "Lion_Prodigy_adv", "compile": True, "lr_warmup_steps": "5%"},
    {"optimizer_type": "AdamW", "enable_lycoris": True, "lycoris_conv_dim": 4},
    {"optimizer_type": "StableAdamW", "enable_lora_plus": "true", "loraplus_lr_ratio": 4},
    {"optimizer_type": "a.B", "optimizer_extra_args": "x=1 y=2 # no\nz=3", "enable_blocks": True},
    {"optimizer_type": "AdamWScheduleFree", "timestep_sampling": "qinglong",
     "lycoris_algo": "locon", "enable_lycoris": 1, "lycoris_dropout": 0.1,
     "lycoris_conv_dim": 2, "lycoris_conv_alpha": 1},
    {"enable_lycoris": True, "lycoris_algo": "dylora", "lycoris_conv_dim": 1},
    {"enable_lycoris": True, "lycoris_algo": "ia3", "lycoris_train_norm": True},
    {"weighting_scheme": "logit_normal", "logit_mean": 0.5, "save_every_n_steps": "100"},
    {"weighting_scheme": "uniform", "enable_sample": "true", "wandb_api_key": "x"},
    {"version": "2509", "train_mode": "LoRA", "network_dropout": 0.1},
    {"enable_lycoris": True, "lycoris_algo": "diag-oft", "lycoris_train_norm": True,
     "network_weights": "w.safetensors", "dim_from_weights": 1, "base_weights": "b"},
)  # fmt: skip


def main(root: Path, commit: str) -> None:
    """Print the record."""
    sys.path.insert(0, str(root / "gui"))
    sys.meta_path.insert(0, Finder([root / "gui"]))
    from utils import command_builder

    command_builder._export_dataset = lambda *_: "data.toml"
    cases = []
    for file in sorted((root / "gui" / "presets" / "train").glob("*.toml")):
        tree = tomllib.loads(file.read_text("utf-8"))
        if tree.get("arch") not in MODELS or tree.get("dopsd"):  # its sources lie elsewhere
            continue
        given = {n: "" if n in SECRETS else v for n, v in tree.items()}
        for more in ({}, *(MORE if file.stem in ("wan2_1", "qwen_image") else ())):
            state = given | {"dataset_config": "data.toml"} | more
            job = command_builder.build_train_job(state, root, {})
            name = f"{file.name} {' '.join(map(str, more.values()))}".strip()
            cases.append({"name": name, "preset": file.stem, "more": more, "args": job.args,
                          "script": Path(job.script_key).name})  # fmt: skip
            presets[file.stem] = {n: v for n, v in given.items() if v is not False and v != ""}
    print(json.dumps({"source": f"sdbds/musubi-tuner-scripts {commit}"})[:-1] + ",")
    print('"presets": {')
    print(",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in presets.items()))
    print('},\n"cases": [')
    print(",\n".join(map(json.dumps, cases)) + "\n]}")


presets: dict[str, dict[str, Any]] = {}
if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])

"""Two real runs of a tiny model, with previews, samples and one evaluation, for the run pages."""

from pathlib import Path
from typing import Any

import tomlkit

from frisket.config.load import load
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.evaluate import Measures, evaluate
from frisket.recipes.generate import generate
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.scoring.runs import read_run


def write_config(path: Path, **sections: Any) -> Path:
    """Four steps on a random model beside the config; sections are laid over."""
    tree: dict[str, Any] = {
        "model": {"source": "model", "device": "cpu"},
        "data": [{"clips": "data/clips", "masks": "data/masks"}],
        "regions": {"subject": 1.0},
        "lora": {"rank": 2},
        "optimizer": {"lr": 1e-2},
        "validation": {"holdout": 2, "t": [0.4], "every": 2},
        "preview": {"steps": 1, "every": 2, "prompts": ["sks"], "seeds": [0, 1]},
        "run": {"cache": "cache", "steps": 4, "batch": 2, "save_every": 0},
    }
    for name, section in sections.items():
        tree[name] = tree[name] | section if isinstance(section, dict) else section
    path.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return path


def make_runs(root: Path) -> None:
    """Fill `root`: a model, a data set, mask.toml and plain.toml, and their runs in runs/."""
    root.mkdir(exist_ok=True)
    FAMILY.save(FAMILY.tiny("image"), root / "model")
    quickstart_data.make_clips(root / "data", seed=0)
    configs = [
        write_config(root / "mask.toml", run={"output": "runs/mask"}),
        write_config(
            root / "plain.toml",
            data=[{"clips": "data/clips"}],
            optimizer={"lr": 5e-3},
            run={"output": "runs/plain"},
        ),
    ]
    for config in configs:
        train(load(config))
    runs = root / "runs"
    for name in ("mask", "plain"):
        lora = runs / name / "lora.safetensors"
        folder = runs / name / "samples" / "001"
        with_base = name == "mask"
        generate(
            read_run(runs / name),
            ["sks"],
            folder,
            lora=[(lora, 1.0)],
            without=with_base,
            seeds=[0, 1],
            steps=1,
        )
    configs_of_runs = [read_run(runs / name) for name in ("mask", "plain")]
    measures = Measures(seeds=2, draws=1, unrelated=("a ring",))
    evaluate(configs_of_runs, runs / "mask" / "evaluation", measures)

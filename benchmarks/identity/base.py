"""The base that draws faces: the packaged pocket UNet, all of its weights trained by the trainer.

    nice -n 5 python -m benchmarks.identity.base OUT

Resumable: what stopped goes on from its newest checkpoint.
"""

import argparse
from pathlib import Path

import torch
from benchmarks.identity.people import list_corpus, write_portraits

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.recipes.train import train

STEPS, BATCH, RATE = 700, 8, 4e-4


def make_config(out: Path, steps: int = STEPS) -> Config:
    """The run as a configuration file would say it."""
    config = Config.model_validate(
        {
            "model": {"family": "pocket", "variant": "image", "device": "cpu", "train": "all"},
            "data": [{"clips": out / "corpus" / "clips", "resolution": 32, "caption_dropout": 0.1}],
            "optimizer": {"lr": RATE, "warmup": 50, "schedule": "cosine", "ema": 0.995},
            "run": {
                "output": out / "base",
                "cache": out / "cache",
                "steps": steps,
                "batch": BATCH,
                "seed": 0,
                "save_every": 100,
                "keep": 1,
            },
        }
    )
    check(config)
    return config


def make_base(out: Path, steps: int = STEPS) -> Path:
    """Draw the corpus, train, and give the folder that `model.source` may name, once."""
    done = out / "base" / "model"
    if done.is_dir():
        return done
    write_portraits(out / "corpus", list_corpus())
    model = train(make_config(out, steps)).model
    assert model is not None
    return model


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_base(options.out.resolve())


if __name__ == "__main__":
    main()

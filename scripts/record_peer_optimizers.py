"""Records which class other trainers' own code makes of an optimizer's name, for its importer.

    python scripts/record_peer_optimizers.py kohya=CHECKOUT musubi=CHECKOUT ai_toolkit=CHECKOUT

As record_peer_losses.py: checkouts as there, nothing of their text is kept. For each name of
optimizers.toml the class is kept, and the options its parameters get at a rate of 0.01 (or
the error where the code does not make one). Needs the packages that they are from.
"""

import argparse
import ast
import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import torch
import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit  # noqa: E402

from frisket.importers.optimizers import read_optimizers  # noqa: E402

TO = ROOT / "tests/importers/peer_optimizers.json"
RATE = 0.01
Make = Callable[[str, Any], torch.optim.Optimizer]
NAMES = {"ast": ast, "importlib": importlib, "transformers": transformers, "argparse": argparse}


def kohya(commit: Commit) -> Make:
    make = commit.function("library/train_util.py", "get_optimizer", **NAMES)
    return lambda name, parameters: make(_asked(name), parameters)[2]


def musubi(commit: Commit) -> Make:
    file = "src/musubi_tuner/training/trainer_base.py"
    make = commit.function(file, "get_optimizer", **NAMES)
    return lambda name, parameters: make(Stub(), _asked(name), parameters)[2]


def ai_toolkit(commit: Commit) -> Make:
    make = commit.module("toolkit/optimizer.py").get_optimizer
    return lambda name, parameters: make(parameters, name, RATE, {})


def _asked(name: str) -> Any:
    """The arguments of kohya's trainers; Adafactor takes the rate it is given, not one it finds."""
    arguments = ["relative_step=False"] if name.lower() == "adafactor" else None
    return Stub(
        optimizer_type=name, use_8bit_adam=False, use_lion_optimizer=False,
        optimizer_args=arguments, learning_rate=RATE, fused_backward_pass=False,
        lr_scheduler="constant", max_grad_norm=1.0,
        gradient_accumulation_steps=1, optimizer_schedulefree_wrapper=False,
    )  # fmt: skip


def recorded(make: Make, name: str) -> dict[str, Any]:
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    try:
        made = make(name, [parameter])
    except Exception as error:
        return {"error": type(error).__name__}
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in made.param_groups[0].items()
        if isinstance(value, bool | int | float | tuple) and value != math.inf
    }
    kind = type(made)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "options": plain}


def main() -> None:
    found: dict[str, Any] = {}
    for each in sys.argv[1:]:
        trainer, _, checkout = each.partition("=")
        commit = Commit(checkout)
        make = {"kohya": kohya, "musubi": musubi, "ai_toolkit": ai_toolkit}[trainer](commit)
        names = [name.rstrip("*") for name in read_optimizers()[trainer]]
        rows = {name: recorded(make, name) for name in names}
        found[trainer] = {"commit": commit.name, "files": commit.files, "optimizers": rows}
    TO.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

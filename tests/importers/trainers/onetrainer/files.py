"""A little project of OneTrainer, and how its tests read it."""

import json
from typing import Any

import pytest

from frisket.importers.base import IMPORT_FORMATS

LAYOUT = IMPORT_FORMATS.load("onetrainer")


def concept(path: str, **options: Any) -> dict[str, Any]:
    image = options.pop("image", {})
    text = options.pop("text", {})
    return {"__version": 2, "image": image, "text": text, "path": path, **options}


def config(**options: Any) -> dict[str, Any]:
    return {
        "__version": 11,
        "training_method": "LORA",
        "model_type": "FLUX_DEV_1",
        "masked_training": True,
        "concepts": [concept("set")],
        **options,
    }


@pytest.fixture
def imported(tmp_path):
    def write(tree: Any, name: str = "config.json"):
        (tmp_path / name).write_text(json.dumps(tree, indent=2))
        return LAYOUT.read(tmp_path / name)

    return write


@pytest.fixture
def clips(drawn):
    root = drawn("set", "a.png", "b.jpg", "sub/c.png", caption="one, two")
    drawn("set", "a-masklabel.png", mode="L")
    drawn("set", "b-condlabel.png")
    return root

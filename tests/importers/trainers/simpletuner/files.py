"""A little project of SimpleTuner, and how its tests read it."""

import json
from typing import Any

import pytest

from frisket.importers.base import IMPORT_FORMATS

LAYOUT = IMPORT_FORMATS.load("simpletuner")
TEXTS = {"id": "texts", "type": "local", "dataset_type": "text_embeds", "default": True}


def images(**options: Any) -> dict[str, Any]:
    return {
        "id": "subject",
        "type": "local",
        "dataset_type": "image",
        "instance_data_dir": "clips",
        "caption_strategy": "textfile",
        **options,
    }


def masks(kind: str = "mask", **options: Any) -> dict[str, Any]:
    return {
        "id": "masks",
        "type": "local",
        "dataset_type": "conditioning",
        "instance_data_dir": "masks",
        "conditioning_type": kind,
        **options,
    }


@pytest.fixture
def clips(drawn):
    root = drawn("clips", "a_b.png", "sub/c.png", caption="one, two\n")
    drawn("masks", "a_b.png", "sub/c.png", mode="L")
    return root


@pytest.fixture
def imported(tmp_path):
    def write(tree: Any, name: str = "multidatabackend.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(tree, indent=2))
        return LAYOUT.read(tmp_path / name)

    return write

"""A little project of ai-toolkit, and how its tests read it."""

from typing import Any

import pytest
import yaml

from frisket.importers.base import IMPORT_FORMATS

LAYOUT = IMPORT_FORMATS.load("ai_toolkit")


def job(*datasets: dict[str, Any], **process: Any) -> dict[str, Any]:
    return {
        "job": "extension",
        "config": {
            "name": "mine",
            "process": [{"type": "sd_trainer", "datasets": list(datasets), **process}],
        },
        "meta": {"name": "[name]", "version": "1.0"},
    }


@pytest.fixture
def clips(drawn):
    root = drawn("clips", "a.png", "b.jpg", caption="one,\ntwo\n")
    drawn("masks", "a.webp", mode="L")
    return root


@pytest.fixture
def imported(tmp_path):
    def write(tree: Any, name: str = "job.yaml"):
        text = tree if isinstance(tree, str) else yaml.safe_dump(tree, sort_keys=False)
        (tmp_path / name).write_text(text)
        return LAYOUT.read(tmp_path / name)

    return write

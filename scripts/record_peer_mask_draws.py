"""Records how OneTrainer shrinks masks and ai-toolkit blurs them, for tests/masks/test_drawn.py.

    python scripts/record_peer_mask_draws.py mgds=CHECKOUT ai_toolkit=CHECKOUT

As record_peer_losses.py: nothing of their text is kept, only what it gives for the masks of
tests/masks/ellipses.py.
"""

import json
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit, run  # noqa: E402
from tests.masks.ellipses import blurred_mask, marks, shrunk_mask  # noqa: E402

TO = ROOT / "tests/masks/peer_mask_draws.json"
DRAWS = 2000


def shrunk(commit: Commit) -> dict[str, Any]:
    """Points, shares and areas of the first draws, and the quantiles of the area of all."""
    text = commit.text("src/mgds/pipelineModules/RandomCircularMaskShrink.py")
    names: dict[str, Any] = {
        "PipelineModule": type("PipelineModule", (), {"__init__": lambda _: None}),
        "RandomAccessPipelineModule": type("RandomAccessPipelineModule", (), {}),
    }
    run(re.sub(r"(?m)^from mgds.*$", "", text), names)
    kind = names["RandomCircularMaskShrink"]
    module = kind("mask", "on", 1.0, 0.2, 1.0)
    mask = shrunk_mask()[None]
    module._get_previous_item = lambda _, name, __: True if name == "on" else mask
    module._get_rand = lambda _, index: random.Random(index)
    rows, areas = [], []
    for index in range(DRAWS):
        made = module.get_item(0, index)["mask"]
        areas.append(float(made.sum() / mask.sum()))
        if index < 12:
            again = random.Random(index)
            point = kind._RandomCircularMaskShrink__get_random_point_in_mask(
                mask, again.randint(0, 1 << 30)
            )
            rows.append(
                {
                    "point": [int(each) for each in point],
                    "share": again.uniform(0.2, 1.0),
                    "pixels": int((made > 0).sum()),
                    "sum": round(float(made.double().sum()), 4),
                }
            )
    quantiles = [round(float(each), 4) for each in np.quantile(areas, [0.1, 0.5, 0.9])]
    return {"draws": rows, "quantiles": quantiles}


def blurred(commit: Commit) -> list[dict[str, Any]]:
    part = commit.part(
        "toolkit/dataloader_mixins.py",
        "# randomly apply a blur up to",
        "img = img.filter",
        last=True,
    )
    rows = []
    for place in (0.0, 0.3, 0.6, 0.99):
        grey = Image.fromarray((blurred_mask().numpy() * 255).astype(np.uint8))
        given: dict[str, Any] = {"img": grey.convert("RGB"), "ImageFilter": ImageFilter}
        given["random"] = Stub(random=lambda place=place: place)
        run(part, given)
        rows.append({"place": place, "marks": marks(np.array(given["img"].convert("L")))})
    return rows


if __name__ == "__main__":
    named = dict(word.split("=", 1) for word in sys.argv[1:])
    one, two = Commit(named["mgds"]), Commit(named["ai_toolkit"])
    record = {
        "sources": {"Nerogar/mgds": one.name, "ostris/ai-toolkit": two.name},
        "shrunk": shrunk(one),
        "blurred": blurred(two),
    }
    TO.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

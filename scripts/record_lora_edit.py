"""Records what LoRA-Edit's authors' own code gives, for tests of `frisket edit`.

    python scripts/record_lora_edit.py CHECKOUT

CHECKOUT is a folder of cjeen/LoRAEdit (MIT; read at cc2c155). The mask channels are what its
`InitialLayer` hands to the patch embedding, the boxes those of its `create_bbox_mask`.
`tests/families/lora_edit.json` gets the numbers, none of the code is kept.
"""

import ast
import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import cv2
import diffusers
import numpy as np
import torch
import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.families import lora_edit_scene as scene  # noqa: E402

TO = ROOT / "tests/families/lora_edit.json"
COMMIT = "cc2c155"
# What its modules import and this needs nothing of.
STUBS = (
    *("torchvision", "wan", "deepspeed", "wandb", "imageio", "pandas", "datasets", "optimum"),
    *("bitsandbytes", "multiprocess", "tensorboard", "loguru", "toml"),
)


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers for modules that are not installed with empty ones."""

    def find_spec(self, name: str, *_: Any) -> Any:
        """A spec for the stubs alone."""
        if name.partition(".")[0] in STUBS:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        """A module whose attributes are mocks."""
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is run."""


class Reached(Exception):
    """Raised where the patch embedding is called, with what it is given."""


class FakeEmbedding(torch.nn.Module):
    """Stands where the patch embedding is, and ends the pass there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Hand over what was given, as the exception."""
        raise Reached(states)


def read_channels(layer: Any, masks: torch.Tensor) -> torch.Tensor:
    """4 f h w: the mask channels they make of masks F H W (1 = edited, white)."""
    frames, height, width = masks.shape
    cells = (1 + (frames - 1) // 4, height // 8, width // 8)
    latents = torch.zeros(1, 16, *cells)
    white = (masks * 2 - 1)[None, None].expand(1, 3, -1, -1, -1).clone()
    inputs = (latents, latents.clone(), torch.zeros(1), torch.zeros(1, 5, 8))
    try:
        layer((*inputs, torch.tensor([5]), torch.zeros(1, 2, 3), white))
    except Reached as reached:
        states: torch.Tensor = reached.args[0]
        return states[0, 16:20]
    raise RuntimeError("the patch embedding was not reached")


def build_layer() -> Any:
    """Their first layer, over a model that ends where its condition is put together."""
    torch.cuda.current_device = lambda: "cpu"
    from models.wan import InitialLayer  # noqa: PLC0415

    model = SimpleNamespace(
        patch_embedding=FakeEmbedding(), model_type="i2v", freqs=torch.zeros(1),
        **dict.fromkeys(("time_embedding", "text_embedding", "time_projection", "img_emb")),
    )  # fmt: skip
    return InitialLayer(model)


def cut_function(path: Path, name: str) -> Any:
    """A function of theirs by name, wherever in the file it is nested."""
    nodes = ast.walk(ast.parse(path.read_text()))
    body = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)
    space: dict[str, Any] = {"np": np, "cv2": cv2}
    exec(compile(ast.Module([body], []), str(path), "exec"), space)
    return space[name]


def pack(plane: np.ndarray) -> str:
    """A plane of 0 and more as bits, row by row, in hexadecimal."""
    return np.packbits(plane > 0).tobytes().hex()


def main(checkout: Path) -> None:
    """Record channels and boxes."""
    _ = (diffusers.AutoencoderKLWan, transformers.AutoTokenizer)  # before the stubs: they look
    sys.meta_path.insert(0, StubFinder())
    sys.path.insert(0, str(checkout))
    layer = build_layer()
    channels = {name: read_channels(layer, scene.mark_clip(name)) for name in scene.CLIPS}
    box = cut_function(checkout / "predata_app.py", "create_bbox_mask")
    boxes = {
        name: pack(box(None, scene.mark(pieces, scene.BOX_SIZE).numpy() > 0, 50, 0.1))
        for name, pieces in scene.PIECES.items()
    }
    record = {"repository": "cjeen/LoRAEdit", "commit": COMMIT, "licence": "MIT"}
    packed = {
        name: [list(values.shape), pack(values.detach().numpy())]
        for name, values in channels.items()
    }
    TO.write_text(json.dumps(record | {"channels": packed, "boxes": boxes}) + "\n")
    print(f"{TO}: {TO.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

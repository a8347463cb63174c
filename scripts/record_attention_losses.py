# ruff: noqa: D101, D102
"""Records what the authors' own attention losses give, for tests/losses/test_attention_peers.py.

    python scripts/record_attention_losses.py TokenCompose=FOLDER break-a-scene=FOLDER \
        fastcomposer=FOLDER

A folder is the repository at the commit named in PEERS. The text of the loss (in Break-A-Scene the
lines of the training loop) is taken out of it and run on the scenes of
tests/losses/attention_scenes.py, each piece in names of its own; none of it is kept.
`tests/losses/peers/attention/<peer>.json` gets the value of each case, and the slope of its
gradient along drawn directions.
"""

import ast
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.losses.attention_scenes import RESOLUTION, AttentionScene, draw_scene  # noqa: E402

TO = ROOT / "tests/losses/peers/attention"
CASES: list[dict[str, Any]] = [
    {"seed": 0, "batch": 1, "tokens": [[2]], "aligned": True},
    {"seed": 1, "batch": 1, "tokens": [[1], [4]], "aligned": True},
    {"seed": 2, "batch": 1, "tokens": [[3], [5]], "aligned": False},
    {"seed": 3, "batch": 1, "tokens": [[1, 2], [4, 5, 6]], "aligned": False},
    {"seed": 4, "batch": 3, "tokens": [[1], [3]], "aligned": False},
]


def cut(text: str, name: str) -> str:
    """The source of a function or class of that name, wherever it stands."""
    kinds = ast.FunctionDef | ast.ClassDef
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    node = next(node for node in nodes if node.name == name)
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines))


def run(text: str, **names: Any) -> dict[str, Any]:
    """The names that a piece of text binds."""
    names |= {"torch": torch, "nn": nn, "F": functional}
    exec(compile(text, "peer", "exec", dont_inherit=True), names)
    return names


class OldResize:
    """torchvision 0.14's Resize of a tensor, which the authors ask for: bilinear, no antialias."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image: Tensor) -> Tensor:
        return functional.interpolate(image, self.size, mode="bilinear", align_corners=False)


class TokenCompose:
    commit = "5633f81"
    parts = ("token_loss", "pixel_loss")

    def __init__(self, folder: Path) -> None:
        text = (folder / "train/src/loss_utils.py").read_text()
        transforms = SimpleNamespace(Resize=OldResize)
        names = run(
            "from copy import deepcopy\nSD14_TO_SD21_RATIO = 1.5\n"
            + cut(text, "get_grounding_loss_by_layer"),
            transforms=transforms,
        )
        self.loss = names["get_grounding_loss_by_layer"]

    def __call__(self, scene: AttentionScene, maps: Sequence[Tensor]) -> dict[str, Tensor] | None:
        if len(scene.masks) > 1:
            return None  # written for one sample
        grids = [layer[0].unflatten(1, (RESOLUTION, RESOLUTION)) for layer in maps]
        masks = [scene.masks[:, region : region + 1] for region in range(len(scene.tokens))]
        given: dict[str, Tensor] = self.loss(masks, scene.tokens, RESOLUTION, grids, False)
        return {name: given[name] for name in self.parts}


class BreakAScene:
    commit = "b142cf2"

    def __init__(self, folder: Path) -> None:
        text = (folder / "train.py").read_text()
        methods = "\n".join(cut(text, name) for name in ("get_average_attention", METHOD))
        self.methods = run("from typing import List\n" + methods)
        lines = text.splitlines()
        first = next(n for n, line in enumerate(lines) if line.strip() == "attn_loss = 0")
        last = next(n for n, line in enumerate(lines) if 'logs["attn_loss"]' in line)
        self.fragment = textwrap.dedent("\n".join(lines[first:last]))

    def __call__(self, scene: AttentionScene, maps: Sequence[Tensor]) -> dict[str, Tensor] | None:
        if any(len(tokens) > 1 for tokens in scene.tokens):
            return None  # a concept is one new token
        count = len(scene.masks)
        stored = [layer.flatten(0, 1) for layer in maps]  # b heads first
        store = {"up_cross": stored[:1], "down_cross": stored[1:], "mid_cross": []}
        args = SimpleNamespace(train_batch_size=count, lambda_attention=1.0)
        trainer = SimpleNamespace(
            args=args,
            controller=SimpleNamespace(attention_store=store, cur_step=1),
            placeholder_token_ids=[100 + region for region in range(len(scene.tokens))],
        )
        for name in ("get_average_attention", METHOD):
            setattr(trainer, name, self.methods[name].__get__(trainer))
        row = torch.zeros(maps[0].shape[-1], dtype=torch.int64)
        for region, (token,) in enumerate(scene.tokens):
            row[token] = trainer.placeholder_token_ids[region]
        batch = {
            "instance_masks": scene.masks.unsqueeze(2),
            "token_ids": torch.arange(len(scene.tokens)).expand(count, -1),
            "input_ids": row.expand(2 * count, -1),  # the prior's half first
        }
        names = run(self.fragment, self=trainer, batch=batch)
        return {"attn_loss": names["attn_loss"]}


METHOD = "aggregate_attention"


class FastComposer:
    commit = "b9304a2"

    def __init__(self, folder: Path) -> None:
        text = (folder / "fastcomposer/model.py").read_text()
        wanted = (
            "BalancedL1Loss",
            "get_object_localization_loss_for_one_layer",
            "get_object_localization_loss",
        )
        names = run("\n\n".join(cut(text, name) for name in wanted))
        self.loss, self.balanced = names[wanted[-1]], names["BalancedL1Loss"]()

    def __call__(self, scene: AttentionScene, maps: Sequence[Tensor]) -> dict[str, Tensor] | None:
        if any(len(tokens) > 1 for tokens in scene.tokens):
            return None  # a subject is one token
        count = len(scene.masks)
        scores = {str(n): layer.flatten(0, 1) for n, layer in enumerate(maps)}
        index = torch.tensor([[token for (token,) in scene.tokens]] * count)
        loss = self.loss(scores, scene.masks, index, torch.ones_like(index), self.balanced)
        return {"localization_loss": loss}


PEERS: dict[str, Callable[[Path], Any]] = {
    "TokenCompose": TokenCompose,
    "break-a-scene": BreakAScene,
    "fastcomposer": FastComposer,
}


def record(name: str, folder: str) -> None:
    peer = PEERS[name](Path(folder))
    cases = []
    for case in CASES:
        scene = draw_scene(**case)
        maps = [layer.clone().requires_grad_() for layer in scene.maps]
        values = peer(scene, maps)
        if values is None:
            continue
        numbers = {}
        for part, value in values.items():
            gradients = torch.autograd.grad(value, maps, retain_graph=True)
            pairs = zip(gradients, scene.directions, strict=True)
            slope = sum(float((gradient * along).double().sum()) for gradient, along in pairs)
            numbers[part] = {"value": value.item(), "slope": slope}
        cases.append({"scene": case, "numbers": numbers})
    TO.mkdir(parents=True, exist_ok=True)
    document = {"peer": name, "commit": peer.commit, "cases": cases}
    (TO / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{name}: {len(cases)} cases")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for given in sys.argv[1:]:
        record(*given.split("=", 1))

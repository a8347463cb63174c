"""TARA's focus and alignment: the authors' numbers, whose gradient it is, what is put back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training import tara_scene as scene
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.peft_variant import route
from frisket.attention.tokens import PhrasesNotRead
from frisket.config.tree import Config
from frisket.data.sample import Batch
from frisket.families.models.pocket.family import FAMILY
from frisket.families.streams import DenoiserCall, Rows, Streams
from frisket.recipes.train import train
from frisket.training.focus import Focus, align_keys, mark

PEER = load_file(Path(__file__).with_name("tara_peer.safetensors"))


class TextModel(nn.Module):
    """A denoiser that is one key of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.to_k = nn.Linear(scene.WIDTH, scene.OUT)

    def forward(self, state: Tensor) -> Tensor:
        output: Tensor = self.to_k(state)
        return output


class TextStreams(Streams):
    """What it says of itself."""

    def find(self, name: str) -> Any:
        return "text"

    def read(self, model: nn.Module, args: Any, kwargs: Any) -> DenoiserCall:
        text = Rows("text", scene.TOKENS)
        state = list(args[0])
        return DenoiserCall(torch.ones(len(state)), (1, 1, 1), state, {"text": (text,)})


def make_batch(phrases: tuple[Any, ...]) -> Batch:
    count = len(phrases)
    return Batch(
        latents=torch.zeros(count, 1, 1, 1, 1),
        conditioning={},
        coverage=torch.zeros(count, 1, 1, 1, 1),
        masked=torch.zeros(count, dtype=torch.bool),
        weight=torch.ones(count),
        names=("clip",) * count,
        swapped=torch.zeros(count, dtype=torch.bool),
        phrases=phrases,
    )


@torch.no_grad()
def test_the_focused_layer_is_the_authors() -> None:
    model = TextModel()
    lora.attach(model, lora.LoraSpec(rank=scene.RANK, alpha=scene.ALPHA, targets=("to_k",)), seed=0)
    layer: Any = model.to_k
    layer.base_layer.weight.data = scene.draw("weight", layer.base_layer.weight.shape)
    layer.base_layer.bias.data = scene.draw("bias", layer.base_layer.bias.shape)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    down.data, up.data = scene.draw("down", down.shape), scene.draw("up", up.shape)
    factors = route(model, TextStreams())
    state = scene.draw("state", (scene.SAMPLES, scene.TOKENS, scene.WIDTH))
    torch.testing.assert_close(model(state), PEER["plain"], rtol=0, atol=1e-5)
    batch = make_batch(tuple(zip(scene.RARE, scene.LIKE, strict=True)))
    with Focus(factors, 0)(batch):
        focused = model(state)
    torch.testing.assert_close(focused, PEER["masked"], rtol=0, atol=1e-5)
    assert factors.idle


def test_the_alignment_is_the_authors_and_moves_the_update_alone() -> None:
    losses = []
    for layer in range(scene.LAYERS):
        base, update = (value.requires_grad_() for value in scene.keys(layer))
        loss = align_keys(base, update, list(scene.RARE), list(scene.LIKE))
        assert loss is not None
        rows = torch.autograd.grad(loss, update, retain_graph=True)[0].abs().sum(-1) > 0
        assert rows.equal(scene.mark(scene.RARE))
        assert (torch.autograd.grad(loss, base)[0].abs().sum(-1) > 0).equal(rows)
        losses.append(loss.detach())
    torch.testing.assert_close(torch.stack(losses).mean(), PEER["alignment"][0], rtol=0, atol=1e-6)


def test_several_tokens_are_meant_as_one_and_a_missing_word_as_none() -> None:
    base, update = scene.keys(0)
    loss = align_keys(base, update, [(1, 2), (), (3,)], [(0,), (1,), ()])
    expected = ((base + update)[0, 1:3].mean(0) - base[0, 0]).abs().mean()
    torch.testing.assert_close(loss, expected)
    assert align_keys(base, update, [()] * 3, [(1,)] * 3) is None
    assert mark(make_batch((((2,),), ((),))), 0).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"lora\.focus"), Focus(Factors(), 0)(make_batch(())):
        pass


@pytest.fixture
def project(tmp_path: Path) -> dict[str, Any]:
    """A tiny model, and two clips with their captions."""
    FAMILY.save(FAMILY.tiny("image"), tmp_path / "model")
    (tmp_path / "clips").mkdir()
    for index, caption in enumerate(("a sks circle on a red wall", "a green sks circle")):
        pixels = np.random.RandomState(index).randint(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "clips" / f"{index}.png")
        (tmp_path / "clips" / f"{index}.txt").write_text(caption)
    return {
        "model": {"source": str(tmp_path / "model"), "device": "cpu"},
        "data": [{"clips": tmp_path / "clips", "masks": "none"}],
        "lora": {"rank": 2, "focus": "sks", "align": "circle", "targets": ["to_k", "to_v"]},
        "run": {"output": tmp_path / "out", "cache": tmp_path / "cache", "steps": 3, "batch": 2},
    }


def test_a_run_is_aligned_and_its_file_says_the_word(project: dict[str, Any]) -> None:
    file = train(Config.model_validate(project)).lora
    lines = map(json.loads, (project["run"]["output"] / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 3
    assert all(step["alignment"] > 0 for step in steps)
    spec = lora.spec_of(file, FAMILY.names, prefix=FAMILY.lora_prefix)
    assert spec.focus == "sks"


def test_a_caption_without_the_word_is_refused(project: dict[str, Any]) -> None:
    project["lora"]["align"] = "fox"
    with pytest.raises(PhrasesNotRead, match="fox"):
        train(Config.model_validate(project))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"align": "circle"}, "the class of `lora.focus`"),
        ({"focus": "sks", "align": "sks"}, "both 'sks'"),
        ({"focus": "sks", "kind": "loha"}, 'kind = "lora" only'),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config.model_validate({"lora": options})

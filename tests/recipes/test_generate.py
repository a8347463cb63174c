"""`frisket generate` end to end on tiny models saved to disk."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from frisket.adapters import lora as adapter
from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.recipes.generate import generate
from frisket.runs.sampling.sampler import attach_loras
from frisket.runs.sampling.samples import slug

FAST: dict[str, Any] = {"steps": 2, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("base")
    pocket = FAMILIES.load("pocket")
    pocket.save(pocket.tiny("image"), folder)
    model = {"family": "pocket", "source": str(folder), "device": "cpu"}
    return Config.model_validate({"model": model})


LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def base_of(denoiser: nn.Module | None) -> Any:
    """The layer of the base under whatever sits on it."""
    assert denoiser is not None
    layer: Any = denoiser.get_submodule(LAYER)
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def write_lora(path: Path, seed: int, *, kind: adapter.AdapterKind = "lora", rank: int = 2) -> Path:
    """A LoRA that does something, for the tiny pocket model."""
    pocket = FAMILIES.load("pocket")
    denoiser = pocket.tiny("image").denoiser
    assert isinstance(denoiser, nn.Module)
    spec = adapter.LoraSpec(kind, rank=rank, targets=pocket.lora_targets)
    adapter.attach(denoiser, spec, seed=seed)
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in adapter.trainable(denoiser).values():
            value.add_(torch.randn(value.shape, generator=made) / 8)
    adapter.save(denoiser, path, {}, prefix=pocket.lora_prefix)
    return path


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def record(out: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((out / "generate.json").read_text())
    return loaded


def test_every_prompt_meets_every_seed_and_all_is_written_down(
    config: Config, tmp_path: Path
) -> None:
    listed = tmp_path / "prompts.txt"
    listed.write_text("# a comment\n\nein großer Ring\n", encoding="utf-8")
    seen: list[tuple[int, int]] = []
    made = generate(
        config,
        ["a red circle / on a wall"],
        tmp_path / "out",
        seeds=[3, 4],
        **FAST,
        prompt_file=listed,
        progress=lambda _, done, total: seen.append((done, total)),
    )
    assert [path.name for path in made.pictures] == [
        "000-a-red-circle-on-a-wall-3.png",
        "001-a-red-circle-on-a-wall-4.png",
        "002-ein-großer-ring-3.png",
        "003-ein-großer-ring-4.png",
    ]
    assert all(size(path) == (32, 32) for path in made.pictures)
    assert size(made.grid)[0] >= 2 * 160
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    told = record(tmp_path / "out")
    assert {each["steps"] for each in told["pictures"]} == {2}
    assert {each["guidance"] for each in told["pictures"]} == {3.0}
    assert [(each["prompt"], each["seed"]) for each in told["pictures"]][2:] == [
        ("ein großer Ring", 3),
        ("ein großer Ring", 4),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*(path.name for path in made.pictures), "grid.png", "generate.json"]
    )


def test_with_and_without_a_lora_side_by_side(config: Config, tmp_path: Path) -> None:
    trained = write_lora(tmp_path / "trained.safetensors", seed=1)
    plain = generate(config, ["a ring"], tmp_path / "plain", **FAST)
    both = generate(
        config,
        ["a ring"],
        tmp_path / "both",
        lora=[(trained, 1.0)],
        **FAST,
        without=True,
    )
    base, tuned = both.pictures
    assert (base.name, tuned.name) == ("000-a-ring-0-base.png", "000-a-ring-0-lora.png")
    assert pixels(base) == pixels(plain.pictures[0])
    assert pixels(tuned) != pixels(base)
    assert size(both.grid)[0] >= 2 * 160
    told = record(tmp_path / "both")
    assert [each["lora"] for each in told["pictures"]] == [False, True]
    assert told["lora"][0]["strength"] == 1.0
    assert len(told["lora"][0]["sha256"]) == 64


def test_strength_nought_is_the_base_and_several_loras_act_together(
    config: Config, tmp_path: Path
) -> None:
    first = write_lora(tmp_path / "first.safetensors", seed=1)
    second = write_lora(tmp_path / "second.safetensors", seed=2)

    @functools.cache
    def shown(*adapters: tuple[Path, float]) -> bytes:
        out = tmp_path / "shown"
        made = generate(config, ["a ring"], out, lora=adapters, **FAST)
        return pixels(made.pictures[0])

    def apart(one: bytes, other: bytes) -> int:
        return max(abs(a - b) for a, b in zip(one, other, strict=True))

    assert shown((first, 0.0)) == shown()
    together = shown((first, 1.0), (second, 0.5))
    assert apart(together, shown((first, 1.0))) > 1
    assert apart(together, shown((second, 0.5))) > 1
    assert apart(together, shown((second, 0.5), (first, 1.0))) <= 1
    assert shown((first, 0.0), (second, 0.5)) == shown((second, 0.5))
    assert apart(shown((first, 0.5), (first, 0.5)), shown((first, 1.0))) <= 1


@pytest.mark.parametrize("kinds", [("lora", "lora"), ("lora", "dora"), ("loha", "lokr")])
def test_loras_side_by_side_add_up_and_leave_the_weights_alone(
    kinds: tuple[adapter.AdapterKind, adapter.AdapterKind], tmp_path: Path
) -> None:
    pocket = FAMILIES.load("pocket")
    files = [
        (
            write_lora(tmp_path / f"{seed}.safetensors", seed, kind=kind, rank=2 + seed),
            1.0 - seed / 4,
        )
        for seed, kind in enumerate(kinds)
    ]
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))

    def output(*some: tuple[Path, float]) -> torch.Tensor:
        parts = pocket.tiny("image")
        before = base_of(parts.denoiser).weight.clone()
        attach_loras(pocket, parts, some)
        assert torch.equal(base_of(parts.denoiser).weight, before)
        assert isinstance(parts.denoiser, nn.Module)
        with torch.no_grad():
            made: torch.Tensor = parts.denoiser.eval().get_submodule(LAYER)(x)
        return made

    base = output()
    deltas = [output(each) - base for each in files]
    assert all(delta.abs().max() > 0.01 for delta in deltas)
    for order in (files, files[::-1]):
        torch.testing.assert_close(output(*order), base + sum(deltas), rtol=1e-5, atol=1e-5)


def test_what_is_missing_is_said(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one prompt"):
        generate(config, [], tmp_path)
    with pytest.raises(ConfigError, match="one seed"):
        generate(config, ["a"], tmp_path, seeds=[])
    with pytest.raises(FileNotFoundError, match="no adapter file"):
        generate(config, ["a"], tmp_path, lora=[(tmp_path / "no.safetensors", 1.0)])


def test_names_of_files_are_short_and_safe() -> None:
    assert slug("../../etc/passwd: a *cat*?") == "etc-passwd-a-cat"
    assert slug("犬と猫") == "犬と猫"
    assert slug("  ...  ") == "empty"
    assert len(slug("word " * 100)) <= 40

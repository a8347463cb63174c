"""From options to a method: what is refused before any work, and what `generate` writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.adapters import lora
from frisket.config.calls import Fuse
from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.families.base import Source
from frisket.families.models.pocket.family import FAMILY
from frisket.inference.sample_specs import build_spec
from frisket.recipes.generate import generate
from frisket.runs.methods.fusing import FusePlan, name_loras, pair_triggers, plan_fusion

PROMPT = "a red circle and a green ring on a blue wall"
LORAS = [(Path("one.safetensors"), 1.0), (Path("two.safetensors"), 1.0)]


def plan(prompt: str = PROMPT, loras: Any = LORAS, steps: int = 20, **options: Any) -> FusePlan:
    spec = build_spec(FAMILY.variants["image"], prompt, 0, steps=steps)
    fuse = Fuse.model_validate({"method": "freefuse", **options})
    made = plan_fusion(fuse, FAMILY, Source("image"), loras, [spec])
    assert made is not None
    return made


def test_phrases_are_found_in_turn_or_by_name() -> None:
    by_turn = plan(triggers=("red circle", "green ring"), background="blue wall")
    assert by_turn.phrases == {PROMPT: ((2, 3), (4, 5))}
    assert by_turn.background == {PROMPT: (10, 11)}
    by_name = plan(triggers=("two=green ring", "one=red circle"))
    assert by_name.phrases == by_turn.phrases
    assert by_name.background is None
    assert by_name.describe()["triggers"] == {"one": "red circle", "two": "green ring"}
    assert name_loras([Path("a/x.safetensors"), Path("b/x.safetensors")]) == ("x-1", "x-2")
    assert pair_triggers(("a",), ("a = b",)) == ("b",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"triggers": ("red circle",)}, "two has no trigger"),
        ({"triggers": ("one=red circle",)}, "two has no trigger"),
        ({"triggers": ("red circle", "blue ring")}, "'blue ring'"),
        ({"triggers": ("red circle", "circle")}, "share the tokens"),
        ({"triggers": ("red circle", "ring"), "background": "red"}, "share the tokens"),
        ({"triggers": ("a", "b", "c")}, "3 --trigger for 2 --lora"),
        ({"triggers": ("one=a", "b")}, "name every --trigger"),
        ({"triggers": ("one=a", "three=b")}, "three=... names no --lora"),
        ({"triggers": ("one=a", "one=b")}, "or one twice"),
        ({"triggers": ("red circle", "ring"), "steps": 4}, "read at step 5"),
        ({"triggers": ("red circle", "ring"), "loras": []}, "--fuse needs a --lora"),
        ({"triggers": ("red", "ring"), "method": "tara", "bias": True}, "TARA looks at no"),
        ({"triggers": ("red", "ring"), "method": ""}, "add --fuse freefuse"),
    ],
)
def test_what_cannot_be_fused_is_refused_before_any_work(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(**options)


def test_nothing_is_fused_unless_asked_for() -> None:
    spec = build_spec(FAMILY.variants["image"], PROMPT, 0)
    assert plan_fusion(Fuse(), FAMILY, Source("image"), LORAS, [spec]) is None
    with pytest.raises(ConfigError, match="leave --lora-mask out"):
        plan_fusion(Fuse(method="freefuse"), FAMILY, Source("image"), LORAS, [spec], ("m.png",))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[tuple[Path, float]]]:
    """A tiny model and two LoRAs for it."""
    folder = tmp_path_factory.mktemp("fusing")
    parts = FAMILY.tiny("image")
    FAMILY.save(parts, folder / "model")
    files, denoiser = [], parts.denoiser
    assert denoiser is not None
    for name in ("one", "two"):
        lora.attach(denoiser, lora.LoraSpec(rank=2, targets=("to_q", "to_k", "to_v")), seed=0)
        generator = torch.Generator().manual_seed(len(files))
        for value in lora.trainable(denoiser).values():
            value.data = 0.2 * torch.randn(value.shape, generator=generator)
        path = folder / f"{name}.safetensors"
        lora.save(denoiser, path, {}, prefix=FAMILY.lora_prefix)
        lora.detach(denoiser)
        files.append((path, 1.0))
    return Config.model_validate({"model": {"source": str(folder / "model")}}), files


@pytest.mark.parametrize("method", ["freefuse", "tara"])
def test_generate_fuses_and_writes_the_masks(project: Any, tmp_path: Path, method: str) -> None:
    config, files = project
    options = {"method": method, "triggers": ("red circle", "green ring")}
    options |= {"step": 2, "background": "blue wall"} if method == "freefuse" else {}
    samples = generate(
        config, [PROMPT], tmp_path, lora=files, fuse=Fuse.model_validate(options), steps=3
    )
    record = json.loads(samples.record.read_text())
    assert record["fuse"]["method"] == method
    picture = samples.pictures[0]
    masks = [picture.with_name(f"{picture.stem}-{name}.png") for name in ("one", "two")]
    if method == "tara":
        assert not any(mask.exists() for mask in masks)
        return
    pixels = np.stack([np.asarray(Image.open(mask).convert("L")) for mask in masks])
    assert pixels.shape == (2, 32, 32)
    assert set(np.unique(pixels)) <= {0, 255}
    assert not (pixels == 255).all(0).any()

"""Local vision models: any ViT folder gives patches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frisket.evaluation.patches import match_patches
from frisket.inference.generate import Picture
from frisket.inference.sample_specs import SampleSpec
from frisket.maskgen.base import MaskWeightsNotFound
from frisket.pocket.world import ZIGZAG, Background, draw, random_creature
from frisket.scoring.clips import TrainingPicture
from frisket.scoring.feature_extractors import open_feature_extractor
from frisket.scoring.similarity import COPY, measure_likeness

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


def tower(kind: str, folder: Path) -> Path:
    """A tiny random vision model as transformers saves it."""
    import transformers

    torch.manual_seed(0)
    made: dict[str, Callable[[], Any]] = {
        "clip": lambda: transformers.CLIPModel(
            transformers.CLIPConfig(
                vision_config=SMALL,
                text_config={
                    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
                    **{"num_attention_heads": 2, "vocab_size": 64},
                },
                projection_dim=8,
            )
        ),
        "clip_vision_model": lambda: transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**SMALL)
        ),
        "siglip_vision_model": lambda: transformers.SiglipVisionModel(
            transformers.SiglipVisionConfig(**SMALL)
        ),
        "dinov2": lambda: transformers.Dinov2Model(
            transformers.Dinov2Config(**SMALL | {"image_size": 518})
        ),
        "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**SMALL | {"image_size": 518})
        ),
        "dinov3_vit": lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**SMALL | {"image_size": 224}, num_register_tokens=2)
        ),
    }
    made[kind]().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 60}}))
    return folder


def creature(seed: int, background: Background = ZIGZAG) -> TrainingPicture:
    """The pocket world's subject before a background, and where it is."""
    picture, planes = draw(random_creature(np.random.RandomState(seed), background), 64)
    inside = (torch.from_numpy(sum(planes.values())) > 0.5).float()[None]
    return TrainingPicture(str(seed), torch.from_numpy(picture.copy())[None], inside, 1 - inside)


def picture_of(taught: TrainingPicture) -> Picture:
    return Picture(SampleSpec("sks", 0, 64, 64, 1, 1, 1.0), taught.frames)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("clip", 16),
        ("clip_vision_model", 16),
        ("siglip_vision_model", 16),
        ("dinov2", 256),
        ("dinov2_with_registers", 256),
        ("dinov3_vit", 256),
    ],
)
def test_every_kind_of_tower_gives_its_patches_in_place(
    tmp_path: Path, kind: str, count: int
) -> None:
    eyes = open_feature_extractor(tower(kind, tmp_path), "cpu")
    taught = creature(0)
    frame, whole = taught.frames[0], torch.ones(1, 64, 64)
    seen = eyes.patches(frame, taught.outside)
    assert seen.features.shape == (count, 32)
    assert float(seen.weights.mean()) == pytest.approx(float(taught.outside.mean()), abs=0.02)
    assert match_patches(eyes.patches(frame, whole), seen) == pytest.approx(1, abs=1e-5)
    # A corner that changes is told by its own patch most of all: tokens lie in reading order.
    changed = frame.clone()
    changed[:16, :16] = 255 - changed[:16, :16]
    again = eyes.patches(changed, whole)
    apart = 1 - (again.features * seen.features).sum(1)
    assert int(apart.argmax()) % round(count**0.5) <= round(count**0.5) // 4


def test_a_copied_background_is_told_from_another_and_so_is_the_subject(tmp_path: Path) -> None:
    eyes = open_feature_extractor(tower("dinov2", tmp_path), "cpu")
    red = Background("wall", "red", "red")
    taught = [creature(seed) for seed in range(3)]
    empty = torch.from_numpy(draw(random_creature(np.random.RandomState(9), red), 64)[0].copy())
    blank = [Picture(SampleSpec("", 0, 64, 64, 1, 1, 1.0), torch.full_like(empty, 128)[None])] * 2
    pictures = {
        "base": blank,
        "copy": [picture_of(creature(seed)) for seed in (7, 8)],
        "moved": [picture_of(creature(seed, red)) for seed in (7, 8)],
    }
    told = measure_likeness(pictures, taught, eyes, None, "base")
    copy, moved = told.values["copy"], told.values["moved"]
    assert sum(copy["leak"]) / 2 == pytest.approx(1, abs=0.15)
    assert sum(moved["leak"]) / 2 < 0.3
    assert sum(copy["leak/features"]) > sum(moved["leak/features"])
    assert sum(moved["subject/features"]) / 2 > 0.5
    assert set(told.raw["leak/features"]) == {"base", "copy", "moved", COPY}
    assert "leak" not in told.values.get("base", {})


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    some = {"base": [picture_of(creature(1))], "run": [picture_of(creature(2))]}
    alike = measure_likeness(some, [creature(3), creature(4)], None, None, "base")
    assert "hardly told from what the base paints" in alike.lacking["leak"]
    assert "no run has masks" in measure_likeness(some, [], None, None, "base").lacking["leak"]
    whole = creature(5)
    full = TrainingPicture(
        "full", whole.frames, torch.ones_like(whole.inside), torch.zeros_like(whole.inside)
    )
    assert (
        "leave no background" in measure_likeness(some, [full], None, None, "base").lacking["leak"]
    )
    assert measure_likeness({}, [whole], None, None, "base").lacking == {
        "leak": "nothing was sampled"
    }


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(MaskWeightsNotFound, match="there is no such folder"):
        open_feature_extractor(tmp_path / "none", "cpu")
    tower("clip_vision_model", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(MaskWeightsNotFound, match=r"preprocessor_config\.json"):
        open_feature_extractor(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(MaskWeightsNotFound, match=r"type bert, not clip or .* or dinov3_vit"):
        open_feature_extractor(tmp_path, "cpu")

"""Adapters that act by noise level or place, from training to files, sampling and conversion."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from frisket.adapters import lora
from frisket.adapters.files import header
from frisket.adapters.spec import RECORD, AdapterMismatch
from frisket.config.load import ConfigError
from frisket.config.lora import Lora
from frisket.config.tree import Config
from frisket.families.base import Parts
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes import convert
from frisket.recipes.generate import generate
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.sampling.sampler import attach_loras
from frisket.runs.training_parts import list_quantiles, spec_of

ROUTED = {"rank": 4, "rank_schedule": "t-lora", "rank_min": 2, "confine": 1, "orthogonal": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def config_of(base: Path, output: Path, **sections: Any) -> Config:
    tree = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
        "lora": ROUTED | sections.pop("lora", {}),
        "optimizer": {"lr": 1e-2, "ema": 0.5, "lora_plus": 4},
        "memory": {"checkpointing": True},
        "validation": {"holdout": 1},
        "run": {"output": output, "cache": base / "cache", "steps": 4, "batch": 2, "save_every": 2},
    }
    return Config.model_validate(tree | sections)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config_of(base, tmp_path_factory.mktemp("whole"))).lora


def test_stopped_and_resumed_is_bit_identical(base: Path, trained: Path, tmp_path: Path) -> None:
    class PowerCut(Exception):
        pass

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 3:
            raise PowerCut

    config = config_of(base, tmp_path)
    with pytest.raises(PowerCut):
        train(config, progress=cut)
    whole, resumed = load_file(trained), load_file(train(config).lora)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_file_says_when_it_acts_and_sampling_does_so(trained: Path) -> None:
    record = json.loads(header(trained)[1][RECORD])
    assert record["rank_schedule"] == "t-lora"
    assert (record["rank"], record["rank_min"], record["rank_pairs"]) == (8, 2, True)
    assert record["confine"] == 1
    parts = FAMILY.tiny("image")
    assert isinstance(parts, Parts)
    (factors,) = attach_loras(FAMILY, parts, [(trained, 1.0)])
    assert factors is not None
    seen: dict[str, list[int]] = {}

    def observe(name: str, _: torch.Tensor, update: torch.Tensor) -> None:
        seen.setdefault(name, []).append(int(update.abs().amax() > 0))

    factors.observer = observe
    conditioning = FAMILY.embed(parts.text, ["a fox"])
    noisy = torch.randn(1, 12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    predictions = {}
    with torch.no_grad():
        for ranks in (factors.ranks, None):
            factors.ranks = ranks
            for level in (1e-3, 0.9):
                t = torch.tensor([level])
                key = (ranks is None, level)
                predictions[key] = FAMILY.predict(parts.denoiser, noisy, t, conditioning)
    assert all(any(acted) for acted in seen.values())
    assert not torch.equal(predictions[False, 0.9], predictions[True, 0.9])


def test_it_is_described_converted_and_not_merged(
    base: Path, trained: Path, tmp_path: Path
) -> None:
    assert any(
        "t-lora, 2 to 4 ranks, orthogonal start" in line for line in convert.run([trained], None)
    )
    for form in ("diffusers", "kohya"):
        path = tmp_path / f"{form}.safetensors"
        convert.run([trained], path, to="diffusers")
        assert json.loads(header(path)[1][RECORD])["rank_schedule"] == "t-lora"
    with pytest.raises(AdapterMismatch, match="merging would mix or fix them"):
        convert.run([trained], tmp_path / "merged", merge_into=base / "model" / "denoiser")
    with pytest.raises(AdapterMismatch, match="would mix or fix them"):
        convert.run([trained], tmp_path / "small.safetensors", to="diffusers", rank=2)
    plain = tmp_path / "plain.safetensors"
    lines = convert.run([trained], plain, to="diffusers", drop_schedule=True)
    assert any("dropped its schedule (t-lora" in line for line in lines)
    spec = lora.spec_of(plain)
    assert (spec.rank, spec.rank_schedule, spec.rank_pairs) == (8, "", False)
    convert.run([plain], tmp_path / "merged", merge_into=base / "model" / "denoiser")


def write_lora(path: Path, seed: int, kind: Any = "lora") -> Path:
    denoiser = FAMILY.tiny("image").denoiser
    assert denoiser is not None
    lora.attach(denoiser, lora.LoraSpec(kind, rank=2, targets=FAMILY.lora_targets), seed=seed)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(torch.randn(value.shape, generator=drawn) / 8)
    lora.save(denoiser, path, {}, prefix=FAMILY.lora_prefix)
    return path


def test_loras_are_sampled_where_their_masks_are(base: Path, tmp_path: Path) -> None:
    config = Config.model_validate({"model": {"source": str(base / "model"), "device": "cpu"}})
    pair = [(write_lora(tmp_path / f"{seed}.safetensors", seed), 1.0) for seed in (1, 2)]
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(tmp_path / "left.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "all.png")
    fast = {"steps": 2, "height": 32, "width": 32}
    pictures = {}
    for name, masks in (
        ("plain", ()),
        ("everywhere", ("-", str(tmp_path / "all.png"))),
        ("left", (str(tmp_path / "left.png"),)),
    ):
        made = generate(config, ["a fox"], tmp_path / name, lora=pair, masks=masks, **fast)
        pictures[name] = Image.open(made.pictures[0]).tobytes()
    assert pictures["plain"] == pictures["everywhere"]
    assert pictures["plain"] != pictures["left"]
    entries = json.loads(made.record.read_text())["lora"]
    assert entries[0]["mask"].endswith("left.png")
    assert "mask" not in entries[1]

    Image.new("L", (64, 32), 255).save(tmp_path / "wide.png")
    Image.new("L", (64, 64)).save(tmp_path / "none.png")
    for masks, words in (
        (("-", "-", "-"), "3 --lora-mask for 2 --lora"),
        ((str(tmp_path / "lost.png"),), "there is no mask"),
        ((str(tmp_path / "none.png"),), "its LoRA would act nowhere"),
        ((str(tmp_path / "wide.png"),), "aspect ratios differ"),
    ):
        with pytest.raises((ConfigError, ValueError), match=words):
            generate(config, ["a fox"], tmp_path / "no", lora=pair, masks=masks, **fast)
    other = [(write_lora(tmp_path / "loha.safetensors", 3, "loha"), 1.0)]
    with pytest.raises(AdapterMismatch, match="its update cannot be confined to a mask"):
        generate(
            config,
            ["a fox"],
            tmp_path / "no",
            lora=other,
            masks=[str(tmp_path / "left.png")],
            **fast,
        )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "dora", "rank_schedule": "t-lora"}, "lora.rank_schedule` is for kind"),
        ({"kind": "loha", "orthogonal": True}, "lora.orthogonal` is for kind"),
        ({"kind": "lokr", "confine": 0}, "lora.confine` is for kind"),
        ({"rank_min": 2}, "needs `lora.rank_schedule"),
        ({"rank_schedule": "t-lora", "rank": 4, "rank_min": 5}, r"at most `lora.rank` \(4\)"),
        ({"rank_schedule": "t-lora", "conv_rank": 4}, "leave it out, or name the convolutions"),
        ({"orthogonal": True, "max_norm": 1.0}, "knows one half of an orthogonal adapter"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Lora.model_validate(options)


def test_compiling_is_refused_and_quantiles_are_those_of_the_run() -> None:
    with pytest.raises(ValidationError, match=r"memory\.compile` would freeze"):
        Config.model_validate({"lora": {"confine": 0}, "memory": {"compile": True}})
    chosen = {"rank": 8, "rank_schedule": "t-lora", "rank_by": "quantile"}
    config = Config.model_validate(
        {"lora": chosen, "timesteps": {"density": "uniform", "shift": 3.0}}
    )
    levels = list_quantiles(config, FAMILY)
    assert (levels[0], levels[-1]) == (0.0, 1.0)
    assert levels[16] == pytest.approx(0.75, abs=0.01)  # 3 t / (1 + 2 t) at a half
    assert spec_of(config, FAMILY).rank_min == 4

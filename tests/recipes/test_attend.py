"""`frisket attend` on tiny models: numbers that are the model's own, and what is refused when."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from frisket.adapters import lora as adapter
from frisket.attention.capture import capture, choose_layers
from frisket.attention.maps import lay_on_grid
from frisket.cli.attend import add
from frisket.config.load import ConfigError
from frisket.config.run_config import write_trained
from frisket.config.tree import Config
from frisket.evaluation.word_alignment import measure_alignment
from frisket.families.models.pocket.family import FAMILY
from frisket.families.models.pocket.family import Pocket as PocketFamily
from frisket.recipes.attend import AttendOptions, attend
from frisket.runs import quickstart_data
from frisket.runs.prepare import prepare

QUICK = AttendOptions(phrases=("subject=sks",), limit=2, layers=("mid_block*",), t=(0.5,), draws=1)
PROMPTED = AttendOptions(
    phrases=("sks", "wall"), prompts=("sks on a blue wall",), layers=("all",), t=(1.0, 0.5)
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, clips with masks, and a LoRA that does something."""
    folder = tmp_path_factory.mktemp("attend")
    parts = FAMILY.tiny("image")
    FAMILY.save(parts, folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    denoiser = parts.denoiser
    assert isinstance(denoiser, nn.Module)
    adapter.attach(denoiser, adapter.LoraSpec(rank=2, targets=FAMILY.lora_targets), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in adapter.trainable(denoiser).values():
            value.add_(torch.randn(value.shape, generator=generator) / 4)
    adapter.save(denoiser, folder / "lora.safetensors", {}, prefix=FAMILY.lora_prefix)
    return folder


def config_of(base: Path, output: Path, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
        "validation": {"holdout": 2},
        "preview": {"steps": 3},
        "run": {"cache": base / "cache", "output": output},
        **sections,
    }
    return Config.model_validate(tree)


def read_numbers(output: Path) -> list[dict[str, Any]]:
    loaded: dict[str, Any] = json.loads((output / "attend.json").read_text(encoding="utf-8"))
    numbers: list[dict[str, Any]] = loaded["numbers"]
    return numbers


def test_the_numbers_are_what_the_models_layers_attended_to(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path)
    stages: set[str] = set()
    result = attend(
        config,
        tmp_path / "out",
        QUICK,
        lora=[(base / "lora.safetensors", 1.0)],
        progress=lambda stage, *_: stages.add(stage),
    )
    assert stages >= {"attention of the base model", "attention of the tuned model"}
    numbers = {(entry["model"], entry["level"]): entry for entry in read_numbers(tmp_path / "out")}
    prepared = prepare(config)
    item = sorted(prepared.held, key=lambda item: item.name)[0]
    latents = prepared.cache.load("latents", item.latents).tensors["latents"][None]
    assert item.coverage is not None
    (coverage,) = prepared.cache.load("coverage", item.coverage).tensors["planes"]
    denoiser = FAMILY.tiny("image").denoiser
    assert isinstance(denoiser, nn.Module)
    layers = choose_layers(FAMILY.list_attention_layers(denoiser), "mid_block*")
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.5])
    noisy, _ = FAMILY.objective("image").corrupt(latents, noise, t)
    conditioning = FAMILY.embed(nn.Module(), ["sks"])
    with torch.no_grad(), capture(layers, [[[5]]]) as seen:  # the last slot of the subject phrase
        FAMILY.predict(denoiser, noisy, t, conditioning)
    (layer,) = seen.maps.values()
    by_hand = measure_alignment(lay_on_grid(layer, item.shape)[0, 0], coverage.float())
    assert by_hand is not None
    entry = numbers["base", "t = 0.5"]
    assert entry["clips"][item.name]["mass"] == pytest.approx(by_hand.mass, abs=1e-6)
    assert entry["clips"][item.name]["iou"] == pytest.approx(by_hand.iou)
    assert numbers["tuned", "t = 0.5"]["clips"] != entry["clips"]
    assert "“sks” has" in result.summary
    assert len(result.sheets) == 2
    with Image.open(result.sheets[0]) as sheet:
        assert sheet.size == (150 + 4 * 196, 24 + 196)  # picture and one level, of two models


def test_the_page_stands_alone_and_shows_every_clip(base: Path, tmp_path: Path) -> None:
    result = attend(config_of(base, tmp_path), tmp_path / "out", QUICK)
    page = result.page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("<img ") == 2 * 2 + 2  # picture and map of two clips, and their sheets
    assert "2 held-out clips" in page
    attend(config_of(base, tmp_path), tmp_path / "out", replace(QUICK, limit=1))
    (sheet,) = (tmp_path / "out" / "heat-maps").iterdir()  # the earlier ones are gone
    assert sheet == result.sheets[0]


def test_an_adapter_at_nought_is_the_base_in_every_number(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path, regions={"subject": {"weight": 1.0, "phrase": "sks"}})
    named = replace(QUICK, phrases=())  # by the config
    attend(config, tmp_path / "out", named, lora=[(base / "lora.safetensors", 0.0)])
    numbers = read_numbers(tmp_path / "out")
    tuned = [entry["clips"] for entry in numbers if entry["model"] == "tuned"]
    assert tuned == [entry["clips"] for entry in numbers if entry["model"] == "base"]


def test_a_prompt_is_read_while_it_is_sampled(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path)
    lora = [(base / "lora.safetensors", 1.0)]
    result = attend(config, tmp_path / "out", PROMPTED, lora=lora)
    data = json.loads((tmp_path / "out" / "attend.json").read_text())
    assert data["numbers"] == []
    assert data["scenes"][0]["positions"] == [[5], [11]]
    page = result.page.read_text(encoding="utf-8")
    for label in ("base, step 1 of 3", "base, step 2 of 3", "tuned, step 1 of 3"):
        assert label in page
    assert [path.name for path in result.sheets] == [
        "000-sks-on-a-blue-wall-seed-0-sks.png",
        "000-sks-on-a-blue-wall-seed-0-wall.png",
    ]


def refused(base: Path, tmp_path: Path, options: AttendOptions, **sections: Any) -> str:
    with pytest.raises((ConfigError, ValueError)) as stop:
        attend(config_of(base, tmp_path, **sections), tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    return str(stop.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (AttendOptions(phrases=("subject=fox",)), "'fox' is not in the prompt 'sks'"),
        (AttendOptions(phrases=("subjekt=sks",)), "no region 'subjekt', did you mean 'subject'"),
        (AttendOptions(phrases=("subject=",)), "write REGION=PHRASE"),
        (AttendOptions(), "no region has a phrase"),
        (AttendOptions(phrases=("sks",), layers=("attn9",)), "no attention layer is called"),
        (AttendOptions(phrases=("sks",), t=(0.5, 0.0)), "--t 0: noise levels lie above 0"),
        (AttendOptions(phrases=("sks",), form="output"), "give two or more"),
        (
            AttendOptions(phrases=("sks", "wall"), prompts=("sks on a wall",), form="output"),
            "cross-attention, whose text has no output",
        ),
        (AttendOptions(phrases=("sks",), prompts=("a ring",)), "'sks' is not in the prompt"),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_weights_are(
    base: Path,
    tmp_path: Path,
    options: AttendOptions,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    load = PocketFamily.load_denoiser
    monkeypatch.setattr(
        PocketFamily,
        "load_denoiser",
        lambda family, source: loaded.append(source.device) or load(family, source),
    )
    assert words in refused(base, tmp_path, options)
    assert set(loaded) <= {"meta"}


def test_held_out_clips_are_asked_for_where_there_are_none(base: Path, tmp_path: Path) -> None:
    options = AttendOptions(phrases=("sks",), clips="held-out")
    assert "set validation.holdout" in refused(base, tmp_path, options, validation={"holdout": 0})


def test_clips_without_the_phrase_are_left_out_and_counted(base: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions"
    captions.mkdir()
    for index, path in enumerate(sorted((base / "data" / "clips").glob("*.png"))):
        caption = "sks" if index < 3 else "a ring"
        (captions / f"{path.stem}.txt").write_text(caption, encoding="utf-8")
    data = {"clips": base / "data" / "clips", "masks": base / "data" / "masks"}
    config = config_of(
        base, tmp_path, data=[{**data, "captions": captions}], validation={"holdout": 0}
    )
    result = attend(config, tmp_path / "out", QUICK)
    assert result.notes == (
        "5 of 8 training clips have none of the phrases in their captions and were left out.",
    )
    assert len(result.sheets) == 2


def test_the_command_reads_a_run_folder_and_says_where_the_page_is(
    base: Path, tmp_path: Path
) -> None:
    @contextmanager
    def bar() -> Iterator[Any]:
        yield lambda *_: None

    app = typer.Typer()
    app.command("other")(lambda: None)
    add(app, bar)
    run = tmp_path / "run"
    run.mkdir()
    write_trained(config_of(base, run), run)
    words = ["attend", str(run), "--phrase", "subject=sks", "--limit", "1", "--draws", "1"]
    words += ["--layer", "mid_block*", "--t", "0.5", "--t", "0.75"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"note: {run} holds no LoRA or model yet" in result.output
    assert f"Open {run / 'attention' / 'attend.html'}" in result.output
    levels = {entry["level"] for entry in read_numbers(run / "attention")}
    assert levels == {"all levels", "t = 0.5", "t = 0.75"}

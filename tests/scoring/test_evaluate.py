"""`evaluate` on real runs of tiny models: numbers, page, and what it refuses in which words."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from tests.maskgen.tiny import people
from typer.testing import CliRunner

from frisket.cli.evaluate import add
from frisket.config.load import ConfigError, load
from frisket.config.run_config import write_trained
from frisket.config.tree import Config
from frisket.faces.base import FaceModelNotFound
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.evaluate import Measures, evaluate
from frisket.recipes.quickstart import MASKS, make_project
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.scoring.runs import open_runs, read_run

QUICK = Measures(seeds=2, draws=1, unrelated=("a red circle on a blue wall", "a ring"))
ERRORS = Measures(draws=1, samples=False)


def config_of(base: Path, output: Path, **sections: Any) -> Config:
    """Four steps on a tiny random model; sections are laid over."""
    tree: dict[str, Any] = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
        "lora": {"rank": 2},
        "optimizer": {"lr": 1e-2},
        "validation": {"holdout": 2, "t": (0.4, 0.8)},
        "preview": {"steps": 2},
        "run": {"cache": base / "cache", "steps": 4, "batch": 2, "save_every": 0},
    }
    for name, section in sections.items():
        tree[name] = tree[name] | section if isinstance(section, dict) else section
    tree["run"]["output"] = output
    return Config.model_validate(tree)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a data set, and two runs on it: `runs/mask` and `runs/plain`."""
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    train(config_of(folder, folder / "runs" / "mask"))
    unmasked = [{"clips": folder / "data" / "clips"}]
    train(config_of(folder, folder / "runs" / "plain", data=unmasked))
    return folder


def report(output: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return loaded


def test_runs_stand_side_by_side_on_one_page(base: Path, tmp_path: Path) -> None:
    configs = [read_run(base / "runs" / name) for name in ("plain", "mask")]
    stages: set[str] = set()
    found = evaluate(configs, tmp_path, QUICK, progress=lambda stage, *_: stages.add(stage))
    assert stages >= {"errors of mask", "samples of plain", "samples of base"}
    data = report(tmp_path)
    assert data["verdict"] == found.verdict.sentence
    plain, mask = data["runs"]
    assert (plain["masked"], mask["masked"], mask["steps"]) == (False, True, 4)
    assert data["measured"]["kind"] == "held out"
    assert data["measured"]["masks of"] == "mask"  # the other has none
    for run in data["runs"]:
        for key, metric in run["metrics"].items():
            assert metric["count"] == len(metric["values"]), key
        assert run["metrics"]["gain/inside"]["count"] == 2
        assert run["metrics"]["drift"]["count"] == 2
        assert run["metrics"]["drift"]["mean"] > 0
        for region in ("subject", "inside", "outside"):
            assert run["errors"][f"base/{region}"] == pytest.approx(
                plain["errors"][f"base/{region}"]
            )
    assert plain["errors"]["tuned/inside"] != mask["errors"]["tuned/inside"]
    page = found.page.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("<img ") == 3 * (2 + 2)  # base and two runs, two seeds and two prompts
    for name in ("base", "plain", "mask"):
        assert len(list((tmp_path / "samples" / name).glob("*.png"))) == 4


def test_faces_have_rows_of_their_own(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnx")
    middle = [(28.0, 30.0), (36.0, 30.0), (32.0, 34.0), (29.0, 38.0), (35.0, 38.0)]
    pack = people.faces(tmp_path / "pack", [(0.9, middle)])  # finds a face wherever it looks
    measures = replace(QUICK, faces=pack, unrelated=("a ring",))
    result = evaluate([read_run(base / "runs" / "mask")], tmp_path / "out", measures)
    assert "non-commercial" in caplog.text
    identity = report(tmp_path / "out")["identity"]
    assert identity.keys() == {"base", "mask"}
    score = identity["mask"]["subject"]
    assert (score["pictures"], score["detected"], score["right"]) == (2, 1.0, None)
    assert score["low"] <= score["cosine"] <= score["high"]
    (run,) = report(tmp_path / "out")["runs"]
    assert run["metrics"]["identity"]["mean"] == pytest.approx(score["cosine"])
    page = result.page.read_text(encoding="utf-8")
    assert "The same face?" in page
    assert "training pictures" in page
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FaceModelNotFound, match=r"empty holds no face recogniser.*OpenCV"):
        evaluate([read_run(base / "runs" / "mask")], tmp_path, replace(measures, faces=empty))


def test_a_lora_that_learnt_nothing_is_the_base_in_every_number(base: Path, tmp_path: Path) -> None:
    still = config_of(
        base, tmp_path / "still", optimizer={"lr": 1e-12, "weight_decay": 0.0}, run={"steps": 1}
    )
    train(still)
    found = evaluate([still], tmp_path / "out", QUICK)
    (run,) = report(tmp_path / "out")["runs"]
    assert run["metrics"]["gain/inside"]["mean"] == pytest.approx(0, abs=1e-6)
    assert run["metrics"]["drift"]["mean"] < 1e-10
    assert run["selectivity"] is None
    assert run["metrics"]["changed"]["mean"] == pytest.approx(0, abs=1e-2)
    likeness = report(tmp_path / "out")["likeness"]["leak/both"]
    assert likeness["still"] == pytest.approx(likeness["base"], abs=1e-3)
    assert not found.verdict.held
    assert not any(claim.met for claim in found.verdict.claims)
    assert found.verdict.sentence.startswith("Too little was learnt to tell")


def test_a_regions_phrase_is_held_against_its_mask(base: Path, tmp_path: Path) -> None:
    config = read_run(base / "runs" / "mask")
    found = evaluate([config], tmp_path / "out", replace(ERRORS, phrases=("subject=sks",)))
    rows = {entry["model"]: entry for entry in report(tmp_path / "out")["attention"]}
    assert list(rows) == ["base", "mask"]
    assert {entry["phrase"] for entry in rows.values()} == {"sks"}
    for row in rows.values():
        assert row["estimates"]["mass"]["count"] == 2
        assert 0 < row["estimates"]["mass"]["mean"] < 1
    assert rows["base"]["clips"] != rows["mask"]["clips"]
    assert "Where the words look" in found.page.read_text(encoding="utf-8")
    plain = evaluate([config], tmp_path / "plain", ERRORS)
    assert report(tmp_path / "plain")["attention"] == []
    assert "Where the words look" not in plain.page.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="'fox' is not in the prompt 'sks'"):
        evaluate([config], tmp_path / "none", replace(ERRORS, phrases=("subject=fox",)))


def test_equal_evaluations_give_equal_numbers(base: Path, tmp_path: Path) -> None:
    config = read_run(base / "runs" / "mask")
    for name in ("one", "two"):
        evaluate([config], tmp_path / name, QUICK)
    assert (tmp_path / "one/report.json").read_text() == (tmp_path / "two/report.json").read_text()


def test_a_run_folder_may_be_moved_and_still_knows_its_settings(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path / "run", lora={"rank": 3}, run={"steps": 1})
    train(config)
    assert read_run(tmp_path / "run") == config
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    again = read_run(moved, ["lora.dropout=0.1"])
    assert again.run.output == moved
    assert again.lora.dropout == 0.1
    assert open_runs([again])[0].lora == moved / "lora.safetensors"


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {
            "regions": {"face": 1.0, "hair": 0.3},
            "losses": {"prior": {"strength": 0.2, "t_min": 0.5}},
        },
        {
            "data": [{"clips": "/clips", "masks": {"path": "/masks", "levels": {"subject": 9}}}],
            "losses": {"denoise": {"strength": 0.5, "kind": "huber"}, "prior": 0.2},
        },
        {"data": [{"clips": "/clips", "masks": "alpha", "resolution": [64, 32]}]},
    ],
)
def test_settings_read_back_as_they_were(tmp_path: Path, sections: dict[str, Any]) -> None:
    text = json.dumps(sections | {"run": {"output": str(tmp_path)}})
    for name in ("clips", "masks"):
        text = text.replace(f'"/{name}"', json.dumps(str(tmp_path / name)))
    config = Config.model_validate(json.loads(text))
    write_trained(config, tmp_path)
    again = load(tmp_path / "trained.toml")
    whole = {"run": config.run.model_copy(update={"cache": tmp_path / config.run.cache})}
    assert again == config.model_copy(update=whole)


def test_what_is_no_run_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no run folder: it has no trained\.toml"):
        read_run(tmp_path)
    (tmp_path / "frisket.toml").write_text("")
    with pytest.raises(ConfigError, match=r"did you mean .*frisket\.toml"):
        read_run(tmp_path)
    old = tmp_path / "old"
    shutil.copytree(base / "runs" / "mask", old)
    (old / "trained.toml").unlink()
    with pytest.raises(ConfigError, match=r"evaluate CONFIG --set run\.output=.*old"):
        read_run(old)
    (old / "trained.toml").write_text("[lora]\nrang = 3\n")
    with pytest.raises(ConfigError, match=r"trained\.toml line 2: unknown key `rang`"):
        read_run(old)
    with pytest.raises(ConfigError, match="gone does not exist; name the folder of a run"):
        read_run(tmp_path / "gone")
    with pytest.raises(ConfigError, match="name at least one run"):
        evaluate([], tmp_path)


def test_a_run_without_a_lora_or_of_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.safetensors is not there yet; train it first"):
        evaluate([config_of(base, tmp_path / "never")], tmp_path)
    mask = read_run(base / "runs" / "mask")
    other = mask.model_copy(update={"model": mask.model.model_copy(update={"source": ""})})
    run = mask.run.model_copy(update={"output": base / "runs" / "plain"})
    with pytest.raises(ConfigError, match="plain was trained on another base"):
        evaluate([mask, other.model_copy(update={"run": run})], tmp_path)
    with pytest.raises(ConfigError, match="is named twice"):
        evaluate([mask, mask], tmp_path)


def test_moved_data_are_named_with_the_way_to_say_where_they_are(
    base: Path, tmp_path: Path
) -> None:
    shutil.copytree(base / "data", tmp_path / "data")
    data = [{"clips": tmp_path / "data" / "clips", "masks": tmp_path / "data" / "masks"}]
    train(config_of(base, tmp_path / "run", data=data))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"data/clips.*--set data\.0\.clips=FOLDER"):
        evaluate([read_run(tmp_path / "run")], tmp_path / "out", QUICK)
    said = [f"data.0.{key}={tmp_path / 'elsewhere'}" for key in ("clips", "masks.path")]
    found = [f"{each}/{name}" for each, name in zip(said, ("clips", "masks"), strict=True)]
    (run,) = open_runs([read_run(tmp_path / "run", found)])
    assert not run.changed  # the same files, wherever they lie


def test_without_masks_other_clips_tell_inside_from_outside(base: Path, tmp_path: Path) -> None:
    plain = read_run(base / "runs" / "plain")
    with pytest.raises(ConfigError, match=r"without masks.*--clips FOLDER --masks FOLDER"):
        evaluate([plain], tmp_path, QUICK)
    quickstart_data.make_clips(tmp_path / "other", seed=5)
    measures = Measures(
        clips=tmp_path / "other" / "clips",
        masks=str(tmp_path / "other" / "masks"),
        draws=1,
        samples=False,
    )
    found = evaluate([plain], tmp_path / "out", measures)
    data = report(tmp_path / "out")
    assert data["measured"]["kind"] == "other"
    assert len(data["measured"]["clips"]) == 8
    assert data["lacking"] == {"leak": "nothing was sampled"}
    assert "no run here was trained with a mask" in found.verdict.sentence
    with pytest.raises(ConfigError, match="needs its masks: --masks FOLDER"):
        evaluate([plain], tmp_path, Measures(clips=tmp_path / "other" / "clips"))


def test_what_another_run_was_trained_on_is_left_out_and_said(base: Path, tmp_path: Path) -> None:
    more = config_of(base, tmp_path / "more", validation={"holdout": 3}, run={"steps": 1})
    train(more)
    found = evaluate([more, read_run(base / "runs" / "mask")], tmp_path / "out", ERRORS)
    data = report(tmp_path / "out")
    assert data["measured"]["clips"]
    assert len(data["measured"]["clips"]) < 3
    assert any("mask was trained on it" in note for note in found.notes)


def test_without_held_out_clips_training_clips_are_taken_aloud(base: Path, tmp_path: Path) -> None:
    whole = config_of(base, tmp_path / "whole", validation={"holdout": 0}, run={"steps": 1})
    train(whole)
    found = evaluate([whole], tmp_path / "out", ERRORS)
    assert report(tmp_path / "out")["measured"]["kind"] == "training"
    assert found.notes[0].startswith("No clip was held out")
    changed = evaluate(
        [read_run(tmp_path / "whole", ["validation.holdout=2"])],
        tmp_path / "out",
        ERRORS,
    )
    assert any("may have been trained on" in note for note in changed.notes)


@pytest.mark.slow
def test_the_clip_model_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    FAMILY.save(FAMILY.tiny("video"), folder)
    quickstart_data.make_clips(tmp_path / "data", seed=1)
    config = config_of(
        tmp_path,
        tmp_path / "run",
        model={"variant": "video"},
        preview={"steps": 2, "frames": 5},
    )
    train(config)
    evaluate([config], tmp_path / "out", QUICK)
    (run,) = report(tmp_path / "out")["runs"]
    assert {"leak", "drift", "gain/inside", "moved/outside"} <= run["metrics"].keys() | report(
        tmp_path / "out"
    )["lacking"].keys()
    assert len(list((tmp_path / "out" / "samples" / "run").glob("*.mp4"))) == 4


@contextmanager
def silent() -> Iterator[Callable[..., None]]:
    yield lambda *_: None


def test_the_command_says_the_verdict_and_strict_is_for_scripts(base: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    add(app, silent)
    words = [str(base / "runs" / "mask"), "--no-samples", "--draws", "1", "-o", str(tmp_path)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    data = report(tmp_path)
    assert data["verdict"] in ran.output
    assert all(claim["measured"] in ran.output for claim in data["claims"])
    held = all(claim["met"] for claim in data["claims"])
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == (0 if held else 1)
    one = ["--clips", str(one_clip(tmp_path)), "--masks", str(tmp_path / "one" / "masks")]
    assert CliRunner().invoke(app, [*words, *one, "--strict"]).exit_code == 1  # no spread, no claim


def one_clip(folder: Path) -> Path:
    """A data set of one."""
    quickstart_data.make_clips(folder / "one", seed=3)
    for path in folder.glob("one/*/*"):
        if path.stem != "0":
            path.unlink()
    return folder / "one" / "clips"


@pytest.mark.slow
def test_twenty_steps_pass_no_claim(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_project(tmp_path, seed=3)
    quickstart_data.make_clips(tmp_path / "held", seed=11)
    settings = ("optimizer.lr=1e-4", "run.steps=20", 'run.output="short"', 'run.cache="cache"')
    train(load(tmp_path / "frisket.toml", [MASKS, *settings]))
    clips, masks = tmp_path / "held" / "clips", str(tmp_path / "held" / "masks")
    for samples in (True, False):
        measures = Measures(clips=clips, masks=masks, seeds=4, samples=samples)
        found = evaluate([read_run(tmp_path / "short")], tmp_path / "out", measures)
        assert found.verdict.sentence.startswith("Too little was learnt to tell")
        assert not any(claim.met for claim in found.verdict.claims)


@pytest.mark.slow
def test_the_mask_is_shown_to_work_on_the_quick_start(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_project(tmp_path, seed=1)
    quickstart_data.make_clips(tmp_path / "held", seed=11)
    for name, settings in {"plain": (), "mask": (MASKS,)}.items():
        common = ("run.steps=150", f'run.output="{name}"', 'run.cache="cache"')
        train(load(tmp_path / "frisket.toml", [*common, *settings]))
    measures = Measures(
        clips=tmp_path / "held" / "clips", masks=str(tmp_path / "held" / "masks"), seeds=12
    )
    configs = [read_run(tmp_path / name) for name in ("plain", "mask")]
    found = evaluate(configs, tmp_path / "out", measures)
    assert found.verdict.sentence.startswith("The mask worked: the background was learnt ")
    assert found.verdict.held
    times = re.search(r"learnt (?:at least )?([\d.]+)x less than without", found.verdict.sentence)
    assert times is not None
    assert float(times[1]) > 4
    plain, mask = (one.values["leak"] for one in found.measured)
    assert sum(plain) / len(plain) > 0.4
    assert sum(plain) > 4 * max(sum(mask), 0)
    selectivity = [one.selectivity() for one in found.measured]
    assert selectivity[1].value > selectivity[0].value

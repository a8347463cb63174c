"""`train` on real files: from pictures and masks to a LoRA, stopped and resumed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from frisket.adapters.lora import AdapterMismatch
from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.families.base import Parts
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.train import train
from frisket.runs import checkpointing, quickstart_data
from frisket.runs.background_bank import key_of, sample_bank
from frisket.runs.identity import FREE, check_same_run, identity_of, read_identity
from frisket.runs.prepare import prepare, source_of
from frisket.training.checkpoint import CheckpointError
from frisket.training.distributed import BadLaunch
from frisket.training.optim import BadOptimizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pocket model and a little data set, on disk."""
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def config_of(base: Path, output: Path, **sections: object) -> Config:
    tree: dict[str, object] = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
        "losses": {"denoise": 1.0, "prior": 0.3},
        "lora": {"rank": 2},
        "optimizer": {"lr": 1e-3, "warmup": 2, "schedule": "cosine", "ema": 0.9},
        "validation": {"holdout": 2, "every": 4},
    }
    run = {"output": output, "cache": base / "cache", "steps": 8, "batch": 2, "save_every": 3}
    tree["run"] = run | dict(sections.pop("run", {}))  # type: ignore[call-overload]
    return Config.model_validate(tree | sections)


def test_a_run_leaves_a_lora_its_metrics_and_its_card(base: Path, tmp_path: Path) -> None:
    outcome = train(config_of(base, tmp_path))
    with safe_open(outcome.lora, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["frisket.steps"] == "8"
    assert metadata["ss_network_dim"] == "2"
    assert json.loads(metadata["frisket.masks"])["regions"] == {"subject": 1.0}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    looked = [line["validation"] for line in lines if "validation" in line]
    assert len(looked) == 2
    assert looked[0]["base"] == looked[1]["base"]
    assert {"loss/subject", "loss/outside"} <= looked[0]["tuned"].keys()
    assert "clips 8, with masks 8, held out 2" in (tmp_path / "README.md").read_text()


def test_stopped_and_resumed_is_bit_identical(base: Path, tmp_path: Path) -> None:
    whole = train(config_of(base, tmp_path / "whole"))
    stopped = config_of(base, tmp_path / "parts")

    class PowerCut(Exception):
        pass

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 5:
            raise PowerCut

    with pytest.raises(PowerCut):
        train(stopped, progress=cut)
    resumed = train(stopped)  # goes on from step 3
    first, second = load_file(whole.lora), load_file(resumed.lora)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)

    def losses(folder: Path) -> list[tuple[int, float]]:
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_stopping_to_train_longer_at_another_rate_goes_on(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(config_of(base, tmp_path, run={"steps": 3}))
    changed = config_of(
        base,
        tmp_path,
        optimizer={"lr": 5e-4, "warmup": 2, "schedule": "constant", "ema": 0.9, "clip": 0.5},
        lora={"rank": 2, "format": "diffusers"},
        preview={"every": 0, "prompts": ["a cat"]},
        run={"steps": 6, "save_every": 2, "keep": 1},
    )
    caplog.set_level("INFO", "frisket")
    outcome = train(changed)
    assert outcome.steps == 6
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[:2] == pytest.approx([5e-4, 1e-3])
    assert rates[3:] == pytest.approx([5e-4] * 3)
    assert "going on with optimizer.lr = 0.0005 (it was 0.001)" in caplog.text
    assert "going on with run.steps = 6 (it was 3)" in caplog.text
    caplog.clear()
    train(changed)
    assert "this run is finished (6 steps)" in caplog.text
    with pytest.raises(CheckpointError, match=r"run\.steps is 4, but .*is of step 6"):
        train(config_of(base, tmp_path, run={"steps": 4}))


OTHER = {
    "run.seed": {"run": {"seed": 1}},
    "run.batch": {"run": {"batch": 1}},
    "run.precision": {"run": {"precision": "bfloat16"}},
    "model.dtype": {"model": {"dtype": "bfloat16"}},
    "lora.rank": {"lora": {"rank": 4}},
    "lora.targets": {"lora": {"rank": 2, "targets": ("to_q",)}},
    "memory.storage": {"memory": {"storage": "float8"}},
    "regions.subject": {"regions": {"subject": 0.5}},
    "curve.gamma": {"curve": {"gamma": 2.0}},
    "losses.prior.strength": {"losses": {"denoise": 1.0, "prior": 0.1}},
    "losses.normalise": {"losses": {"denoise": 1.0, "prior": 0.3, "normalise": "batch"}},
    "timesteps.low": {"timesteps": {"low": 0.1}},
    "optimizer.name": {"optimizer": {"name": "sgd"}},
    "optimizer.options.betas": {"optimizer": {"ema": 0.9, "options": {"betas": (0.9, 0.95)}}},
    "regions.hair": {"regions": {"subject": 1.0, "hair": 0.5}},
    "optimizer.ema": {"optimizer": {"ema": 0.5}},
    "optimizer.weight_decay": {"optimizer": {"weight_decay": 0.5, "ema": 0.9}},
    "data": {"data": "flipped"},
    "lora.source": {"lora": {"rank": 2, "source": "lora"}},
    "base weights": {"model": "times 3"},
}


@pytest.mark.parametrize("name", OTHER)
def test_what_makes_a_run_another_one_is_refused_with_both_values(
    base: Path, tmp_path: Path, name: str
) -> None:
    prepared = prepare(config_of(base, tmp_path))
    before = identity_of(config_of(base, tmp_path), prepared)
    sections: dict[str, object] = dict(OTHER[name])
    if sections.get("data") == "flipped":
        folder = base / "data"
        sections["data"] = [
            {"clips": folder / "clips", "masks": folder / "masks", "flip": True},
        ]
    if name == "lora.source":
        (tmp_path / "lora.safetensors").write_bytes(b"any file")
        sections["lora"] = {"rank": 2, "source": tmp_path / "lora.safetensors"}
    if name == "base weights":
        shutil.copytree(base / "model", tmp_path / "model")
        for file in (tmp_path / "model").rglob("*.safetensors"):
            tensors = {key: value * 3 for key, value in load_file(file).items()}
            save_file(tensors, file)
        sections["model"] = {"source": str(tmp_path / "model"), "device": "cpu"}
    elif "model" in sections:
        sections["model"] = {"source": str(base / "model"), "device": "cpu"} | sections["model"]  # type: ignore[operator]
    changed = config_of(base, tmp_path, **sections)
    now = identity_of(changed, prepare(changed) if name == "data" else prepared)
    with pytest.raises(CheckpointError, match=rf"belongs to another run \(.*{re.escape(name)}: "):
        check_same_run(before, now, tmp_path / "step-00000003")
    with pytest.raises(CheckpointError, match="belongs to another run"):  # taken away again
        check_same_run(now, before, tmp_path)
    check_same_run(before, before, tmp_path)


def test_noise_levels_left_to_the_variant_are_the_numbers_of_earlier_checkpoints(
    tmp_path: Path,
) -> None:
    left = read_identity(Config(), tmp_path)
    assert (left["timesteps.mean"], left["timesteps.std"]) == (0.0, 1.0)
    given = Config.model_validate({"timesteps": {"mean": 0.0, "std": 1.0}})
    check_same_run(left, read_identity(given, tmp_path), tmp_path)


def test_every_setting_is_fixed_but_those_that_are_listed() -> None:
    """A list of what is free that names a key nobody has would free nothing one day."""
    tables = Config().model_dump()
    for table, keys in FREE.items():
        assert table in Config.model_fields
        assert keys is None or keys <= tables[table].keys()


def test_the_training_state_is_saved_although_the_lora_file_cannot_be_written(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AdapterMismatch("no keys for this layer")

    monkeypatch.setattr(checkpointing, "save_adapter", refuse)
    train(config_of(base, tmp_path, run={"steps": 4, "save_every": 2}))
    folders = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in folders] == ["step-00000002", "step-00000004"]
    assert all(not (path / "lora.safetensors").exists() for path in folders)
    assert "step 2 could not be written (no keys for this layer)" in caplog.text
    monkeypatch.undo()
    assert train(config_of(base, tmp_path, run={"steps": 6, "save_every": 2})).steps == 6


def test_schedule_free_with_an_average_is_refused_before_any_work(
    base: Path, tmp_path: Path
) -> None:
    pytest.importorskip("schedulefree")
    optimizer = {"name": "schedulefree", "ema": 0.9}
    with pytest.raises(BadOptimizer, match=r"ema = 0\.9 and 'schedulefree' contradict"):
        train(config_of(base, tmp_path / "run", optimizer=optimizer))
    assert not (tmp_path / "run").exists()


def test_runs_of_other_precisions_follow_one_another_in_one_process(
    base: Path, tmp_path: Path
) -> None:
    for precision in ("bfloat16", "float32"):
        run = {"steps": 1, "precision": precision}
        train(config_of(base, tmp_path / precision, run=run))


def test_float16_on_a_cpu_is_refused_and_so_is_a_foreign_engine(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadLaunch, match="needs a GPU; take"):
        train(config_of(base, tmp_path, run={"precision": "float16"}))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(BadLaunch, match="ACCELERATE_USE_DEEPSPEED is set"):
        train(config_of(base, tmp_path))


def test_a_fresh_start_sets_the_older_checkpoints_aside(base: Path, tmp_path: Path) -> None:
    train(config_of(base, tmp_path, run={"steps": 4}))
    train(config_of(base, tmp_path, run={"steps": 2, "resume": False}))
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-00000002"]
    assert (tmp_path / "checkpoints.1" / "step-00000004").is_dir()


def test_an_averaged_teacher_asks_for_an_average(base: Path, tmp_path: Path) -> None:
    losses = {"prior": {"strength": 1.0, "teacher": "ema"}}
    with pytest.raises(ConfigError, match=r"teacher = .ema. needs optimizer\.ema"):
        train(config_of(base, tmp_path, losses=losses, optimizer={"lr": 1e-3}))


def test_an_output_that_cannot_be_written_stops_before_any_work(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"run\.output: .*file/run cannot be written"):
        train(config_of(base, tmp_path / "file" / "run"))


def test_swap_trains_on_composites_of_the_models_own_backgrounds(
    base: Path, tmp_path: Path
) -> None:
    swap = {"rate": 1.0, "variants": 2, "prompts": ["a red wall", "green and blue stripes"]}
    config = config_of(base, tmp_path, swap=swap)
    config = config.model_copy(
        update={"model": config.model, "run": config.run.model_copy(update={"steps": 2})}
    )
    train(config)
    bank = sorted((base / "cache" / "bank").glob("*/*.txt"))
    assert [path.read_text() for path in bank] == list(swap["prompts"])


def test_two_runs_that_make_the_same_bank_at_once_share_it(base: Path, tmp_path: Path) -> None:
    swap = {"rate": 1.0, "prompts": ["a red wall"]}
    config = config_of(base, tmp_path, swap=swap, run={"cache": tmp_path / "cache"})
    source = source_of(config, FAMILY)
    folder = tmp_path / "cache" / "bank" / key_of(config, source, (1, 32, 32))

    def meanwhile(stage: str, done: int, total: int) -> None:
        folder.mkdir(parents=True)  # the other run finishes first
        (folder / "0000.txt").write_text("theirs")

    assert sample_bank(config, FAMILY, source, (1, 32, 32), meanwhile) == folder
    assert (folder / "0000.txt").read_text() == "theirs"
    assert list(folder.parent.iterdir()) == [folder]


def test_continuing_from_a_lora_starts_where_it_was(base: Path, tmp_path: Path) -> None:
    first = train(config_of(base, tmp_path / "first"))
    config = config_of(
        base,
        tmp_path / "second",
        lora={"rank": 2, "source": first.lora},
        optimizer={"lr": 1e-12, "weight_decay": 0.0},
        run={"steps": 1},
    )
    second = train(config)
    before, after = load_file(first.lora), load_file(second.lora)
    assert all(torch.allclose(before[key], after[key], atol=1e-8) for key in before)


def test_the_scores_of_an_untrained_adapter_are_those_of_the_base(base: Path) -> None:
    parts = FAMILY.tiny("image")
    assert isinstance(parts, Parts)
    assert quickstart_data.drift_of(FAMILY, parts) == 0.0
    bank, fresh = quickstart_data.backgrounds()
    assert len(bank) == quickstart_data.BANK
    assert len(fresh) == quickstart_data.NEW
    assert not set(bank) & set(fresh)


def test_a_vae_that_cannot_tile_is_refused_before_it_encodes(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path, memory={"tile_vae": True})
    with pytest.raises(ValueError, match="PocketVae cannot work in tiles"):
        train(config)

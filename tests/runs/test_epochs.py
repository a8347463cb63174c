"""run.epochs: as many steps as the epochs need, exact with accumulation, over a resume too."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from frisket.config.load import read
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.records import Item
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.epochs import checkpoints_of, count_steps, describe_length, epoch_of, rates_of
from frisket.training.checkpoint import CheckpointError
from frisket.training.plan import Hooks


def items_of(*buckets: tuple[int, int]) -> list[Item]:
    """Clips of several sizes: how many of each, and how often each is seen in an epoch."""
    return [
        Item(
            name=f"{number}-{place}",
            latents="x",
            clip="x",
            texts=("x",),
            coverage=None,
            shape=(1, 4 + number, 4),
            repeats=repeats,
        )
        for number, (count, repeats) in enumerate(buckets)
        for place in range(count)
    ]


def config_of(folder: Path, **values: Any) -> Config:
    run = {"output": str(folder / "run"), **values.pop("run", {})}
    return Config.model_validate({"run": run, **values})


@pytest.mark.parametrize(
    ("buckets", "batch", "epoch"),
    [(((7, 1),), 1, 7), (((7, 1),), 2, 4), (((7, 3), (2, 1)), 4, 7), (((1, 1), (1, 1)), 8, 2)],
)
@pytest.mark.parametrize(
    ("accumulate", "processes", "passes"), list(product((1, 2, 3), (1, 2), (1, 4)))
)
def test_the_last_step_is_the_one_in_which_the_last_epoch_ends(
    buckets: Any,
    batch: int,
    epoch: int,
    accumulate: int,
    processes: int,
    passes: int,
    tmp_path: Path,
) -> None:
    items = items_of(*buckets)
    config = config_of(
        tmp_path,
        run={"epochs": passes, "batch": batch, "steps": 3},
        optimizer={"accumulate": accumulate},
    )
    assert epoch_of(config, items) == epoch
    made = count_steps(config, items, processes=processes)
    a_step = accumulate * processes
    assert (made.run.steps - 1) * a_step < passes * epoch <= made.run.steps * a_step
    assert f"{passes} epochs of {epoch} batches" in describe_length(
        made, items, processes=processes
    )
    steps = config.model_copy(update={"run": config.run.model_copy(update={"epochs": 0})})
    assert count_steps(steps, items, processes=processes).run.steps == 3


@pytest.mark.parametrize(("epoch", "a_step", "every"), list(product((1, 5, 8), (1, 2, 3), (1, 3))))
def test_every_n_epochs_falls_on_the_step_that_ends_one(
    epoch: int, a_step: int, every: int
) -> None:
    hooks = Hooks(save_every_epochs=every)
    steps = range(1, 61)
    due = [n for n in steps if hooks.due("save", n, ((n - 1) * a_step, n * a_step), epoch)]
    ends = {-(-k * every * epoch // a_step) for k in range(1, 61 * a_step)}
    assert due == [n for n in steps if n in ends]
    assert not any(hooks.due("preview", n, ((n - 1) * a_step, n * a_step), epoch) for n in steps)
    both = Hooks(preview_every=4, preview_every_epochs=every)
    assert all(both.due("preview", n, (n - 1, n), epoch) for n in (4, 8))


def kept(config: Config, step: int, rows: int) -> None:
    checkpoints_of(config).save(step, {}, {"rows": rows})


def test_a_resumed_run_counts_the_batches_it_has_had(tmp_path: Path) -> None:
    config = config_of(tmp_path, run={"epochs": 3}, optimizer={"accumulate": 4})
    items = items_of((10, 1))  # 30 batches in all
    kept(config, 7, 28)  # four a step, as now
    assert count_steps(config, items).run.steps == 8
    kept(config, 12, 12)  # one a step until then, four from here on
    assert count_steps(config, items).run.steps == 12 + 5
    kept(config, 18, 32)  # done: two of the fourth epoch were in the last step
    assert count_steps(config, items).run.steps == 18
    kept(config, 19, 36)
    with pytest.raises(CheckpointError, match=r"run\.epochs is 3, but .* epoch 3\.6; set .* to 4"):
        count_steps(config, items)
    fresh = config.model_copy(update={"run": config.run.model_copy(update={"resume": False})})
    assert count_steps(fresh, items).run.steps == 8


def test_steps_on_the_command_line_replace_the_files_epochs(tmp_path: Path) -> None:
    path = tmp_path / "frisket.toml"
    path.write_text("[run]\nepochs = 12\n")
    assert read(path)[0].run.epochs == 12
    short = read(path, ["run.steps=20"])[0].run
    assert (short.steps, short.epochs) == (20, 0)
    both = read(path, ["run.steps=20", "run.epochs=2"])[0].run
    assert (both.steps, both.epochs) == (20, 2)


def test_a_decay_longer_than_the_run_is_refused_once_its_length_is_known(tmp_path: Path) -> None:
    chosen = {"schedule": "warmup_stable_decay", "decay": 50, "warmup": 0.1}
    config = config_of(tmp_path, run={"epochs": 2}, optimizer=chosen)
    with pytest.raises(ConfigError, match="1 and 50 steps, the run has 14"):
        count_steps(config, items_of((7, 1)))
    assert rates_of(count_steps(config, items_of((60, 1)))).decaying == 50


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pocket model and eight little clips, on disk."""
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def whole_config(base: Path, output: Path, **run: Any) -> Config:
    """Every option of this page at once: five batches an epoch, two a step."""
    tree = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [{"clips": base / "data/clips", "masks": base / "data/masks"}],
        "noise": {"offset": 0.05, "offset_random": True, "multires_iterations": 4},
        "lora": {"rank": 2, "conv_rank": 1, "max_norm": 0.03, "rank_dropout": 0.1},
        "optimizer": {"lr": 3e-3, "lora_plus": 4, "schedule": "cosine_with_restarts", "cycles": 2}
        | {"accumulate": 2, "warmup": 0.2},
        "validation": {"holdout": 3, "every_epochs": 2},
        "run": {"output": output, "cache": base / "cache", "save_every": 0, "keep": 9}
        | {"epochs": 3, "save_every_epochs": 1}
        | run,
    }
    return Config.model_validate(tree)


@pytest.mark.slow
def test_a_run_of_epochs_saves_at_their_ends_and_goes_on_bit_for_bit(
    base: Path, tmp_path: Path
) -> None:
    outcome = train(whole_config(base, tmp_path / "whole"))
    assert outcome.steps == 8  # 15 batches, two a step
    folders = sorted(path.name for path in (tmp_path / "whole/checkpoints").iterdir())
    assert [int(name.split("-")[1]) for name in folders] == [3, 5, 8]
    lines = (tmp_path / "whole/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [line["step"] for line in steps if "validation" in line] == [5, 8]
    assert all(line["largest_norm"] < 0.0301 for line in steps if "loss" in line)
    assert max(line["scaled"] for line in steps if "loss" in line) > 0
    with safe_open(outcome.lora, framework="pt") as opened:
        metadata = opened.metadata()
    assert (metadata["ss_max_train_steps"], metadata["ss_lr_warmup_steps"]) == ("8", "1")
    assert json.loads(metadata["frisket.adapter"])["conv_rank"] == 1

    longer = train(whole_config(base, tmp_path / "whole", epochs=4))
    assert longer.steps == 10


def same(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    return all(torch.equal(ours[key], theirs[key]) for key in ours.keys() | theirs.keys())


@pytest.mark.slow
def test_a_cut_run_of_epochs_ends_as_the_whole_one(base: Path, tmp_path: Path) -> None:
    whole = train(whole_config(base, tmp_path / "whole", save_every=2))

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 5:
            assert total == 8
            raise InterruptedError

    config = whole_config(base, tmp_path / "parts", save_every=2)
    with pytest.raises(InterruptedError):
        train(config, progress=cut)
    assert same(whole.lora, train(config).lora)

"""`model.train = "all"`: every weight of the denoiser, from `train` to all that reads a run."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipes.test_train_families import config_of as config_of_family
from tests.recipes.test_train_families import world as world  # noqa: PLC0414 - a fixture
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.cli.generate import choose_adapters
from frisket.config.load import ConfigError, check
from frisket.config.run_config import write_trained
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.evaluate import Measures, evaluate
from frisket.recipes.generate import generate
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.memory.estimate import predict
from frisket.runs.memory.report import list_switches
from frisket.runs.sampling.whole_models import find_model
from frisket.scoring.runs import read_run
from frisket.studio.runs.results import list_results
from frisket.training.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pocket model and a little data set, on disk."""
    folder = tmp_path_factory.mktemp("base")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def config_of(base: Path, output: Path, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "model": {"source": str(base / "model"), "device": "cpu", "train": "all"},
        "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
        "optimizer": {"lr": 1e-3},
        "validation": {"holdout": 2, "t": (0.4, 0.8)},
        "preview": {"steps": 2},
        "run": {"cache": base / "cache", "steps": 6, "batch": 2, "save_every": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    tree["run"]["output"] = output
    return Config.model_validate(tree)


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """A finished run with previews and validations."""
    output = base / "runs" / "whole"
    preview = {"every": 3, "prompts": ["sks"]}
    train(config_of(base, output, preview=preview, validation={"every": 3}))
    return output


def read_weights(folder: Path, variant: str = "image") -> dict[str, torch.Tensor]:
    denoiser = FAMILY.load_denoiser(Source(variant, str(folder)))
    return {name: value.detach() for name, value in denoiser.named_parameters()}


def read_metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_leaves_a_model_and_no_lora(base: Path, run: Path) -> None:
    assert not list(run.rglob("lora*"))
    assert find_model(run) == run / "model"
    before, after = read_weights(base / "model"), read_weights(run / "model")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    record = json.loads((run / "model" / "frisket.json").read_text())
    assert record["frisket.steps"] == "6"
    assert not any(key.startswith("ss_network") for key in record)
    assert "All weights of pocket image" in (run / "README.md").read_text()
    assert "all weights of the denoiser" in (run / "index.html").read_text()
    assert len(list((run / "previews").iterdir())) == 2


def test_validation_compares_with_the_model_as_it_was_at_the_start(base: Path, run: Path) -> None:
    scores = [line["validation"] for line in read_metrics(run) if "validation" in line]
    assert len(scores) == 2
    assert scores[0]["base"] == scores[1]["base"]
    lora = config_of(base, run.parent / "lora", model={"train": "lora"}, run={"steps": 1})
    train(lora)
    untrained = next(line for line in read_metrics(lora.run.output) if "validation" in line)
    for key in ("loss/subject", "loss/outside"):  # the base of the same run with a LoRA
        assert scores[0]["base"][key] == pytest.approx(untrained["validation"]["base"][key])
    assert all(score["tuned"]["drift/subject"] > 0 for score in scores)


@pytest.mark.parametrize(
    "optimizer", [{"lr": 1e-3, "ema": 0.5}, {"lr": 1e-3, "name": "muon"}], ids=["ema", "muon"]
)
def test_a_killed_run_goes_on_to_the_same_weights(
    base: Path, tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    every = {"optimizer": optimizer, "validation": {"every": 4}, "run": {"steps": 5}}
    whole = train(config_of(base, tmp_path / "whole", **every))

    class PowerCut(Exception):
        pass

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 3:
            raise PowerCut

    config = config_of(base, tmp_path / "parts", **every)
    with pytest.raises(PowerCut):
        train(config, progress=cut)
    assert find_model(tmp_path / "parts") is None
    resumed = train(config)  # goes on from step 2
    assert whole.model is not None
    assert resumed.model is not None
    first, second = read_weights(whole.model), read_weights(resumed.model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    scores = [
        [line["validation"] for line in read_metrics(tmp_path / name) if "validation" in line]
        for name in ("whole", "parts")
    ]
    assert scores[0] == scores[1]  # the base too, which is gone when the run goes on
    newest = sorted((tmp_path / "parts" / "checkpoints").iterdir())[-1]
    held = load_file(newest / "weights.safetensors")
    moved = [name for name in held if not torch.equal(held[name], second[name])]
    assert bool(moved) == ("ema" in optimizer)  # the average is what is written


def test_a_stopped_run_can_be_written_out_and_a_lora_cannot_go_on(
    base: Path, tmp_path: Path
) -> None:
    train(config_of(base, tmp_path, run={"steps": 2}))
    (tmp_path / "model" / "frisket.json").unlink()
    assert train(config_of(base, tmp_path, run={"steps": 2})).model == tmp_path / "model"
    lora: dict[str, Any] = {"model": {"train": "lora"}, "run": {"steps": 1, "resume": False}}
    with pytest.raises(CheckpointError, match=r"model.train: 'all' then, 'lora' now"):
        train(config_of(base, tmp_path, model={"train": "lora"}))
    assert [path.name for path in list_results(tmp_path)] == ["model"]
    train(config_of(base, tmp_path, **lora))  # afresh: both lie there now
    assert [path.name for path in list_results(tmp_path)] == ["lora.safetensors"]
    for kind, name in (("lora", "lora.safetensors"), ("all", "model")):
        chosen = choose_adapters(tmp_path, [], [], base=False, train=kind)
        assert chosen == [(tmp_path / name, 1.0)]


def test_the_error_goes_down(base: Path, tmp_path: Path) -> None:
    train(config_of(base, tmp_path, optimizer={"lr": 3e-3}, run={"steps": 30, "save_every": 0}))
    scores = next(line["validation"] for line in read_metrics(tmp_path) if "validation" in line)
    assert scores["tuned"]["loss/subject"] < 0.9 * scores["base"]["loss/subject"]


def test_evaluate_measures_the_model_against_its_base(
    base: Path, run: Path, tmp_path: Path
) -> None:
    how = Measures(seeds=1, draws=1, unrelated=("a ring",))
    evaluate([read_run(run)], tmp_path, how)
    (entry,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert entry["steps"] == 6
    assert entry["metrics"]["drift"]["mean"] > 0
    pictures = {folder.name: digest(folder) for folder in (tmp_path / "samples").iterdir()}
    assert set(pictures) == {"base", "whole"}
    assert not set(pictures["base"].values()) & set(pictures["whole"].values())


def test_generate_takes_the_model_with_and_without(base: Path, run: Path, tmp_path: Path) -> None:
    config = read_run(run)
    fast: dict[str, Any] = {"steps": 2}
    both = generate(config, ["sks"], tmp_path / "both", lora=[(run / "model", 1.0)], without=True,
                    **fast)  # fmt: skip
    plain = generate(config, ["sks"], tmp_path / "base", **fast)
    source = config.model.model_copy(update={"source": str(run / "model")})
    direct = generate(
        config.model_copy(update={"model": source}), ["sks"], tmp_path / "direct", **fast
    )
    before, after = both.pictures
    assert before.read_bytes() == plain.pictures[0].read_bytes()
    assert after.read_bytes() == direct.pictures[0].read_bytes()
    assert before.read_bytes() != after.read_bytes()
    (entry,) = json.loads(both.record.read_text())["lora"]
    assert (entry["path"], entry["strength"]) == (str(run / "model"), 1.0)
    assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])


@pytest.mark.parametrize(
    ("loras", "options", "message"),
    [
        ([("model", 0.5)], {}, "it acts alone and at strength 1"),
        ([("model", 1.0), ("model", 1.0)], {}, "it acts alone and at strength 1"),
        ([("model", 1.0)], {"masks": ["mask.png"]}, "no mask and no word confines it"),
    ],
)
def test_a_model_is_no_lora_and_says_so(
    base: Path,
    run: Path,
    tmp_path: Path,
    loras: list[tuple[str, float]],
    options: dict[str, Any],
    message: str,
) -> None:
    if "masks" in options:
        options = {"masks": [str(next((base / "data" / "masks").iterdir()))]}
    chosen = [(run / name, strength) for name, strength in loras]
    with pytest.raises(ValueError, match=message):
        generate(read_run(run), ["sks"], tmp_path, lora=chosen, steps=2, **options)
    other = Config.model_validate({"model": {"variant": "video", "device": "cpu"}})
    with pytest.raises(ValueError, match="by its variant"):
        generate(other, ["sks"], tmp_path, lora=[(run / "model", 1.0)], steps=2)


def test_the_commands_go_through(base: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    write_trained(config_of(base, output, run={"steps": 2}), tmp_path)
    config = str(tmp_path / "trained.toml")
    runner = CliRunner()
    trained = runner.invoke(app, ["train", config])
    assert trained.exit_code == 0, trained.output
    assert f"{output / 'model'}: 2 steps" in trained.output
    sampled = runner.invoke(app, ["generate", "--config", config, "-p", "sks", "--compare"])
    assert sampled.exit_code == 0, sampled.output
    page = (output / "samples" / "index.html").read_text()
    assert "run model x 1" in page


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "lora": ({"lora": {"rank": 4, "kind": "dora"}}, ("lora.rank", "lora.kind")),
    "plus": ({"optimizer": {"lora_plus": 4.0}}, ("optimizer.lora_plus",)),
    "dtype": ({"model": {"dtype": "bfloat16"}}, ("model.dtype", "run.precision")),
    "float8": ({"memory": {"storage": "float8", "checkpointing": True}}, ("memory.storage",)),
    "swap": ({"memory": {"swap_blocks": 2}}, ("memory.swap_blocks", "checkpointing")),
    "prior": ({"losses": {"prior": 0.3}}, ("losses.prior", 'teacher = "ema"')),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_with_all_weights_is_named_before_any_work(
    base: Path, tmp_path: Path, name: str
) -> None:
    sections, words = REFUSED[name]
    with pytest.raises(ConfigError) as raised:
        train(config_of(base, tmp_path / "run", **sections))
    assert all(word in str(raised.value) for word in words)
    assert not (tmp_path / "run").exists()


def test_quantised_bases_and_several_experts_are_refused() -> None:
    for model, memory, word in (
        ({"family": "wan", "variant": "2.1-t2v-1.3b"}, {"quantise": "nf4"}, "memory.quantise"),
        ({"family": "wan", "variant": "2.2-t2v-a14b"}, {}, "is 2 denoisers"),
    ):
        tree = {"model": {**model, "train": "all"}, "memory": memory}
        with pytest.raises(ConfigError, match=word):
            check(Config.model_validate(tree))


def test_an_averaged_teacher_is_taken_instead_of_the_base(base: Path, tmp_path: Path) -> None:
    losses = {"denoise": 1.0, "prior": {"strength": 0.3, "teacher": "ema"}}
    optimizer = {"ema": 0.9}
    train(config_of(base, tmp_path, losses=losses, optimizer=optimizer, run={"steps": 2}))
    assert all("prior" in line for line in read_metrics(tmp_path) if "loss" in line)


def test_memory_is_saved_by_what_is_there_for_trained_weights(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path)
    prediction = predict(config, prepare=False)
    count = sum(value.numel() for value in read_weights(base / "model").values())
    mib = 2**20
    assert prediction.weights == pytest.approx(4 * count / mib, rel=0.01)
    assert prediction.gradients == pytest.approx(4 * count / mib, rel=0.01)
    assert prediction.optimizer == pytest.approx(8 * count / mib, rel=0.01)
    assert prediction.adapter == 0
    changed = {key for _, change in list_switches(config, prediction) for key in change}
    assert changed == {
        *("run.precision", "memory.checkpointing", "optimizer.name"),
        *("run.batch", "optimizer.accumulate"),
    }


def list_variants() -> list[Any]:
    """One variant of every code path; one of each kind is quick, the rest are slow."""
    rows = []
    for family in FAMILIES.names():
        for variant, card in FAMILIES.load(family).variants.items():
            if card.like or card.experts:
                continue
            quick = (family, variant) in {("wan", "2.1-t2v-1.3b"), ("qwen_image", "image")}
            marks = () if quick else (pytest.mark.slow,)
            rows.append(pytest.param(family, variant, marks=marks, id=f"{family} {variant}"))
    return rows


@pytest.mark.parametrize(("family", "variant"), list_variants())
def test_every_family_trains_all_that_a_gradient_reaches(
    world: Path, tmp_path: Path, family: str, variant: str
) -> None:
    shelf = FAMILIES.load(family)
    card = shelf.variants[variant]
    data: dict[str, Any] = {"resolution": 32 if card.video else 64}
    if card.sees == "pictures":
        data["references"] = world / "seen"
    if family == "stable_diffusion":
        data["resolution"] = 128
    config = config_of_family(
        *(world, tmp_path, family, variant),
        **{"model": {"train": "all"}, "lora": {}, "losses": {"denoise": 1.0}, "data": data},
    )
    source = Path(config.model.source)
    before = digest(source)
    model = train(config).model
    assert model is not None
    assert digest(source) == before
    weights = [
        dict(shelf.load_denoiser(Source(variant, str(folder))).named_parameters())
        for folder in (source, model)
    ]
    assert weights[0].keys() == weights[1].keys()
    still = {name for name in weights[0] if torch.equal(weights[0][name], weights[1][name])}
    assert len(still) < 0.1 * len(weights[0])  # what the last block makes of the text is not used
    blocks = {name.split(".")[1] for name in still if name.startswith("transformer_blocks.")}
    assert len(blocks) <= 1
    kind: Any = type(shelf.load_denoiser(Source(variant, str(model))))
    stock = dict(kind.from_pretrained(model / shelf.denoiser_folder).named_parameters())
    assert all(torch.equal(stock[name], value) for name, value in weights[1].items())
    for path in (path for path in source.rglob("*") if path.is_file()):
        place = path.relative_to(source)
        if place.parts[0] != shelf.denoiser_folder:
            assert (model / place).samefile(path)  # the base's own parts, and no second copy

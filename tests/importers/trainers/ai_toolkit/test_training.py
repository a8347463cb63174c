"""An ai-toolkit job steps as its own code, whose numbers are in peers/ai_toolkit.json."""

import json
from pathlib import Path

import pytest
import torch
from tests.importers.trainers.ai_toolkit import files
from tests.importers.trainers.ai_toolkit.files import job

from frisket.config.variant_checks import optimizer_problems
from frisket.importers.base import BadImport
from frisket.runs.epochs import rates_of
from frisket.training import optim

clips, imported = files.clips, files.imported
PEER = json.loads((Path(__file__).parents[1] / "peers/ai_toolkit.json").read_text())
STEPS = 100
NETWORK = {"type": "lora", "linear": 4}


@pytest.fixture
def train(clips, imported):
    """What becomes of a process with these options of training."""

    def read(network=NETWORK, **options):
        row = {"folder_path": "clips"}
        return imported(job(row, network=network, train={"lr": 1e-4, "steps": STEPS, **options}))

    return read


def rates(config):
    """The share of the rate at every twentieth of the run."""
    made = rates_of(config)
    return [made.factor(step) for step in range(0, STEPS, STEPS // 20)]


@pytest.mark.parametrize("peer", PEER["rates"], ids=lambda peer: f"{peer['name']}-{peer['params']}")
def test_the_rate_at_each_step(train, loaded, notes, peer):
    done = train(lr_scheduler=peer["name"], lr_scheduler_params=peer["params"])
    (note,) = notes(done)["config.process[0].train.lr_scheduler"]
    ours = rates(loaded(done))
    if peer["shares"] is None:
        assert (note.kind, "it stops" in note.message) == ("no equivalent", True)
    elif peer["name"] == "linear" and not peer["params"]:
        assert note.kind == "no equivalent"
        assert "rises from 0.333 to 1" in note.message
    else:
        # Our warm-up moves at its first step and is there one step earlier.
        off = 1 / 20 if "num_warmup_steps" in peer["params"] else 1e-3
        assert ours == pytest.approx(peer["shares"], abs=off + 1e-9)


@pytest.mark.parametrize("name", sorted(PEER["optimizers"]))
def test_the_optimizer_and_its_rate(train, loaded, notes, name):
    done = train(optimizer=name)
    theirs = PEER["optimizers"][name]["0.0001"]
    chosen = done.sections["optimizer"]
    if "." not in chosen["name"] and chosen["name"] not in optim.ALIASES:
        assert "lr" not in chosen
        ((_, said),) = optimizer_problems(loaded(done))
        assert "no optimizer is named" in said
        return
    assert chosen["lr"] == theirs["given"]["lr"]
    given = {key: each for key, each in theirs["given"].items() if key not in ("lr", "decouple")}
    assert given.items() <= chosen.get("options", {}).items()
    own = theirs["class"].rpartition(".")[2].lower()
    assert own.removesuffix("8bit")[:4] in chosen["name"].lower()


def test_optimizers_that_are_found_step_on(train, loaded):
    for name in ("adam", "adamw", "adafactor", "prodigy", "adagrad"):
        chosen = loaded(train(optimizer=name)).optimizer
        weight = torch.nn.Parameter(torch.ones(4, 4))
        spec = optim.OptimizerSpec(chosen.name, chosen.lr, chosen.weight_decay, chosen.options)
        made = optim.build({"w": weight}, spec)
        weight.grad = torch.ones_like(weight)
        made.step()
        assert not torch.equal(weight, torch.ones(4, 4))


def test_prodigy_keeps_its_switches_off_and_its_own_rate(train, loaded):
    chosen = loaded(train(optimizer="prodigyopt", lr=1.0, optimizer_params={"d_coef": 2})).optimizer
    assert (chosen.name, chosen.lr) == ("prodigy", 1.0)
    off = {"use_bias_correction": False, "safeguard_warmup": False}
    assert chosen.options == off | {"eps": 1e-6, "d_coef": 2}


def test_the_least_rate_is_a_share_of_the_one_that_is_taken(train):
    options = {"lr_scheduler": "cosine", "lr_scheduler_params": {"eta_min": 0.1}}
    chosen = train(optimizer="prodigy", lr=1e-4, **options).sections["optimizer"]
    assert (chosen["lr"], chosen["final"]) == (1.0, 0.1)


@pytest.mark.parametrize("peer", PEER["accumulation"], ids=lambda peer: str(peer)[:60])
def test_steps_are_updates(train, notes, peer):
    options = {
        name: peer[name] for name in ("gradient_accumulation", "gradient_accumulation_steps")
    }
    done = train(**options, steps=12)
    run, stepping = done.sections["run"], done.sections["optimizer"]
    assert run["steps"] == len(peer["updates"])
    assert stepping["accumulate"] == len(peer["updates"][0])
    told = notes(done)["config.process[0].train.gradient_accumulation_steps"]
    thrown = any("throws 3 of them away" in note.message for note in told)
    assert thrown == (options["gradient_accumulation_steps"] > 1)


def test_counts_are_in_updates_where_it_counts_batches(clips, imported):
    done = imported(
        job(
            {"folder_path": "clips"},
            network=NETWORK,
            train={"lr": 1e-4, "steps": 4000, "gradient_accumulation_steps": 4},
            save={"save_every": 400},
            sample={"sample_every": 200, "prompts": ["x"]},
        )
    )
    assert done.sections["run"]["steps"] == 1000
    assert done.sections["run"]["save_every"] == 100
    assert done.sections["preview"]["every"] == 50


def test_what_is_left_out_is_its_default(clips, imported):
    done = imported(job({"folder_path": "clips"}, network={"type": "lora"}, train={"lr": 1e-4}))
    assert done.sections["lora"] == {"rank": 4, "alpha": 1.0}
    assert done.sections["optimizer"] == {
        "name": "adamw",
        "lr": 1e-4,
        "weight_decay": 0.01,
        "options": {"eps": 1e-6},
        "schedule": "constant",
        "clip": 1.0,
        "accumulate": 1,
    }
    assert done.sections["run"] == {
        "steps": 1000, "batch": 1, "precision": "float32", "save_every": 1000, "keep": 5,
    }  # fmt: skip
    assert done.sections["memory"] == {"checkpointing": True}


def test_adafactor_is_not_clipped(train):
    assert train(optimizer="adafactor", max_grad_norm=0.5).sections["optimizer"]["clip"] == 0
    assert train(optimizer="adamw", max_grad_norm=0.5).sections["optimizer"]["clip"] == 0.5


def test_the_rate_of_the_denoiser_alone_is_never_read(train, notes):
    done = train(unet_lr=5e-4)
    assert done.sections["optimizer"]["lr"] == 1e-4
    kinds = {note.kind for note in notes(done)["config.process[0].train.unet_lr"]}
    assert kinds == {"defect", "not needed"}


@pytest.mark.parametrize("process", [{}, {"network": None}, {"adapter": {"type": "t2i"}}])
def test_a_whole_model_is_no_lora_in_silence(clips, imported, loaded, notes, process):
    done = imported(job({"folder_path": "clips"}, train={"lr": 4e-5, "steps": 7}, **process))
    assert "lr" not in done.sections["optimizer"]
    assert done.sections["run"]["steps"] == 7
    (note,) = notes(done)["config.process[0].network"]
    assert note.kind == "no equivalent"
    ((_, said),) = optimizer_problems(loaded(done))
    assert "set optimizer.name, and with it optimizer.lr" in said


@pytest.mark.parametrize(
    ("network", "arch", "lora"),
    [
        (
            {"type": "lora", "rank": 8, "linear": 2, "linear_alpha": 0},
            *("flux", {"rank": 8, "alpha": 8.0}),
        ),
        (
            {"type": "lokr"},
            *("flux", {"kind": "lokr", "full_matrix": True, "factor": -1}),
        ),
        (
            {"type": "lokr", "lokr_full_rank": False, "linear": 8, "alpha": 4, "lokr_factor": 4},
            *("flux", {"kind": "lokr", "rank": 8, "alpha": 4.0, "factor": 4}),
        ),
        (
            {"linear": 8, "alpha": 2, "conv": 4, "conv_alpha": 1},
            *("sdxl", {"rank": 8, "alpha": 2.0, "conv_rank": 4, "conv_alpha": 1.0}),
        ),
        ({"linear": 8, "conv": 4}, "flux", {"rank": 8, "alpha": 1.0}),
        ({"linear": 8, "conv": 4}, "chroma", {"rank": 8, "alpha": 1.0}),
        (
            {"linear": 8, "network_kwargs": {"only_if_contains": ["unet.blocks_7.", "proj"]}},
            *("flux", {"rank": 8, "alpha": 1.0, "targets": [r"/blocks[._]7\.|proj/"]}),
        ),
        (
            {"linear": 8, "network_kwargs": {"ignore_if_contains": ["norm"]}},
            *("flux", {"rank": 8, "alpha": 1.0, "exclude": ["/norm/"]}),
        ),
    ],
)  # fmt: skip
def test_kinds_of_adapters(clips, imported, loaded, network, arch, lora):
    done = imported(job({"folder_path": "clips"}, network=network, model={"arch": arch}))
    blocks = {"preset": "blocks"} if arch == "flux" and "targets" not in lora else {}
    assert done.sections["lora"] == lora | blocks
    loaded(done)


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({"type": "concept_slider"}, "trains a slider from prompts"),
        ({"type": "textual_inversion_trainer"}, "trains an embedding"),
        ({"type": "my_own_trainer"}, "does something else"),
    ],
)
def test_other_processes_are_named_and_refused(clips, imported, process, said):
    with pytest.raises(BadImport, match=said):
        imported(job({"folder_path": "clips"}, **process))


@pytest.mark.parametrize(
    ("kind", "said"), [("generate", "makes pictures"), ("extract", "extracts a LoRA")]
)
def test_other_jobs_are_named_and_refused(imported, kind, said):
    tree = job() | {"job": kind}
    with pytest.raises(BadImport, match=said):
        imported(tree)


@pytest.mark.parametrize(
    ("folder", "output"),
    [
        ("output", "output/my-lora-v1"),
        ("/workspace/of/another/machine", "runs/my-lora-v1"),
        (r"D:\ai\output", "runs/my-lora-v1"),
        ("../../etc", "runs/my-lora-v1"),
    ],
)
def test_where_a_run_goes(clips, imported, folder, output):
    tree = job({"folder_path": "clips"}, training_folder=folder)
    tree["config"]["name"] = "my lora/v1"
    assert imported(tree).sections["run"] == {"output": output}

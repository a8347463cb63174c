"""A learning rate reaches the optimizer it was meant for, or none; what it left out is its own."""

import importlib.util
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frisket.config.tree import Config
from frisket.config.variant_checks import optimizer_problems
from frisket.importers.files import Written
from frisket.importers.optimizers import convert_optimizer, read_optimizers
from frisket.importers.options import OptionRules, Sheet
from frisket.training.optim import ALIASES, BadOptimizer, OptimizerSpec, build, mode

TABLES = dict(read_optimizers())
CLASSES = TABLES.pop("classes")
NAMES = [(trainer, name) for trainer, rows in TABLES.items() for name in rows]
HERE = {each for each in CLASSES if importlib.util.find_spec(each.partition(".")[0])}
LEFT = {each for each in HERE if each.startswith("bitsandbytes")} | {"torch.optim.Adafactor"}


def chosen(trainer, written, rate=0.7, **arguments):
    tree = {"optimizer_type": written, "lr": rate}
    sheet = Sheet(Written(Path("job.toml"), tree, {}), OptionRules("theirs", {"top": {}}))
    top = sheet.top("top")
    found = convert_optimizer(
        top, "optimizer_type", written, trainer=trainer, rate=rate, arguments=arguments,
        rates=[(top, "lr")],
    )  # fmt: skip
    return found, {note.option: note for note in sheet.notes}


def class_of(path) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(("trainer", "name"), NAMES)
def test_a_rate_goes_to_the_same_optimizer_or_is_left_out(trainer, name):
    written = name.rstrip("*").upper()
    found, notes = chosen(trainer, written)
    row = TABLES[trainer][name]
    if "class" in row and "relative_step" not in notes["optimizer_type"].message:
        assert found["lr"] == 0.7
        assert "weight_decay" in found
        assert found["name"] == CLASSES[row["class"]]["name"]
        assert notes["optimizer_type"].kind == "mapped"
    else:
        assert set(found) == {"name"}
        assert found["name"].startswith(written)
        assert {each.kind for each in notes.values()} == {"no equivalent"}
        assert "0.7" in notes["optimizer_type"].message
        assert "lr" in notes
        config = Config.model_validate({"optimizer": found})
        said = [said for _, said in optimizer_problems(config)]
        assert len(said) == 1
        assert "optimizer.lr" in said[0]


@pytest.mark.parametrize("trainer", TABLES)
def test_a_name_nobody_documents_is_asked_for(trainer):
    found, notes = chosen(trainer, "Scorn")
    assert found == {"name": "Scorn of theirs"}
    assert notes["optimizer_type"].kind == "no equivalent"
    assert notes["lr"].kind == "no equivalent"


@pytest.mark.parametrize("trainer", TABLES)
def test_an_import_path_keeps_its_rate_and_arguments(trainer):
    found, _ = chosen(trainer, "some.package.Scorn", weight_decay=0.2, d0=1e-5)
    assert found == {
        "name": "some.package.Scorn", "lr": 0.7, "weight_decay": 0.2, "options": {"d0": 1e-5},
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(HERE))
def test_the_decay_of_a_class_is_its_own_default(path):
    signature = inspect.signature(class_of(path)).parameters
    own = signature["weight_decay"].default if "weight_decay" in signature else None
    assert CLASSES[path].get("decay") == own


@pytest.mark.parametrize("path", [p for p in sorted(HERE) if p not in LEFT])
def test_what_an_alias_does_otherwise_is_undone(path):
    """Three steps of ours, with all that is written out, end where those of the class do."""
    name = next((n for n, row in TABLES["kohya"].items() if row == {"class": path}), None)
    written = name or path.rpartition(".")[2]
    arguments = {"relative_step": False} if path.startswith("transformers") else {}
    found, _ = chosen("kohya", written, 0.01, **arguments)
    assert found["lr"] == 0.01
    ends = []
    for make in (
        lambda p: build({"p": p}, OptimizerSpec(**found)),
        lambda p: class_of(path)([p], lr=0.01, **arguments),
    ):
        parameter = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        optimizer = make(parameter)
        mode(optimizer, training=True)
        for step in range(3):
            parameter.grad = torch.cos(parameter.detach() * 3 + step)
            optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


def test_prodigy_is_not_the_alias_with_its_switches_on():
    found, _ = chosen("onetrainer", "PRODIGY", 1.0, d_coef=0.8, slice_p=11, fsdp_in_use=False)
    assert found == {
        "name": "prodigy",
        "lr": 1.0,
        "weight_decay": 0.0,
        "options": {
            "use_bias_correction": False, "safeguard_warmup": False, "d_coef": 0.8, "slice_p": 11,
        },
    }  # fmt: skip
    on, notes = chosen("kohya", "prodigy", 1.0, safeguard_warmup=True, weight_decay=0.01)
    assert on["options"] == {"use_bias_correction": False, "safeguard_warmup": True}
    assert on["weight_decay"] == 0.01
    assert "mapped" in notes["optimizer_type"].kind


@pytest.mark.parametrize("path", sorted(CLASSES))
def test_a_path_that_is_known_decays_as_its_class_does(path):
    found, notes = chosen("kohya", path, 0.01, relative_step=False)
    assert found["name"] == CLASSES[path]["name"]
    assert found.get("weight_decay") == CLASSES[path].get("decay")
    assert notes["optimizer_type"].kind == "mapped"


def test_a_path_whose_decay_is_not_known_is_told():
    _, notes = chosen("kohya", "some.package.Scorn")
    assert "weight_decay is 0.01 here" in notes["optimizer_type"].message


def test_a_rate_too_low_for_prodigy_is_raised_as_there():
    assert chosen("ai_toolkit", "prodigyopt", 1e-4)[0]["lr"] == 1.0
    assert chosen("ai_toolkit", "Prodigy", 0.5)[0]["lr"] == 0.5
    assert chosen("kohya", "prodigy", 1e-4)[0]["lr"] == 1e-4


@pytest.mark.parametrize("trainer", ["kohya", "musubi"])
def test_adafactor_that_finds_its_own_rate_is_asked_for(trainer):
    found, notes = chosen(trainer, "Adafactor", 1e-3)
    assert set(found) == {"name"}
    assert found["name"] not in ALIASES
    assert "relative_step" in notes["optimizer_type"].message
    found, _ = chosen(trainer, "Adafactor", 1e-3, relative_step=False, scale_parameter=False)
    assert found["name"] == "adafactor"
    assert found["options"]["scale_parameter"] is False


def test_what_only_says_where_the_state_lies_is_told():
    found, notes = chosen("onetrainer", "ADAMW_8BIT", 1e-4, is_paged=True, optim_bits=8, eps=1e-7)
    assert found["options"] == {"eps": 1e-7}
    assert "is_paged, optim_bits" in notes["optimizer_type"].message


RECORDED = json.loads((Path(__file__).parent / "peer_optimizers.json").read_text())
MADE = [
    (trainer, name, row)
    for trainer, held in RECORDED.items()
    for name, row in held["optimizers"].items()
    if "class" in row
]
OPTIONS = (
    "betas", "eps", "weight_decay", "momentum", "nesterov", "dampening", "scale_parameter",
    "relative_step", "warmup_init", "decay_rate", "clip_threshold", "decouple",
    "use_bias_correction", "safeguard_warmup", "d_coef", "d0", "amsgrad", "weight_lr_power", "r",
)  # fmt: skip


@pytest.mark.parametrize(("trainer", "name", "row"), MADE)
def test_it_is_what_the_trainers_own_code_makes(trainer, name, row):
    """Recorded by scripts/record_peer_optimizers.py: the class, and all that it steps by."""
    arguments = {"relative_step": False} if name == "adafactor" else {}
    found, notes = chosen(trainer, name, 0.01, **arguments)
    theirs = row["class"].rpartition(".")[2]
    if "lr" not in found:
        assert trainer == "ai_toolkit" or f".{theirs}'" in notes["optimizer_type"].message
        return
    assert found["lr"] == row["options"]["lr"]
    try:
        ours = build({"p": nn.Parameter(torch.ones(2, 2))}, OptimizerSpec(**found))
    except BadOptimizer as error:  # lion, whose package is not one of Frisket's own
        assert "pip install" in str(error)  # noqa: PT017
        return
    plain = theirs.removeprefix("Paged").removesuffix("8bit").removesuffix("32bit")
    assert type(ours).__name__.startswith(plain)
    group = ours.param_groups[0]
    for option in set(OPTIONS) & set(group) & set(row["options"]):
        value = group[option]
        given = list(value) if isinstance(value, tuple | list) else value
        assert given == row["options"][option], option

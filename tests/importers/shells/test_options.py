"""Command lines are read as the training scripts' own parsers read them."""

import argparse
import json
import shlex
from importlib import resources
from typing import Any

import pytest

from frisket.importers.shells.options import BadShellOption, find_trainer, parse
from frisket.importers.shells.words import Word, mark_hole

TABLES = json.loads(
    (resources.files("frisket.importers.shells") / "options.json").read_text("utf-8")
)


def words(text: str) -> list[Word]:
    return [Word(each, number) for number, each in enumerate(shlex.split(text), 1)]


def parser_of(trainer: str, script: str) -> argparse.ArgumentParser:
    """A parser with the options that were taken from the script's own."""
    table = TABLES[trainer]
    rows = table["options"] | table["differs"].get(script, {})
    parser = argparse.ArgumentParser(exit_on_error=False, argument_default=argparse.SUPPRESS)
    kinds: dict[str, Any] = {"int": int, "float": float}
    for option in table["scripts"][script]:
        row = rows[option]
        if row["action"] == "store":
            kind = kinds.get(row["type"], str)
            parser.add_argument(*row["flags"], dest=option, type=kind, nargs=row.get("nargs"))
        else:
            parser.add_argument(*row["flags"], dest=option, action=row["action"])
    return parser


LINES = (
    "--learning_rate=1e-4 --network_dim 16 --network_alpha=8 --xformers --seed 3",
    "--optimizer_args weight_decay=0.1 'betas=0.9,0.99' --optimizer_type AdamW8bit",
    "--network_args conv_dim=4 conv_alpha=1 --text_encoder_lr 1e-5 2e-5 --cache_latents",
    "--optimizer_args --output_name 'a b' --learning_rate 1 --learning_rate 2",
    "--caption_extension .txt --resolution 512,768 --noise_offset -0.1 --max_token_len 150",
    "--output_name= --training_comment='a = b' --save_every_n_epochs=1",
)


@pytest.mark.parametrize("line", LINES)
def test_values_are_those_of_argparse(line: str) -> None:
    script = "sdxl_train_network.py"
    wanted = vars(parser_of("kohya", script).parse_args(shlex.split(line)))
    assert parse(words(line), "kohya", script).tree == wanted


@pytest.mark.parametrize(
    "line",
    [
        "--dit a.safetensors --task t2v-A14B --blocks_to_swap 20 --fp8_base --fp8_scaled",
        "--network_args loraplus_lr_ratio=4 --base_weights a b --base_weights_multiplier 1 0.5",
        "--min_timestep 0 --max_timestep=900 --preserve_distribution_shape --sdpa",
    ],
)
def test_musubi_too(line: str) -> None:
    script = "wan_train_network.py"
    wanted = vars(parser_of("musubi", script).parse_args(shlex.split(line)))
    assert parse(words(line), "musubi", script).tree == wanted


@pytest.mark.parametrize(
    "line",
    ["--network_dim 4.5", "--learning_rate fast", "--seed", "--xformers=1", "--max_train 4"],
)
def test_what_stops_argparse_is_told(line: str) -> None:
    script = "train_network.py"
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser_of("kohya", script).parse_args(shlex.split(line))
    with pytest.raises(BadShellOption, match="--"):
        parse(words(line), "kohya", script)


def test_shares_of_steps() -> None:
    given = parse(words("--lr_warmup_steps 10% --lr_decay_steps=0.2"), "musubi", "hv_train.py")
    assert given.tree == {"lr_warmup_steps": 0.1, "lr_decay_steps": 0.2}
    assert parse(words("--lr_warmup_steps 100"), "musubi", "hv_train.py").tree == {
        "lr_warmup_steps": 100
    }


def test_options_of_forks_are_kept() -> None:
    given = parse(words("--my_switch --my_value 3 --my_list a b x=1 --seed 1"), "kohya", "a.py")
    assert given.tree == {
        "my_switch": True,
        "my_value": "3",
        "my_list": ["a", "b", "x=1"],
        "seed": 1,
    }
    assert given.lines["my_value"] == 2


def test_what_is_open_is_kept_apart_or_asked_for() -> None:
    some = [Word("--output_dir", 1), Word(f"{mark_hole('$OUT')}/x", 1), Word("--seed=1", 2)]
    given = parse(some, "kohya", "train_network.py")
    assert given.open == {"output_dir": "$OUT/x"}
    assert given.tree == {"seed": 1}
    for option in ("learning_rate", "dataset_config", "network_module"):
        with pytest.raises(BadShellOption, match=r"\$X is not set by the file"):
            parse([Word(f"--{option}={mark_hole('$X')}", 1)], "kohya", "train_network.py")
    stray = parse([Word(mark_hole("$MORE"), 1)], "kohya", "train_network.py").stray
    assert [word.label for word in stray] == ["$MORE"]


def test_scripts_name_their_trainer() -> None:
    assert find_trainer("sdxl_train_network.py") == "kohya"
    assert find_trainer("wan_train_network.py") == "musubi"
    assert find_trainer("train.py") == ""
    scripts = [set(TABLES[trainer]["scripts"]) for trainer in ("kohya", "musubi")]
    assert not scripts[0] & scripts[1]

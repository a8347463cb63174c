"""Names and short forms that a newcomer types, and help that shows all it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from frisket.cli.generate import choose_adapters
from frisket.cli.options import add_short_options
from frisket.config.provenance import override


def frisket(*words):
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-c", "from frisket.cli import main; main()", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.parametrize("word", ["--network_dim", "--network-dim"])
def test_what_others_call_an_option_is_said(word):
    told = frisket("train", word, "8")
    assert told.returncode == 2
    assert "Here it is --set lora.rank=VALUE" in told.stderr


def test_short_options_are_laid_over_the_config_last():
    assert add_short_options(["lora.rank=4"], run_steps=5, lora_rank=8, optimizer_lr=None) == [
        "lora.rank=4",
        "run.steps=5",
        "lora.rank=8",
    ]


def test_help_shows_its_brackets():
    assert "as in [preview], then" in " ".join(frisket("generate", "--help").stdout.split())


def test_text_that_begins_with_a_brace_needs_no_quotes():
    tree = {}
    override(tree, "swap.template={caption}, {background}")
    assert tree == {"swap": {"template": "{caption}, {background}"}}
    override(tree, "losses.prior={strength = 0.5}")
    assert tree["losses"] == {"prior": {"strength": 0.5}}


def test_strengths_go_to_loras_in_turn():
    one, two = Path("one"), Path("two")
    assert choose_adapters(Path(), [one, two], [0.5], base=False) == [(one, 0.5), (two, 1.0)]
    assert choose_adapters(Path(), [], [], base=True) == []
    with pytest.raises(typer.BadParameter, match="2 --strength for 1 --lora"):
        choose_adapters(Path(), [one], [0.5, 1.0], base=False)

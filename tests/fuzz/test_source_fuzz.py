"""Damaged jobs in foreign forms: read, or refused in a sentence; nothing of them is run."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from tests.fuzz.mutate import damage, damage_value, tried
from tests.fuzz.mutate_text import brief, text_of

from frisket.importers.source_base import read_source

QUICK = 24  # a form
MANY = pytest.mark.slow
KEPT = Path(__file__).parents[1] / "importers" / "sources"
SHELL = """#!/bin/bash
export NAME="my lora"; DIM=32
ARGS=(--network_dim "$DIM" --optimizer_args "betas=0.9,0.99" 'weight_decay=0.1')
if [ "$DIM" -gt 16 ] && [[ -n $NAME ]]; then ARGS+=(--output_name "${NAME:-x}"); else ARGS=(); fi
cat > x.toml <<END
[general]
END
for i in 1 2; do echo "$(seq $i)" > log; done
accelerate launch --num_processes 2 sdxl_train_network.py --train_data_dir=data \\
  --learning_rate=1e-4 "${ARGS[@]}" 2>&1 | tee log.txt
"""
BATCH = """@echo off
set "NAME=my lora"
set DIM=32
if "%DIM%"=="32" (set EXTRA=--network_dim %DIM%) else (
  set EXTRA=
)
call accelerate launch train_network.py ^
  --train_data_dir="data" --output_name="%NAME%" %EXTRA% !LATE! & pause
"""
POWER = """$name = "my lora" # a name
$dim = 32
$more = [System.Collections.ArrayList]::new()
if ($dim -ge 16 -and -not ($name -ilike "x*")) { [void]$more.Add("--network_dim=$dim") }
elseif (!$name) { $more += "--x" } else { $dim = $(if ($x) { 1 } else { 2 }) }
foreach ($a in $b.Split(" ")) { [void]$more.Add([float]$a) }
accelerate launch "train_network.py" `
  --train_data_dir=data --output_name="$name" @more $more
"""
CELLS: dict[str, Any] = {
    "cells": [
        {"cell_type": "code", "source": ['rate = 1e-4 #@param\n', 'name = f"a{rate}"\n']},
        {"cell_type": "code", "source": "%cd x\n!accelerate launch train_network.py \\\n"
         " --train_data_dir=data --learning_rate={rate} --output_name=$name\n"},
        {"cell_type": "code", "source": "%%bash\nX=1\necho $X"},
    ]
}  # fmt: skip
ENVIRONMENT = """export MODEL_TYPE='lora'
RATE=1e-4 # a rate
LEARNING_RATE=$RATE #@param {type:"number"}
DATALOADER_CONFIG="config/${NAME:-multi}databackend.json"
TRAINER_EXTRA_ARGS="--lora_rank=16 --flux"
"""
GUI = json.loads((KEPT / "kohya_gui.json").read_text("utf-8"))["cases"][-1]["given"]
EASY = json.loads((KEPT / "easy_training.json").read_text("utf-8"))["cases"][1]["text"]
PRESET = json.loads((KEPT / "qinglong.json").read_text("utf-8"))["presets"]["wan2_1"]
AGES = json.loads((KEPT / "onetrainer.json").read_text("utf-8"))["configs"]
OLD = next(each["given"] for each in AGES if each["given"].get("optimizer") == "ADAM")
MARKS = {"max_resolution": "512,512", "train_batch_size": 1, "lr_warmup": 10}
LATER = {"model_train_type": "sdxl-lora", "train_data_dir": "data", "unet_lr": "1e-4"}

TEXTS = (
    ("train.sh", SHELL),
    ("train.bat", BATCH),
    ("train.ps1", POWER),
    ("config.env", ENVIRONMENT),
    ("easy.toml", EASY),
)
TREES = (
    ("notebook.ipynb", CELLS, json.dumps),
    ("gui.json", GUI | MARKS, json.dumps),
    ("preset.toml", PRESET, tomlkit.dumps),
    ("old.json", OLD | {"training_method": "LORA"}, json.dumps),
    ("saved.toml", LATER, tomlkit.dumps),
)
SEEDS = [pytest.param(range(QUICK), id="few"), pytest.param(range(QUICK, 400), marks=MANY)]


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_a_damaged_text(tmp_path: Path, name: str, text: str, seeds: range) -> None:
    source = tmp_path / name
    source.write_text(text)
    assert read_source(source)  # as it is, it works

    def run(rng: random.Random) -> None:
        source.write_bytes(damage(text.encode(), rng))
        brief(lambda: read_source(source))

    tried(seeds, run)
    assert sorted(each.name for each in tmp_path.iterdir()) == [name]  # nothing was run


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(("name", "tree", "dump"), TREES, ids=[name for name, *_ in TREES])
def test_a_damaged_tree(tmp_path: Path, name: str, tree: Any, dump: Any, seeds: range) -> None:
    source = tmp_path / name
    whole = dump(tree)
    source.write_text(whole)
    assert read_source(source)

    def run(rng: random.Random) -> None:
        if rng.random() < 0.3:
            source.write_bytes(damage(whole.encode(), rng))
        else:
            text = text_of(damage_value(tree, rng), dump)
            source.write_text(text, encoding="utf-8", errors="surrogatepass")
        brief(lambda: read_source(source))

    tried(seeds, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.sh", "a.bat", "a.ps1"])
@pytest.mark.parametrize(
    "text",
    [
        "(" * 9_999, "{" * 9_999, "$(" * 9_999, '"' * 9_999, "`" * 9_999, "if " * 9_999,
        "A=x\n" + "A=$A$A\n" * 60, "set A=x\n" + "set A=%A%%A%\n" * 60, "A=1\n" * 30_000,
        "$a='x'\n" + '$a="$a$a"\n' * 60, "$a=@(1)\n" + "$a+=$a\n" * 60, "x " * 30_000,
        "A=(x)\n" + "A+=(${A[@]})\n" * 60, "${A:-" * 2_000, "[" * 9_999, "$a = " + "1 + " * 9_999,
    ],
    ids=lambda text: text[:8].replace("\n", " "),
)  # fmt: skip
def test_what_doubles_or_nests_ends_in_a_sentence(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    tried(range(1), lambda _: brief(lambda: read_source(tmp_path / name)))

"""Scripts and notebooks lead to the training they start, and to the files it names."""

import json
from pathlib import Path
from typing import Any

import pytest

from frisket.importers.base import BadImport
from frisket.importers.source_base import ConfigSource, Sources, read_source

TRAIN = "accelerate launch sdxl_train_network.py --train_data_dir=data --learning_rate 1e-4 "


def read(folder: Path, name: str, text: str, command: int | None = None) -> Sources:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    found = read_source(file, command)
    assert found is not None
    return found


def source(found: Sources) -> ConfigSource:
    assert isinstance(found[0], ConfigSource)
    return found[0]


SCRIPTS = {
    "train.sh": f"RATE=2\n{TRAIN}--seed $RATE \\\n  --xformers\n",
    "train.bat": f"set RATE=2\r\n{TRAIN}--seed %RATE% ^\r\n  --xformers\r\n",
    "train.ps1": f"$rate = 2\n{TRAIN}--seed $rate `\n  --xformers\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_becomes_options(tmp_path: Path, name: str) -> None:
    found = source(read(tmp_path, name, SCRIPTS[name]))
    assert (found.trainer, found.role, found.script) == ("kohya", "both", "sdxl_train_network.py")
    wanted = {"train_data_dir": "data", "learning_rate": 1e-4, "seed": 2, "xformers": True}
    assert found.written.tree == wanted
    assert found.written.lines[("xformers",)] == 3
    assert found.written.where(("xformers",)).endswith(f"{name} line 3")


def notebook(*cells: str) -> str:
    rows: list[dict[str, Any]] = [{"cell_type": "markdown", "source": ["# accelerate launch"]}]
    rows += [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": rows})


def test_a_notebook_becomes_options(tmp_path: Path) -> None:
    text = notebook(
        'rate = 1e-3 #@param {type:"number"}\nfolder = "data"\nname = f"{folder}_x"\n',
        "%cd /content\n!accelerate launch train_network.py \\\n  --train_data_dir={folder} \\\n"
        "  --learning_rate=$rate --output_name={name} --seed={{3}}\n",
    )
    with pytest.raises(BadImport, match=r"a\.ipynb cell 3 line 4.*seed"):
        read(tmp_path, "a.ipynb", text)
    found = source(read(tmp_path, "a.ipynb", text.replace("{{3}}", "3")))
    wanted = {"train_data_dir": "data", "learning_rate": 1e-3, "output_name": "data_x", "seed": 3}
    assert found.written.tree == wanted
    assert "cell 3 line 2" in found.form


def test_a_notebook_that_writes_the_files_itself_says_what_to_do(tmp_path: Path) -> None:
    text = notebook('import toml\nwith open("training_config.toml", "w") as f:\n  toml.dump({}, f)')
    with pytest.raises(BadImport, match=r"writes the trainer's files itself.*dataset_config\.toml"):
        read(tmp_path, "a.ipynb", text)


def test_one_of_several_is_asked_for(tmp_path: Path) -> None:
    text = f"{TRAIN}--output_name a\npython tag.py\n{TRAIN}--output_name b\n"
    with pytest.raises(
        BadImport, match=r"several.*1: line 1.*\(a\); 2: line 3.*\(b\).*--command N"
    ):
        read(tmp_path, "a.sh", text)
    assert source(read(tmp_path, "a.sh", text, 2)).written.tree["output_name"] == "b"
    with pytest.raises(BadImport, match="there is no command 3"):
        read(tmp_path, "a.sh", text, 3)
    assert source(read(tmp_path, "a.sh", f"{TRAIN}\n{TRAIN}\n")).written.tree  # twice the same


def test_a_line_that_does_not_go_on_is_told(tmp_path: Path) -> None:
    for name, sign in (("a.sh", "\\ "), ("a.bat", "^ "), ("a.ps1", "` ")):
        with pytest.raises(BadImport, match=r"line 2: begins with --seed.*let the line above end"):
            read(tmp_path, name, f"{TRAIN}{sign}\n--seed 1\n")


def test_a_command_of_windows_in_a_file_of_another_kind(tmp_path: Path) -> None:
    found = source(read(tmp_path, "a.sh", f"{TRAIN}^\n--seed 2 ^\n--xformers\n"))
    assert found.written.tree["seed"] == 2
    assert found.written.tree["xformers"] is True


def test_files_that_a_command_names(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("a.toml", "data.toml", "job.yaml", "c.json"):
        (tmp_path / name).write_text("")
    base = "accelerate launch train_network.py --config_file ../a --dataset_config ../data.toml\n"
    found = read(tmp_path, "run/a.sh", base)
    assert source(found).written.tree == {"dataset_config": "../data.toml"}
    assert found[1] == tmp_path / "run" / "../a.toml"
    cases = {
        "python run.py ../job.yaml": "job.yaml",
        "deepspeed --num_gpus=1 train.py --deepspeed --config ../data.toml": "data.toml",
        "python scripts/train.py --config-path=../c.json": "c.json",
    }
    for text, name in cases.items():
        (path,) = read(tmp_path, "run/b.sh", text + "\n")
        assert isinstance(path, Path)
        assert path.resolve() == tmp_path / name
    with pytest.raises(
        BadImport, match=r"b\.sh line 1: run\.py reads none\.yaml, which is not here"
    ):
        read(tmp_path, "run/b.sh", "python run.py none.yaml\n")


def test_a_folder_of_simpletuner(tmp_path: Path) -> None:
    (tmp_path / "config" / "mine").mkdir(parents=True)
    (tmp_path / "config" / "mine" / "config.json").write_text("{}")
    for text in (
        "ENV=mine ./train.sh",
        "simpletuner train env=mine",
        "simpletuner train --env mine",
    ):
        (path,) = read(tmp_path, "a.sh", text + "\n")
        assert isinstance(path, Path)
        assert path.resolve() == tmp_path / "config" / "mine" / "config.json"


def test_data_below_a_folder_that_was_entered(tmp_path: Path) -> None:
    (tmp_path / "kohya" / "data").mkdir(parents=True)
    found = source(read(tmp_path, "a.sh", f"cd kohya\n{TRAIN}\n"))
    assert found.written.tree["train_data_dir"] == "kohya/data"


def test_what_is_open_is_told(tmp_path: Path) -> None:
    text = f'accelerate launch --num_processes=2 {TRAIN[18:]} --output_dir "$OUT" $MORE stray\n'
    notes = {note.option: note for note in source(read(tmp_path, "a.sh", text)).notes}
    assert notes["--output_dir"].value == "$OUT"
    assert "write them out" in notes["$MORE"].message
    assert "optimizer.accumulate by 2" in notes["--num_processes"].message
    assert notes["stray"].message == "is no option"
    with pytest.raises(BadImport, match=r"a\.sh line 1: --learning_rate is \$RATE"):
        read(tmp_path, "a.sh", TRAIN.replace("1e-4", "$RATE"))


def test_what_trains_no_lora(tmp_path: Path) -> None:
    found = source(read(tmp_path, "a.sh", TRAIN.replace("sdxl_train_network", "sdxl_train")))
    assert found.notes[0].kind == "no equivalent"
    assert "whole model" in found.notes[0].message
    for script in ("train_control_net.py", "train_textual_inversion.py"):
        with pytest.raises(BadImport, match="Frisket trains LoRAs alone"):
            read(tmp_path, "a.sh", f"python {script} --seed 1\n")
    for text in ("echo accelerate launch train_network.py", "sed -i s/a/b/ train_network.py"):
        with pytest.raises(BadImport, match="starts no training that is known here"):
            read(tmp_path, "a.sh", text + "\n")
    with pytest.raises(BadImport, match=r"line 1: starts lens_train_network\.py, whose options"):
        read(tmp_path, "a.sh", "accelerate launch lens_train_network.py --seed 1\n")


def test_options_that_are_worked_out_elsewhere(tmp_path: Path) -> None:
    text = notebook("args = build()\n", "!accelerate launch train_network.py {args}\n")
    with pytest.raises(BadImport, match=r"cell 3 line 1: all options come from \{args\}"):
        read(tmp_path, "a.ipynb", text)


def test_accelerate_gives_musubi_its_precision(tmp_path: Path) -> None:
    text = "accelerate launch --mixed_precision bf16 wan_train_network.py --seed 1"
    assert source(read(tmp_path, "a.sh", text)).written.tree["mixed_precision"] == "bf16"
    own = source(read(tmp_path, "a.sh", f"{text} --mixed_precision fp16"))
    assert own.written.tree["mixed_precision"] == "fp16"
    kohya = source(read(tmp_path, "a.sh", TRAIN.replace("launch", "launch --mixed_precision bf16")))
    assert "mixed_precision" not in kohya.written.tree


def test_scripts_of_other_encodings(tmp_path: Path) -> None:
    file = tmp_path / "a.ps1"
    file.write_bytes(f"# täglich\n{TRAIN}\n".encode("utf-16"))
    assert read_source(file)
    file.write_bytes(f"# täglich\n{TRAIN}\n".encode("latin-1"))
    assert read_source(file)
    file.write_bytes(f"{TRAIN.replace('=data', '=dätä')}\n".encode("latin-1"))
    with pytest.raises(BadImport, match="train_data_dir"):
        read_source(file)


def test_nothing_else_takes_a_command(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text("[general]\n")
    assert read_source(tmp_path / "set.toml") is None
    with pytest.raises(BadImport, match="leave --command out"):
        read_source(tmp_path / "set.toml", 1)

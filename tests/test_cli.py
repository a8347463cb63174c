"""The command line: its commands and options, how errors end, and that help is quick."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from frisket.cli import app as app_module


def frisket(*words, cwd=None, **environment):
    """Run the command as a user does."""
    code = "from frisket.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        check=False,
    )


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Run a command that needs torch in this process, which has it, as a user does in tmp_path."""

    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["frisket", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app_module.main()
        said = capsys.readouterr()
        return SimpleNamespace(returncode=stop.value.code, stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / f"{index}.png")
    return folder


def test_help_is_quick_and_imports_no_torch():
    code = """
import sys, time
sys.argv = ["frisket", "--help"]
from frisket.cli.app import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
heavy = {"torch", "numpy", "diffusers", "transformers", "pydantic"} & set(sys.modules)
print(f"\\n{time.process_time()} {sorted(heavy)}")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = ran.stdout.splitlines()[-1].split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.5  # of CPU time: a busy machine is no failure


def test_importing_the_package_imports_no_torch():
    code = "import frisket, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version():
    from frisket import __version__

    assert frisket("--version").stdout == f"frisket {__version__}\n"


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "run.toml").write_text("[lora]\nrang = 4\n", encoding="utf-8")
    ran = frisket("train", tmp_path / "run.toml")
    assert ran.returncode == 2
    assert ran.stderr == "run.toml line 2: unknown key `rang` in [lora], did you mean `rank`?\n"
    assert ran.stdout == ""


def test_a_mistaken_override_too(tmp_path):
    (tmp_path / "run.toml").touch()
    ran = frisket("prepare", tmp_path / "run.toml", "--set", "lora.rank=x")
    assert ran.returncode == 2
    assert ran.stderr.startswith("--set lora.rank=x: `lora.rank` should be a whole number")


def test_the_traceback_can_be_had(tmp_path):
    ran = frisket("train", tmp_path / "none.toml", FRISKET_TRACEBACK="1")
    assert ran.returncode == 1
    assert "Traceback" in ran.stderr


@pytest.mark.parametrize("words", [["trian"], ["train", "--sett", "x"], []])
def test_wrong_usage_is_exit_code_2(words):
    assert frisket(*words).returncode == 2


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (FileNotFoundError("x"), True),
        (PermissionError("x"), True),
        (ValueError("from nowhere"), False),
        (KeyError("x"), False),
        (RuntimeError("x"), False),
    ],
)
def test_only_errors_meant_for_the_reader_lose_their_traceback(error, meant):
    assert app_module._is_meant(error) is meant


def test_a_value_error_raised_by_our_own_code_is_meant():
    from frisket.grid import LatentGrid

    with pytest.raises(ValueError, match="do not fit") as ours:
        LatentGrid(4, 8).cells(1, 7, 7)
    with pytest.raises(ValueError, match="invalid literal") as other:
        int("x")
    assert app_module._is_meant(ours.value)
    assert not app_module._is_meant(other.value)


def test_an_interrupted_run_says_so_and_exits_130(here, clips, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt("stopped and saved after step 7")

    (tmp_path / "run.toml").write_text(
        '[model]\ndevice = "cpu"\n[[data]]\nclips = "clips"\n', encoding="utf-8"
    )
    monkeypatch.setattr("frisket.recipes.train.train", stopped)
    ran = here("train", "run.toml")
    assert ran.returncode == 128 + signal.SIGINT
    assert ran.stderr == "pocket image on cpu\nstopped and saved after step 7\n"


def test_init_writes_a_config_that_inspect_takes(here, clips):
    made = here("init", "clips")
    assert made.returncode == 0
    assert "2 images, about 32 x 32 pixels" in made.stdout
    again = here("init", "clips")
    assert again.returncode == 2
    assert again.stderr == "frisket.toml exists and is not overwritten; name another file with -o\n"
    looked = here("inspect")
    assert looked.returncode == 0
    assert "index.html" in looked.stdout


def test_doctor_exits_1_where_something_is_missing(here, tmp_path):
    (tmp_path / "run.toml").write_text('[[data]]\nclips = "none"\n', encoding="utf-8")
    ran = here("doctor", "run.toml")
    assert ran.returncode == 1
    assert "missing  clips" in ran.stdout
    assert "1 missing." in ran.stdout


def test_generate_asks_for_a_trained_lora(here, tmp_path):
    (tmp_path / "run.toml").touch()
    ran = here("generate", "run.toml", "-p", "a red circle")
    assert ran.returncode == 2
    assert "train first, or give --lora" in ran.stderr


def test_the_schema_is_printed_and_written(tmp_path):
    from frisket.config import schema

    assert frisket("schema").stdout == schema.text()
    wrote = frisket("schema", "-o", tmp_path / "deep" / "frisket.schema.json")
    assert wrote.returncode == 0
    assert (tmp_path / "deep" / "frisket.schema.json").read_text() == schema.text()


@pytest.fixture
def photos(tmp_path):
    """A photograph of a person and a picture of nobody, in `clips`."""
    folder = tmp_path / "clips"
    folder.mkdir()
    there = Path(__file__).parents[1] / "examples" / "photos" / "clips" / "astronaut.jpg"
    (folder / "ada.jpg").write_bytes(there.read_bytes())
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "wall.png")
    return folder


def test_masks_are_made_reviewed_and_said(here, photos):
    ran = here("masks", ".", "--workers", 1, "--review")
    assert ran.returncode == 0
    assert "1 done, 1 unsure" in ran.stdout
    assert "unsure: wall: no face found" in ran.stdout
    assert 'regions = "person"' in ran.stdout
    assert (photos.parent / "masks_review" / "index.html").is_file()
    again = here("masks", "--workers", 1, ".")  # options may come first
    assert "2 done before" in again.stdout


def test_a_clip_that_fails_is_told_by_the_exit_code(here, photos):
    (photos / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ran = here("masks", ".", "--workers", 1)
    assert ran.returncode == 1
    assert "1 done, 1 unsure, 1 failed" in ran.stdout
    assert "failed: cut" in ran.stdout


def test_masks_say_what_they_would_do(here, photos):
    ran = here("masks", ".", "-b", "clipseg", "--phrases", "face; red jacket; a fox", "--dry-run")
    assert ran.returncode == 0
    assert "clipseg: code Apache-2.0" in ran.stdout
    assert "clothes: red jacket (2)" in ran.stdout
    assert not (photos.parent / "masks").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-b", "drat"), "did you mean 'draft'"),
        (("-b", "sapiens", "--source", "nowhere"), "nowhere"),
        (("--combine", "onion"), "did you mean `union`"),
        (("--keep", "nearest", "--near", "middle"), "write x,y as shares"),
        (("--threshold", "draft.vote"), "as in grounding_dino.box=0.3"),
        (("-b", "draft", "-b", "clipseg", "--source", "folder"), "say whose weights they are"),
        (("--window", "10", "--cut", "1.5"), "--cut 1.5: `maskgen.cleanup.threshold` should"),
    ],
)
def test_masks_that_cannot_be_made_are_refused_in_a_line(here, photos, words, said):
    ran = here("masks", ".", *words)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_backends_are_listed_with_their_licences(here):
    ran = here("masks", "backends")
    assert "sam2" in ran.stdout
    assert "non-commercial" in ran.stdout
    assert "grounded-sam2" in ran.stdout


def test_rules_are_written_to_be_edited_and_read_back(here, photos):
    assert here("masks", "rules", "-o", "rules.toml").returncode == 0
    assert here("masks", "rules", "-o", "rules.toml").returncode == 2
    words = ("-b", "clipseg", "--phrases", "face", "--rules", "rules.toml", "--dry-run")
    assert here("masks", ".", *words).returncode == 0


def test_ctrl_c_keeps_what_is_done(photos):
    for index in range(30):
        (photos / f"ada-{index}.jpg").write_bytes((photos / "ada.jpg").read_bytes())
    code = "from frisket.cli import main; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "masks", str(photos.parent), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    masks = photos.parent / "masks"
    for _ in range(600):
        if len(list(masks.glob("ada*.png"))) >= 1 or running.poll() is not None:
            break
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    done = {path.stem for path in masks.glob("*.png")}
    assert done
    assert all((masks / f"{name}.json").is_file() for name in done)
    assert not list(masks.rglob("*.part"))


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_behind(photos):
    for index in range(12):
        (photos / f"ada-{index}.jpg").write_bytes((photos / "ada.jpg").read_bytes())
    code = "from frisket.cli import main; main()"
    words = ["masks", str(photos.parent), "--workers", "2"]
    running = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL)
    masks = photos.parent / "masks"
    for _ in range(600):
        if list(masks.glob("ada*.png")) or running.poll() is not None:
            break
        time.sleep(0.1)
    workers = psutil.Process(running.pid).children(recursive=True)
    assert len(workers) >= 2
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive

"""SimpleTuner's config.env and config.toml, as a shell and as TOML read them."""

import json
from pathlib import Path

import pytest

from frisket.importers.base import IMPORT_FORMATS, BadImport
from frisket.importers.shells.simpletuner_env import read_environment
from frisket.importers.source_base import ConfigSource, read_source

ENV = """# settings
export MODEL_TYPE='lora'
export FLUX=true
export STABLE_DIFFUSION_3=false
export MODEL_NAME="black-forest-labs/FLUX.1-dev"
RATE=1e-4
export LEARNING_RATE=$RATE #@param {type:"number"}
export MAX_NUM_STEPS=1200
export BASE="config"
export DATALOADER_CONFIG="$BASE/multidatabackend.json"
export TRAINER_EXTRA_ARGS="--lora_rank=16 --flux_schedule_shift 3"
export RESOLUTION=512  # pixels
"""
BACKENDS = [
    {
        "id": "a",
        "type": "local",
        "instance_data_dir": "data",
        "cache_dir_vae": "c",
        "resolution": 512,
    }
]


RECORD = json.loads((Path(__file__).parent / "simpletuner_env.json").read_text("utf-8"))
CONSTANT = ("USE_BITFIT",)  # its option holds a value of its own


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as SimpleTuner is started in."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "multidatabackend.json").write_text(json.dumps(BACKENDS))
    (tmp_path / "config" / "config.env").write_text(ENV)
    return tmp_path


def read(path: Path) -> ConfigSource:
    found = read_source(path)
    assert found is not None
    (source,) = found
    assert isinstance(source, ConfigSource)
    return source


def test_variables_are_options_as_the_shell_leaves_them(project: Path) -> None:
    source = read(project / "config" / "config.env")
    assert (source.trainer, source.role) == ("simpletuner", "both")
    tree = source.written.tree
    assert tree["learning_rate"] == "1e-4"
    assert tree["max_train_steps"] == "1200"
    assert tree["resolution"] == "512"
    assert tree["model_family"] == "flux"
    assert tree["pretrained_model_name_or_path"] == "black-forest-labs/FLUX.1-dev"
    assert (tree["lora_rank"], tree["flux_schedule_shift"]) == ("16", "3")
    assert "stable_diffusion_3" not in tree
    lines = source.written.lines
    assert (lines[("learning_rate",)], lines[("model_family",)], lines[("lora_rank",)]) == (
        7,
        3,
        11,
    )
    assert Path(tree["data_backend_config"]).samefile(project / "config" / "multidatabackend.json")


def test_every_variable_is_the_option_that_simpletuner_makes_of_it(tmp_path: Path) -> None:
    file = tmp_path / "config.env"
    for name, value, made in RECORD["cases"]:
        if name in CONSTANT or not made:
            continue
        file.write_text(f"export {name}={value}\n")
        option, _, told = made[0].removeprefix("--").partition("=")
        assert read_environment(file).tree == {option: told or True}, name


def test_the_importer_reads_it_with_its_list(project: Path, tmp_path: Path) -> None:
    from PIL import Image

    (project / "config" / "data").mkdir()
    Image.new("RGB", (64, 64)).save(project / "config" / "data" / "a.png")
    (project / "config" / "data" / "a.txt").write_text("a cat")
    written = read(project / "config" / "config.env").written
    layout = IMPORT_FORMATS.load("simpletuner")
    assert layout.read_written is not None
    imported = layout.read_written(written)
    assert imported.sections["optimizer"]["lr"] == 1e-4
    assert imported.sections["run"]["steps"] == 1200
    beside = layout.read(project / "config" / "multidatabackend.json")
    assert beside.sections["optimizer"]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("switches", "family"),
    [
        ("FLUX=false\nKOLORS=false", "sdxl"),
        ("KOLORS=true\nFLUX=false", "kolors"),
        ("STABLE_DIFFUSION_LEGACY=true", "sd1x"),
        ("STABLE_DIFFUSION_LEGACY=true\nMODEL_NAME=stabilityai/stable-diffusion-2-1", "sd2x"),
        ("FLUX=true\nMODEL_FAMILY=sd3", "sd3"),
    ],
)
def test_families_of_2024(tmp_path: Path, switches: str, family: str) -> None:
    (tmp_path / "config.env").write_text(f"DATALOADER_CONFIG=x.json\n{switches}\n")
    assert read(tmp_path / "config.env").written.tree["model_family"] == family


def test_a_config_toml_is_one_too(project: Path) -> None:
    file = project / "config" / "config.toml"
    file.write_text('"--model-family" = "flux"\ndata_backend_config = "multidatabackend.json"\n')
    source = read(file)
    assert source.written.tree["model_family"] == "flux"
    assert source.written.lines[("model_family",)] == 1


def test_an_environment_without_a_list_leads_to_what_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "config.env"
    file.write_text("export TRAINING_NUM_PROCESSES=1\n")
    with pytest.raises(BadImport, match=r"config\.env: sets no DATALOADER_CONFIG"):
        read_source(file)
    (tmp_path / "config.json").write_text("{}")
    assert read_source(file) == (tmp_path / "config.json",)


def test_a_quote_that_never_closes_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.env").write_text('DATALOADER_CONFIG=x\nMODEL_NAME="a\n')
    with pytest.raises(BadImport, match=r"config\.env line 2: the quote"):
        read_source(tmp_path / "config.env")

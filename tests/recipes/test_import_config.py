"""`frisket import`: other trainers' configurations become ones of ours that load and prepare."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from frisket.cli.exchange.import_ import command
from frisket.config.load import ConfigError, check, read
from frisket.importers.base import IMPORT_FORMATS, BadImport
from frisket.importers.reference import write_reference
from frisket.recipes.import_ import run
from frisket.registry import UnknownPlugin
from frisket.runs.prepare import prepare

KOHYA = """# my cats
[general]
caption_extension = ".caption"
[[datasets]]
resolution = 32
batch_size = 2
enable_bucket = true
[[datasets.subsets]]
image_dir = 'C:\\data\\cats'
conditioning_data_dir = "masks"
class_tokens = "a cat"
num_repeats = 3
color_aug = true
[[datasets.subsets]]
image_dir = "reg"
is_reg = true
class_tokens = "cat"
"""


def draw(path, mode="RGB", size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 200).save(path)


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "theirs"
    for name in ("a", "b"):
        draw(folder / "cats" / f"{name}.png")
        draw(folder / "masks" / f"{name}.png", "L")
        draw(folder / "reg" / f"{name}.png")
    (folder / "cats" / "a.caption").write_text("a cat, sitting\nsecond line")
    (folder / "set.toml").write_text(KOHYA)
    return folder


def test_it_becomes_a_commented_file_that_loads(theirs, tmp_path):
    output = tmp_path / "mine" / "frisket.toml"
    said = run(theirs / "set.toml", output)
    assert said[1] == "11 options mapped, 0 not needed, 1 without equivalent, 1 defect"
    assert any("datasets[0].subsets[0].color_aug = True (line 13)" in line for line in said)
    config, origin = read(output)
    check(config, origin)
    cats, reg = config.data
    assert cats.clips == theirs / "cats"
    assert (cats.repeats, cats.caption, cats.caption_part) == (3, "a cat", "line")
    assert (reg.repeats, reg.masks.source) == (3, "none")
    assert (config.losses.compat, config.run.batch) == ("kohya", 2)
    text = output.read_text()
    assert "resolution = 32 # resolution, line 5" in text
    assert 'clips = "../theirs/cats" # image_dir' in text
    assert "# --- No equivalent, and what to do\n# datasets[0].subsets[0].color_aug" in text
    assert "# --- What kohya really did\n" in text
    assert "No model is named there" in text
    assert [each.name for each in output.parent.iterdir()] == ["frisket.toml"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("FLUX_DEV_1", 'family = "flux" # model_type, line 2'),
        ("CHROMA_1", "# The model there (CHROMA_1) is not here; this is a toy, set yours"),
    ],
)
def test_the_file_says_whether_a_model_was_named(theirs, tmp_path, kind, said):
    tree = {"model_type": kind, "training_method": "LORA", "concepts": [{"path": "cats"}]}
    (theirs / "config.json").write_text(json.dumps(tree, indent=1))
    run(theirs / "config.json", tmp_path / "a.toml", trainer="onetrainer")
    text = (tmp_path / "a.toml").read_text()
    assert said in text
    assert "No model is named there" not in text
    assert read(tmp_path / "a.toml")[0].model.family in ("flux", "pocket")


def test_what_is_imported_prepares_with_its_masks_and_captions(theirs, tmp_path):
    output = tmp_path / "frisket.toml"
    run(theirs / "set.toml", output)
    prepared = prepare(read(output, ["run.cache=cache"])[0])
    assert prepared.report.masked == 2
    assert len(prepared.items) == 4
    assert prepared.report.uncaptioned == ()


def test_a_list_of_clips_is_written_beside_it(theirs, tmp_path):
    lines = [
        {"image_path": "cats/a.png", "caption": "été"},
        {"image_path": "cats/b.png", "caption": ""},
    ]
    (theirs / "list.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    source = theirs / "musubi.toml"
    source.write_text('[[datasets]]\nimage_jsonl_file = "list.jsonl"\nresolution = 32\n'
                      'mask_directory = "masks"\nenable_bucket = true\n')  # fmt: skip
    output = tmp_path / "frisket.toml"
    run(source, output)
    rows = [json.loads(row) for row in (tmp_path / "list.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {"path": "theirs/cats/a.png", "caption": "été", "name": "a",
                       "mask": "theirs/masks/a.png"}  # fmt: skip
    assert prepare(read(output, ["run.cache=cache"])[0]).report.masked == 2
    output.unlink()
    with pytest.raises(ConfigError, match=r"list\.jsonl exists and is not overwritten"):
        run(source, output)


def test_nothing_is_overwritten_and_no_draft_is_left(theirs, tmp_path):
    output = tmp_path / "frisket.toml"
    output.write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        run(theirs / "set.toml", output)
    assert output.read_text() == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["frisket.toml", "theirs"]


def test_the_model_may_be_named(theirs, tmp_path):
    said = run(theirs / "set.toml", tmp_path / "a.toml", family="pocket", variant="image")
    assert "Before it trains:" not in said
    assert read(tmp_path / "a.toml")[0].model.variant == "image"
    said = run(theirs / "set.toml", tmp_path / "b.toml", family="wann")
    told = said[said.index("Before it trains:") + 1]
    assert told.startswith("  b.toml line ")
    assert "no family is named 'wann'" in told


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "x = 1\n", "is of no trainer that is known by its looks; name it with --from:"),
        ("a.toml", "x = \n", "a.toml line 1, column 5: not valid TOML"),
        ("a.json", "{", "a.json line 1, column 2: not valid JSON"),
        ("a.txt", "x", "is of no trainer"),
    ],
)
def test_what_no_trainer_wrote(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises((ConfigError, BadImport)) as caught:
        run(tmp_path / name, tmp_path / "frisket.toml")
    assert said in str(caught.value)
    assert (
        all(f"--from {each}" in str(caught.value) for each in IMPORT_FORMATS.names())
        or "line 1" in said
    )


def test_a_trainer_named_and_misnamed(theirs, tmp_path):
    with pytest.raises(UnknownPlugin, match="no such trainer, did you mean 'kohya'"):
        run(theirs / "set.toml", tmp_path / "a.toml", trainer="kohia")
    with pytest.raises(BadImport, match="there is no such file or folder"):
        run(theirs / "gone.toml", tmp_path / "a.toml")
    run(theirs / "set.toml", tmp_path / "a.toml", trainer="kohya")


def test_several_that_suit_are_told(theirs, tmp_path, monkeypatch):
    layouts = {"one": IMPORT_FORMATS.load("kohya"), "two": IMPORT_FORMATS.load("kohya")}
    monkeypatch.setattr(IMPORT_FORMATS, "names", lambda: list(layouts))
    monkeypatch.setattr(IMPORT_FORMATS, "load", layouts.__getitem__)
    with pytest.raises(ConfigError, match="may be of one or two; say which with --from"):
        run(theirs / "set.toml", tmp_path / "a.toml")


def test_secrets_and_odd_values_stay_out_of_the_file(theirs, tmp_path):
    source = theirs / "train.toml"
    source.write_text('dataset_config = "set.toml"\npretrained_model_name_or_path = "x/y"\n'
                      'huggingface_token = "hf_secret"\n'
                      'perlin_noise = "a\\u0007\\nb"\n')  # fmt: skip
    run(source, tmp_path / "a.toml")
    text = (tmp_path / "a.toml").read_text()
    assert "hf_secret" not in text
    assert "perlin_noise" in text


def test_a_value_without_a_place_here_is_named_as_the_file_has_it(theirs, tmp_path):
    source = theirs / "train.toml"
    source.write_text('dataset_config = "set.toml"\npretrained_model_name_or_path = "x/y"\n'
                      'network_module = "networks.lora_flux"\n'
                      'timestep_sampling = "sigmoid"\nsigmoid_scale = 0\n')  # fmt: skip
    with pytest.raises(ConfigError) as told:
        run(source, tmp_path / "out.toml")
    said = str(told.value)
    assert said.startswith(f"{source} line 5: sigmoid_scale = 0 has no place here: `timesteps.std`")
    assert "out.toml" not in said
    assert not list(tmp_path.glob("*.toml*"))


def test_the_page_of_options_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "reference" / "import.md"
    assert page.read_text(encoding="utf-8") == write_reference(), (
        "write it anew: frisket import --reference docs/reference/import.md"
    )


def test_the_command_and_its_help_without_torch(theirs, tmp_path):
    app = typer.Typer()
    app.command("import")(command())
    done = CliRunner().invoke(app, [str(theirs / "set.toml"), "-o", str(tmp_path / "f.toml")])
    assert done.exit_code == 0, done.output
    assert "11 options mapped" in done.output
    code = (
        "from frisket.cli.exchange.import_ import command; command();"
        "import sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

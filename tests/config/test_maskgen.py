"""[maskgen]: one table an option, read from a file, from --set and from what is typed."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_args

import pytest
import typer
from pydantic import Field
from tests.recipes.mask_runs import request
from typer.testing import CliRunner

from frisket.cli.model_options import OptionError, add_command
from frisket.config import schema
from frisket.config.command_options import option
from frisket.config.load import ConfigError, check, load, read_request
from frisket.config.maskgen import (
    MaskCleanup,
    MaskGeneration,
    MaskPeople,
    MaskRequest,
    MaskTracking,
)
from frisket.config.run_config import TRAINED, write_trained
from frisket.config.tree import Config
from frisket.maskgen.cleanup.clean import Cleaning, How
from frisket.maskgen.cleanup.instances import ChoiceKind, InstanceChoice
from frisket.maskgen.files.store import MaskStore
from frisket.maskgen.job import MaskJob, Motion, Smooth
from frisket.maskgen.tracking.tracker import Tracking
from frisket.maskgen.vision.classes import GROUPINGS
from frisket.recipes.masks.request import prepare_job
from frisket.runs.identity import read_identity

FILE = """\
[maskgen]
backends = ["draft", "clipseg"]
combine = "intersect"
brush = "brushes"
sources = { clipseg = "models/clipseg" }
thresholds = { draft = { vote = 0.4 } }
[maskgen.prompts]
phrases = "face; hair"
[maskgen.cleanup]
grow = 2.0
min_area = 0.01
"""


def call(*words: str, model: type[MaskRequest] = MaskRequest, config: type[Config] = Config):
    """The request that a command line becomes, and what is printed."""
    app, requests = typer.Typer(), []

    def make(typed) -> None:
        """Make masks."""
        requests.append(read_request(model, typed, config=config))

    add_command(app, "make", make, lambda: model)
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return (requests[0] if requests else None), result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "masks.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_without_a_file_all_is_default() -> None:
    made, _ = call("photos")
    assert made == MaskRequest(folder=Path("photos"))


def test_a_file_a_set_and_an_option_each_go_before_the_one_below(file: Path) -> None:
    words = ("photos", "--config", str(file), "--set", "maskgen.cleanup.grow=3")
    options = call(*words, "--set", "maskgen.tracking.every=7", "--every", "9")[0].maskgen
    assert options.backends == ("draft", "clipseg")
    assert options.cleanup == MaskCleanup(grow=3.0, min_area=0.01)
    assert options.tracking.every == 9
    assert options.prompts.phrases == "face; hair"


def test_an_option_typed_at_its_default_is_typed(file: Path) -> None:
    options = call("photos", "--config", str(file), "--min-area", "0.0", "-b", "draft")[0].maskgen
    assert options.cleanup.min_area == 0.0
    assert options.backends == ("draft",)


def test_tables_are_laid_over_those_of_the_file(file: Path) -> None:
    words = ("--source", "sam2=x", "--threshold", "clipseg.threshold=0.2")
    options = call("photos", "--config", str(file), *words)[0].maskgen
    assert options.sources == {"clipseg": "models/clipseg", "sam2": "x"}
    assert options.thresholds == {"draft": {"vote": 0.4}, "clipseg": {"threshold": 0.2}}


def test_paths_of_a_file_begin_at_the_file_and_those_typed_here(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "models" / "clipseg").mkdir(parents=True)
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    words = ("../photos", "--config", "../masks.toml", "--rules", "rules.toml", "--like", "a.png")
    words += ("--set", "maskgen.output=out", "--source", "draft=models/clipseg")
    made, _ = call(*words)
    options = made.maskgen
    assert made.folder == Path("../photos")
    assert options.brush == file.parent / "brushes"
    assert options.output == file.parent / "out"
    assert options.prompts.rules == Path("rules.toml")
    assert options.people.like == (Path("a.png"),)
    assert options.sources == {
        "clipseg": str(file.parent / "models" / "clipseg"),
        "draft": "models/clipseg",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--combine", "onion"), r"--combine onion: .*did you mean `union`"),
        (("--cut", "1.5"), r"--cut 1.5: `maskgen.cleanup.threshold` should be less than 1"),
        (("--set", "maskgen.cleanup.grwo=1"), r"--set .*unknown key `grwo`.*did you mean `grow`"),
        (("--near", "2,0"), r"--near 2,0: .*less than or equal to 1"),
        (("--set", "maskgen=3"), r"--set maskgen=3: `maskgen` should be a table, got 3"),
    ],
)
def test_what_is_wrong_is_named_by_where_it_was_typed(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call("photos", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--near", "middle"), "--near middle: write x,y as shares"),
        (("--threshold", "draft=1"), "as in grounding_dino.box=0.3"),
        (("--threshold", "draft.vote=x"), "as in grounding_dino.box=0.3"),
    ],
)
def test_what_cannot_be_read_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call("photos", *words)


def test_a_mistake_in_a_file_is_named_by_its_line(file: Path) -> None:
    file.write_text(FILE + "larget = true\n", encoding="utf-8")
    message = (
        "masks.toml line 12: unknown key `larget` in .maskgen.cleanup., did you mean `largest`"
    )
    with pytest.raises(ConfigError, match=message):
        call("photos", "--config", str(file))
    with pytest.raises(ConfigError, match=message):
        load(file)


def test_a_backend_that_is_not_there_is_told_before_a_run(file: Path) -> None:
    file.write_text('[maskgen]\nbackends = ["drat"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="'drat', did you mean `draft`"):
        check(load(file))


def test_how_masks_were_made_is_no_part_of_a_run(file: Path, tmp_path: Path) -> None:
    plain, with_masks = Config(), load(file)
    assert read_identity(plain, tmp_path) == read_identity(with_masks, tmp_path)
    write_trained(plain, tmp_path)
    assert "maskgen" not in (tmp_path / TRAINED).read_text()  # versions before it read the file
    write_trained(with_masks, tmp_path)
    assert load(tmp_path / TRAINED).maskgen == with_masks.maskgen


def test_defaults_and_choices_are_those_of_the_mask_generator() -> None:
    assert set(MaskCleanup.model_fields) <= {field.name for field in fields(Cleaning)}
    assert Cleaning(**MaskCleanup().model_dump()) == Cleaning()
    section = MaskTracking()
    tracking = Tracking(every=section.every, window=section.window)
    assert Motion(tracking, section.smooth, section.radius, section.gap) == Motion()
    assert MaskPeople().alike == InstanceChoice().threshold

    def choices(model, name: str) -> tuple[str, ...]:
        return get_args(model.model_fields[name].annotation)

    assert choices(MaskGeneration, "combine") == get_args(How)
    assert choices(MaskTracking, "smooth") == get_args(Smooth)
    assert choices(MaskPeople, "keep") == get_args(ChoiceKind)
    assert set(choices(MaskPeople, "parts")) == set(GROUPINGS)


# What one edit, a field of a section, comes to


class Cleanup(MaskCleanup):
    refine_eps: Annotated[float, Field(gt=0), option("--edge-noise")] = 1e-4
    """Variance below which an edge is noise."""


class Generation(MaskGeneration):
    cleanup: Cleanup = Cleanup()
    """What is done to each region's mask."""


class Request(MaskRequest):
    maskgen: Generation = Generation()


class Whole(Config):
    maskgen: Generation = Generation()


def test_a_new_field_is_an_option_a_key_a_line_of_the_reference_and_in_the_job(
    tmp_path: Path,
) -> None:
    _, text = call("--help", model=Request)
    assert "--edge-noise" in text
    assert "Variance below which an edge is noise." in text

    properties = schema.schema(Whole)["$defs"]["Cleanup"]["properties"]
    assert properties["refine_eps"]["exclusiveMinimum"] == 0
    row = "| `refine_eps` | number > 0 | `0.0001` | Variance below which an edge is noise. |"
    assert row in schema.reference(Whole)

    file = tmp_path / "masks.toml"
    file.write_text("[maskgen.cleanup]\nrefine_eps = 0.5\n", encoding="utf-8")
    for words, value in (((), 0.5), (("--edge-noise", "0.25"), 0.25)):
        made, _ = call("x", "--config", str(file), *words, model=Request, config=Whole)
        job = prepare_job(made.maskgen, [], MaskStore(tmp_path), dry=True).job
        assert job.get_cleaning("face").refine_eps == value


def test_every_option_of_one_name_reaches_the_job(tmp_path: Path) -> None:
    options = request(tmp_path, soft=True, stability=True, batch=7, brush=tmp_path).maskgen
    job = prepare_job(options, [], MaskStore(tmp_path), dry=True).job
    assert (job.soft, job.stability, job.batch, job.brush) == (True, True, 7, tmp_path)
    both = {field.name for field in fields(MaskJob)} & set(MaskGeneration.model_fields)
    assert both == {"soft", "stability", "batch", "brush", "sources", "thresholds"}

"""The models of calls: in agreement with the recipes they call, and with the config they change."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from frisket.adapters.spec import AdapterForm
from frisket.config.calls import ConvertRequest, EvaluateRequest, GenerateRequest
from frisket.config.load import read_both, read_request
from frisket.config.provenance import ConfigError
from frisket.recipes.convert import DTYPES
from frisket.recipes.evaluate import Measures


def test_defaults_and_choices_are_those_of_the_recipes() -> None:
    assert get_args(ConvertRequest.model_fields["to"].annotation) == get_args(AdapterForm)
    assert get_args(ConvertRequest.model_fields["dtype"].annotation) == ("", *DTYPES)
    request = EvaluateRequest(runs=(Path("x"),))
    names = {field.name for field in fields(Measures)}
    assert names - set(EvaluateRequest.model_fields) == {"samples"}
    assert Measures(**request.model_dump(include=names)) == Measures()


def test_what_is_typed_goes_before_the_preview_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[preview]\nprompts = ["a"]\nsteps = 9\nimages = ["b.png"]\nwidth = 64\n')
    typed = {
        ("config_option",): (file, f"--config {file}"),
        ("overrides",): (["preview.steps=8"], ""),
        ("preview", "prompts"): (["c"], "--prompt c"),
        ("preview", "width"): (32, "--width 32"),
    }
    request, config, _ = read_both(GenerateRequest, typed)
    assert request.preview == config.preview
    assert (config.preview.prompts, config.preview.steps, config.preview.width) == (("c",), 8, 32)
    assert config.preview.images == (tmp_path / "b.png",)


def test_what_is_wrong_is_named_as_it_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"--to kohja: `to` should be .*did you mean `kohya`"):
        read_request(ConvertRequest, {("to",): ("kohja", "--to kohja")})

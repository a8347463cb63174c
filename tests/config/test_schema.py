"""The shipped schema and the reference page: in date, and in agreement with what loads."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from frisket.config import schema
from frisket.config.error_messages import sections
from frisket.config.tree import Config

ROOT = Path(__file__).parents[2]


def test_the_shipped_schema_is_in_date():
    assert schema.SHIPPED.read_text(encoding="utf-8") == schema.text(), "run `make docs`"


def test_the_reference_page_is_in_date():
    page = ROOT / "docs" / "reference" / "config.md"
    assert page.read_text(encoding="utf-8") == schema.reference(), "run `make docs`"


def test_the_schema_is_one():
    Draft202012Validator.check_schema(schema.schema())


@pytest.mark.parametrize(
    "masks",
    [
        "alpha",
        "folder/of/masks",
        {"face": "masks/face", "hair": "masks/hair"},
        {"source": "folder", "path": "m", "levels": {"face": 255}, "grow": 2.5},
    ],
)
def test_every_way_to_write_masks_is_valid(masks):
    tree = {"data": [{"clips": "c", "masks": masks}], "regions": {"face": 1, "hair": 1}}
    Draft202012Validator(schema.schema()).validate(tree)
    Config.model_validate(tree)


@pytest.mark.parametrize("regions", ["person", {"preset": "person", "hat": 0.5}, {"hat": 1}])
def test_every_way_to_write_regions_is_valid(regions):
    Draft202012Validator(schema.schema()).validate({"regions": regions})
    Config.model_validate({"regions": regions})


@pytest.mark.parametrize(
    "tree",
    [{"model": {"famly": "x"}}, {"lora": {"rank": 0}}, {"swap": {"rate": 2}}, {"data": [{}]}],
)
def test_what_does_not_load_is_not_valid(tree):
    assert list(Draft202012Validator(schema.schema()).iter_errors(tree))


def test_the_defaults_are_valid():
    tree = json.loads(Config().model_dump_json(exclude_none=True))
    Draft202012Validator(schema.schema()).validate(tree)


def test_the_page_explains_every_key():
    page = schema.reference()
    for title, section in sections():
        assert f"## `{title}`" in page
        for name, field in section.model_fields.items():
            assert f"| `{name}` |" in page
            assert field.description, f"{title} {name} has no meaning written under it"

"""A config that names a manifest trains on what it lists, and every command takes it."""

import json

import numpy as np
import pytest
from PIL import Image

from frisket.config.load import ConfigError, load
from frisket.config.tree import Config
from frisket.data.records import Windows
from frisket.pocket.world import draw, random_creature
from frisket.recipes.doctor import doctor
from frisket.recipes.init.write import init
from frisket.recipes.inspect import inspect
from frisket.runs.prepare import prepare


@pytest.fixture
def manifest(tmp_path):
    """Four creatures, each mask a file a region, the last without any."""
    for number in range(4):
        picture, planes = draw(random_creature(np.random.RandomState(number)))
        (tmp_path / "far").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "far" / f"{number}.png")
        for region, plane in zip(("face", "rest"), planes.values(), strict=False):
            Image.fromarray((plane * 255).astype(np.uint8)).save(
                tmp_path / f"{number}-{region}.png"
            )
    lines = [
        {
            "image": f"far/{number}.png",
            "text": "sks",
            "mask": {"face": f"{number}-face.png", "rest": f"{number}-rest.png"},
        }
        for number in range(4)
    ]
    del lines[3]["mask"]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def write(manifest, data, regions="face = 1.0\nrest = 0.5"):
    config = manifest.with_name("frisket.toml")
    config.write_text(
        f'[model]\nfamily = "pocket"\n[[data]]\nclips = "set.jsonl"\n{data}\n[regions]\n{regions}\n'
        '[run]\noutput = "run"\ncache = "cache"\n'
    )
    return config


def test_masks_left_empty_are_those_of_the_manifest(manifest):
    config = load(write(manifest, ""))
    assert config.data[0].masks.source == "listed"
    report = prepare(config).report
    assert (report.clips, report.masked) == (3, 3)
    assert report.left == ("far/3",)
    assert set(report.coverage) == {"face", "rest"}


def test_masks_in_the_config_come_first(manifest):
    assert load(write(manifest, 'masks = "none"')).data[0].masks.source == "none"
    assert load(write(manifest, 'masks = "alpha"')).data[0].masks.source == "alpha"
    grown = load(write(manifest, "masks = { grow = 2.0, require = true }")).data[0].masks
    assert (grown.source, grown.grow, grown.require) == ("listed", 2.0, True)
    folders = load(write(manifest, 'masks = { face = "far" }')).data[0].masks
    assert folders.source == "regions"


def test_listed_needs_a_manifest(manifest):
    config = write(manifest, 'masks = "listed"')
    config.write_text(config.read_text().replace("set.jsonl", "far"))
    with pytest.raises(ConfigError, match=r'"listed" is for a \.jsonl manifest'):
        load(config)


def test_a_region_without_a_weight_is_named(manifest):
    config = load(write(manifest, "", regions="face = 1.0"))
    with pytest.raises(ValueError, match="no region is named 'rest'; there are: face"):
        prepare(config)


def test_inspect_and_doctor_take_a_manifest(manifest, tmp_path):
    config = write(manifest, "")
    findings = inspect(load(config), tmp_path / "seen")
    (missing,) = [one for one in findings if one.kind == "missing"]
    assert missing.clip == "far/3"
    assert missing.fix.startswith("Give its line a `mask`")
    assert not [each for each in doctor(config) if each.about == "clips" and each.fix]
    manifest.write_text('{"path": "gone.png"}')
    (unreadable,) = [one for one in inspect(load(config), tmp_path / "seen") if not one.clip]
    assert "line 1: `path`" in unreadable.sentence


def test_init_writes_a_config_for_a_manifest(manifest, tmp_path):
    told = init(manifest, tmp_path / "new.toml")
    assert f"masks (listed): 3 of 4, in {manifest}" in told
    config = load(tmp_path / "new.toml")
    assert config.data[0].masks.source == "listed"
    assert set(config.regions) == {"face", "rest", "background"}
    swap = config.swap.model_copy(update={"rate": 0.0})  # no backgrounds are painted for it
    assert prepare(config.model_copy(update={"swap": swap})).report.masked == 3


def test_legend_beside_the_manifest_reads_label_maps(manifest):
    labels = np.zeros((32, 32), np.uint8)
    labels[8:24, 8:24] = 1
    Image.fromarray(labels).save(manifest.with_name("labels.png"))
    manifest.write_text('{"path": "far/0.png", "mask": "labels.png"}')
    manifest.with_name("legend.json").write_text('{"face": 1, "rest": 2}')
    report = prepare(load(write(manifest, ""))).report
    assert 0 < report.coverage["face"].mean < 1


def test_references_of_a_manifest_are_taken_where_the_model_looks_at_them(manifest):
    from frisket.families.base import FAMILIES
    from frisket.runs.prepare import clipset_of, source_of

    for family, variant, taken in (("qwen_image", "edit", manifest), ("pocket", "", None)):
        tree = {"model": {"family": family, "variant": variant}, "data": [{"clips": manifest}]}
        config = Config.model_validate(tree)
        loaded = FAMILIES.load(family)
        clipset = clipset_of(config, config.data[0], loaded, source_of(config, loaded))
        assert clipset.references == taken
        assert isinstance(clipset.windows, Windows)


def test_a_legend_is_read_for_evaluation_sets_too(manifest):
    """Else their labels would be read as grey levels."""
    text = write(manifest, 'masks = "listed"').read_text()
    manifest.with_name("legend.json").write_text('{"face": 1, "rest": 2}')
    path = manifest.with_name("run.toml")
    path.write_text(text + '\n[[validation.data]]\nclips = "set.jsonl"\n')
    config = load(path)
    assert config.validation.data[0].masks.legend == {"face": 1, "rest": 2}
    assert config.data[0].masks.legend == {"face": 1, "rest": 2}

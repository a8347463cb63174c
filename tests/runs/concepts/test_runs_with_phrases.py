"""Regions with a phrase, from pictures and captions on disk through a whole run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.attention.tokens import PhrasesNotRead
from frisket.config.load import check, load
from frisket.config.provenance import ConfigError
from frisket.config.regions import weights_of
from frisket.config.run_config import TRAINED
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.families.models.pocket.family import FAMILY
from frisket.losses.weighting import Weighting, weigh
from frisket.recipes.train import train
from frisket.runs.concepts.balance import add_concepts, list_shares
from frisket.runs.concepts.refusals import check_attention, check_concepts
from frisket.runs.concepts.terms import terms_of
from frisket.runs.prepare import prepare
from frisket.runs.refusals import refusals
from frisket.runs.training_parts import make_plan

BOXES = {"fox": (slice(0, 12), slice(0, 16)), "owl": (slice(16, 32), slice(8, 32))}


def save_mask(path: Path, box: tuple[slice, slice] | None) -> None:
    mask = np.zeros((32, 32), np.uint8)
    if box is not None:
        mask[box] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; three clips with both subjects or one of them, each its own mask folder."""
    folder = tmp_path_factory.mktemp("concepts")
    FAMILY.save(FAMILY.tiny("image"), folder / "model")
    draw = np.random.RandomState(0)
    scenes = {
        "both": ("sks fox and zwx owl on a red wall", ("fox", "owl")),
        "fox": ("sks fox on a blue wall", ("fox",)),
        "more": ("a small sks fox", ("fox",)),
    }
    for name, (caption, regions) in scenes.items():
        pixels = draw.randint(0, 255, (32, 32, 3)).astype(np.uint8)
        (folder / "clips").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "clips" / f"{name}.png")
        (folder / "clips" / f"{name}.txt").write_text(caption)
        for region, box in BOXES.items():
            save_mask(folder / region / f"{name}.png", box if region in regions else None)
    return folder


def make_config(base: Path, output: Path, **sections: Any) -> Config:
    data = {
        "clips": base / "clips",
        "masks": {region: base / region for region in BOXES},
        **sections.pop("data", {}),
    }
    tree: dict[str, Any] = {
        "model": {"source": str(base / "model"), "device": "cpu"},
        "data": [data],
        "regions": {
            "fox": {"weight": 1.0, "phrase": "sks fox"},
            "owl": {"weight": 0.5, "phrase": "zwx owl"},
        },
        "losses": {"denoise": 1.0, "attention": {"strength": 0.1, "layers": ["all"]}},
        "lora": {"rank": 2},
        "run": {"output": output, "cache": base / "cache", "steps": 3, "batch": 2},
    }
    return Config.model_validate(tree | sections)


def read_steps(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]


def test_a_run_with_attention_balance_and_subsets(base: Path, tmp_path: Path) -> None:
    losses = {"attention": {"strength": 0.1, "layers": ["all"]}, "balance": "concepts"}
    data = {"subset_caption": "a photo of {phrases}", "caption_dropout": 0.2}
    config = make_config(base, tmp_path, losses=losses, data=data)
    assert not list(refusals(config))
    train(config)
    steps = read_steps(tmp_path)
    assert len(steps) == 3
    assert all(0 < step["attention"] < 0.1 for step in steps)
    assert any("loss/fox" in step for step in steps)
    written = load(tmp_path / TRAINED)
    assert written.phrases == {"fox": "sks fox", "owl": "zwx owl"}
    assert written.region_weights == {"fox": 1.0, "owl": 0.5}
    assert written.losses.terms["attention"]["layers"] == ["all"]


def test_where_no_term_asks_nothing_is_captured(base: Path, tmp_path: Path) -> None:
    config = make_config(base, tmp_path, losses={"denoise": 1.0})
    prepared = prepare(config)
    assert not prepared.phrases  # no tokenizer was asked
    sample = next(iter(Loader(prepared, batch=1, seed=0, prefetch=0).stream()))
    assert sample.phrases == ()


def test_positions_are_those_of_the_draws_caption(base: Path, tmp_path: Path) -> None:
    prepared = prepare(make_config(base, tmp_path))
    items = {item.name: item for item in prepared.items}
    both = prepared.phrases[items["both"].texts[0]]
    assert both[0]
    assert both[1]
    assert not set(both[0]) & set(both[1])
    assert prepared.phrases[items["fox"].texts[0]][1] == ()  # of no owl, in picture and caption


def test_a_subset_teaches_what_its_caption_names_and_nothing_else(
    base: Path, tmp_path: Path
) -> None:
    config = make_config(base, tmp_path, data={"subset_caption": "a photo of {phrases}"})
    prepared = prepare(config)
    (both,) = (item for item in prepared.items if item.name == "both")
    assert [subset.kept for subset in both.subsets] == [("fox",), ("owl",), ("fox", "owl")]
    loader = Loader(prepared, batch=3, seed=1, prefetch=0)
    drawn = set()
    for row in range(12):
        batch = loader.at(row)
        place = batch.names.index("both")
        flags = batch.region_flags
        taught = (True, True) if flags is None else tuple(flags[place].tolist())
        named = tuple(bool(positions) for positions in batch.phrases[place])
        assert named == taught
        drawn.add(taught)
    assert drawn == {(True, True), (True, False), (False, True)}
    captions = {subset.kept: subset.text for subset in both.subsets}
    assert len(set(captions.values())) == 3


def test_balanced_concepts_weigh_the_same_over_the_data(base: Path, tmp_path: Path) -> None:
    """What every clip's loss weighs of a concept, summed in float64."""
    for data in ({}, {"subset_caption": "{phrases}"}, {"repeats": 3, "weight": 0.5}):
        losses = {"denoise": 1.0, "balance": "concepts"}
        config = make_config(base, tmp_path, losses=losses, data=data)
        prepared = prepare(config)
        loader = Loader(prepared, batch=1, seed=0, prefetch=0)
        plan = add_concepts(config, make_plan(config), prepared, loader.schedule)
        assert plan.balance[0] < 1 < plan.balance[1]  # the owl is rarer, and of half the weight
        weighting = Weighting(
            table=weights_of(config), channels=1, concepts=plan.concepts, balance=plan.balance
        )
        sums = torch.zeros(2, dtype=torch.float64)
        both = torch.ones(1, 2, dtype=torch.bool)
        for share in list_shares(prepared, loader.schedule):
            for chance, flags in share.subsets or ((1.0, both),):
                weighed = weigh(
                    weighting,
                    share.coverage[None],
                    torch.tensor([True]),
                    torch.ones(1),
                    region_flags=flags,
                )
                for plane in plan.concepts.values():
                    inside = share.coverage[plane] > 0  # the boxes share no cell
                    cells = (weighed.weights[0, 0] * inside).double().sum()
                    sums[plane] += share.pulls * chance * cells / weighed.divisor.double()[0]
        torch.testing.assert_close(sums[0], sums[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("a fox and zwx owl", r"2 times a phrase|both: the phrase 'sks fox' is not in the prompt"),
        (
            "zwx owl and sks fox then one two three four five six",
            "the phrase 'zwx owl' is cut off",
        ),
    ],
)
def test_a_phrase_that_is_not_read_is_refused_before_anything_is_encoded(
    base: Path, tmp_path: Path, caption: str, message: str
) -> None:
    captions = tmp_path / "captions"
    captions.mkdir()
    for name in ("fox", "more"):
        (captions / f"{name}.txt").write_text("sks fox")
    (captions / "both.txt").write_text(caption)
    config = make_config(base, tmp_path / "run", data={"captions": captions})
    config = config.model_copy(
        update={"run": config.run.model_copy(update={"cache": tmp_path / "cache"})}
    )
    with pytest.raises(PhrasesNotRead, match=message):
        train(config)
    assert not list((tmp_path / "cache").glob("latents/**/*.safetensors"))


def test_a_region_that_no_mask_covers_is_refused(base: Path, tmp_path: Path) -> None:
    regions = {"fox": {"phrase": "sks fox"}, "owl": 1.0, "cat": {"phrase": "sks fox on"}}
    with pytest.raises(ConfigError, match="cat has a phrase, but no mask"):
        prepare(make_config(base, tmp_path, regions=regions, losses={}))


def refuse(config: Config) -> None:
    check_concepts(config)
    check_attention(config, {name: term for name, (term, _) in terms_of(config).items()})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"regions": {"fox": 1.0, "owl": 1.0}}, "no region has one"),
        (
            {"regions": {"fox": {"phrase": "fox"}, "owl": {"phrase": "fox"}}},
            "'fox' is the phrase of several regions",
        ),
        ({"losses": {"attention": {"strength": 1, "layers": ["mid.attn9"]}}}, "mid.attn9"),
        ({"lora": {"rank": 2, "targets": ["up_blocks.1.attentions.0.proj_out"]}}, None),
        ({"lora": {"rank": 2, "targets": ["/up_blocks.*attn2.to_v/"]}}, "moves the attention of"),
        ({"memory": {"compile": True}}, "memory.compile"),
        (
            {
                "regions": {"fox": {"phrase": "sks fox"}, "owl": 1.0},
                "losses": {"balance": "concepts"},
            },
            "there are 1",
        ),
        (
            {
                "regions": {"fox": {"phrase": "sks fox"}, "owl": 1.0},
                "losses": {"attention": {"strength": 1, "form": "overlap"}},
            },
            "tells phrases apart",
        ),
        ({"data": {"masks": "none"}}, "no .*data.* has masks"),
    ],
)
def test_what_cannot_be_steered_is_refused_before_any_work(
    base: Path, tmp_path: Path, sections: dict[str, Any], message: str | None
) -> None:
    config = make_config(base, tmp_path, **sections)
    if message is None:
        refuse(config)
        return
    with pytest.raises(ConfigError, match=message):
        refuse(config)


def test_terms_take_a_list_of_layers(base: Path, tmp_path: Path) -> None:
    term: Any = terms_of(make_config(base, tmp_path))["attention"][0]
    assert term.attention.layers == ("all",)


def test_the_example_of_the_page_is_a_configuration() -> None:
    example = Path(__file__).parents[3] / "examples" / "two-subjects.toml"
    config = load(example)
    check(config)
    refuse(config)
    assert config.phrases == {"fox": "sks fox", "owl": "zwx owl"}

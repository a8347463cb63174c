"""Variants of masks: prepared once, drawn from in training, seen by nothing else."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.data.mask_pipeline import arrange
from frisket.data.prepare import prepare

REGIONS = {"background": 0.0, "subject": 1.0}
SHRINK = {"shrink": 0.2, "variants": 4}


def prepared(folder, cache, encoders, clipset, masking=None, **more):
    return prepare([clipset(folder, masking)], cache, encoders, regions=REGIONS, **more)


def planes(made, key):
    entry = made.cache.load("coverage", key)
    return arrange(entry.tensors["planes"], entry.notes["regions"].split("\n"), made.regions)


def test_masks_stay_as_they_are_unless_asked(folder, cache, encoders, clipset):
    plain = prepared(folder, cache, encoders, clipset)
    assert not any(item.drawn for item in plain.items)
    asked = prepared(folder, cache, encoders, clipset, SHRINK)
    # What is known without variants keeps its keys: nothing is encoded or covered twice.
    assert asked.report.encoded == 0
    assert asked.report.covered == 4 * len(asked.items)
    assert [replace(item, drawn=()) for item in asked.items] == list(plain.items)
    assert asked.digest != plain.digest
    again = prepared(folder, cache, encoders, clipset, SHRINK)
    assert again.report.covered == 0
    assert again.digest == asked.digest


def test_a_variant_is_the_mask_within_a_disc(folder, cache, encoders, clipset):
    made = prepared(folder, cache, encoders, clipset, SHRINK)
    shares = []
    for item in made.items:
        whole = planes(made, item.coverage)
        assert len(set(item.drawn)) == 4
        for key in item.drawn:
            part = planes(made, key)
            assert (part <= whole + 1e-6).all()
            shares.append(float(part.sum() / whole.sum()))
    assert min(shares) < 0.5 < max(shares)


def test_a_blur_spreads_and_keeps_the_mean(folder, cache, encoders, clipset):
    made = prepared(folder, cache, encoders, clipset, {"blur": 0.2, "variants": 4})
    item = made.items[0]
    whole, *drawn = (planes(made, key) for key in (item.coverage, *item.drawn))
    assert all(float(each.mean()) == pytest.approx(float(whole.mean()), abs=0.03) for each in drawn)
    assert max(float((each - whole).abs().max()) for each in drawn) > 0.1


def test_every_batch_draws_one_and_the_same_again(folder, cache, encoders, clipset):
    made = prepared(folder, cache, encoders, clipset, SHRINK, holdout=1)
    loader = Loader(made, batch=1, seed=3, prefetch=0)
    stream = [loader.at(row) for row in range(40)]
    by_name = {item.name: item for item in made.items}
    seen = set()
    for batch in stream:
        item = by_name[batch.names[0]]
        fits = [key for key in item.drawn if torch.equal(planes(made, key), batch.coverage[0])]
        assert fits
        assert batch.masked.all()
        seen.add((item.name, fits[0]))
    assert len(seen) > 12  # of 5 clips with 4 variants each
    later = Loader(made, batch=1, seed=3, prefetch=0)
    for row in (39, 17):
        assert torch.equal(later.at(row).coverage, stream[row].coverage)
    other = Loader(made, batch=1, seed=4, prefetch=0)
    assert any(not torch.equal(other.at(row).coverage, stream[row].coverage) for row in range(9))
    # Held out clips are measured under the mask as it is.
    for item, batch in zip(made.held, loader.collate_held(), strict=True):
        assert torch.equal(batch.coverage[0], planes(made, item.coverage))


def test_a_lost_variant_is_made_again(folder, cache, encoders, clipset):
    made = prepared(folder, cache, encoders, clipset, SHRINK)
    key = made.items[0].drawn[2]
    before = planes(made, key)
    cache.path("coverage", key).unlink()
    prepared(folder, cache, encoders, clipset, SHRINK)
    assert torch.equal(planes(made, key), before)


def test_the_prior_term_sees_the_same_variant(folder, cache, encoders, clipset):
    made = prepared(folder, cache, encoders, clipset, {**SHRINK, "prior_reading": "max"})
    item = made.items[0]
    entry = made.cache.load("coverage", item.drawn[0])
    assert (entry.tensors["prior_planes"] >= entry.tensors["planes"] - 1e-6).all()


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"data": [{"clips": "a", "masks": {"source": "none", "shrink": 0.5}}]}, "has none"),
        ({"data": [{"clips": "a", "masks": {"source": "alpha", "variants": 4}}]}, "give one of"),
        (
            {
                "data": [
                    {
                        "clips": "a",
                        "masks": {"source": "alpha", "blur": 0.1},
                        "mask_role": "condition",
                    }
                ]
            },
            "does not weigh it",
        ),
        (
            {"validation": {"data": [{"clips": "a", "masks": {"source": "alpha", "shrink": 0.2}}]}},
            "measured under its masks",
        ),
    ],
)
def test_what_cannot_be_varied_is_refused(tree, said):
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(tree)

"""Tests of data/sample.py: joining samples and moving batches."""

import pytest
import torch

from frisket.data.sample import Sample, collate


def sample(words: int = 3, size: int = 4, name: str = "a", **more: object) -> Sample:
    settings = {
        "latents": torch.ones(2, 1, size, size),
        "conditioning": {
            "tokens": torch.ones(1, words, 5),
            "attention_mask": torch.ones(1, words),
            "pooled": torch.ones(1, 7),
        },
        "coverage": torch.full((3, 1, size, size), 0.5),
        "masked": True,
        "weight": 1.5,
        "name": name,
    }
    return Sample(**{**settings, **more})


def test_ragged_text_is_padded_with_unseen_zeros() -> None:
    batch = collate([sample(3), sample(5)])
    assert batch.conditioning["tokens"].shape == (2, 5, 5)
    assert batch.conditioning["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert not batch.conditioning["tokens"][0, 3:].any()
    assert batch.conditioning["pooled"].shape == (2, 7)


def test_flags_weights_and_names_keep_the_order() -> None:
    batch = collate([sample(name="a"), sample(name="b", masked=False, weight=2.0, swapped=True)])
    assert batch.names == ("a", "b")
    assert len(batch) == 2
    assert batch.masked.tolist() == [True, False]
    assert batch.swapped.tolist() == [False, True]
    assert batch.weight.tolist() == [1.5, 2.0]
    assert batch.latents.shape == (2, 2, 1, 4, 4)
    assert batch.coverage.shape == (2, 3, 1, 4, 4)


def test_shapes_are_never_mixed() -> None:
    with pytest.raises(ValueError, match=r"different latent shapes .*a, b"):
        collate([sample(size=4), sample(size=6, name="b")])


def test_conditioning_that_cannot_be_padded_names_the_clips() -> None:
    wide = sample(name="wide")
    wide.conditioning["tokens"] = torch.ones(1, 3, 9)
    with pytest.raises(ValueError, match=r"'tokens' .* a, wide"):
        collate([sample(), wide])


def test_precision_is_for_latents_and_text_and_never_for_weights() -> None:
    half = collate([sample()]).to("cpu", torch.bfloat16)
    assert half.latents.dtype == half.conditioning["tokens"].dtype == torch.bfloat16
    assert half.coverage.dtype == half.weight.dtype == torch.float32
    assert half.masked.dtype == torch.bool


def test_a_clip_without_a_prior_mask_has_an_empty_one_beside_one_that_has() -> None:
    planes = torch.full((3, 1, 4, 4), 0.25)
    batch = collate([sample(prior_coverage=planes), sample(name="b", masked=False)])
    assert batch.prior_coverage is not None
    assert torch.equal(batch.prior_coverage, torch.stack([planes, torch.zeros_like(planes)]))
    assert collate([sample(), sample(name="b")]).prior_coverage is None

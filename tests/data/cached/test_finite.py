"""NaN and infinity are refused when they are made, by name, and never taken from a cache."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.data.cached.finite import NotFinite, check_finite
from frisket.data.cached.store import Cache
from frisket.data.prepare import BadClips, prepare
from frisket.data.records import SwapPlan

TABLE = {"subject": 1.0, "background": 0.0}


def run(clipset, cache, encoders, **more):
    return prepare([clipset], cache, encoders, **{"regions": TABLE, **more})


def spoil(module, call, value=torch.nan):
    """Let the `call`-th answer of a module hold a value that is no number."""
    seen = iter(range(10**6))

    def hook(_, __, answer):
        if next(seen) == call:
            answer.flatten()[0] = value

    module.register_forward_hook(hook)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_clip_the_vae_has_no_numbers_for_is_named(folder, clipset, cache, encoders, value):
    encoders.pixels_record = {"dtype": "torch.float16"}
    spoil(encoders.vae, 2, value)
    with pytest.raises(BadClips, match="1 file cannot be used") as error:
        run(clipset(folder), cache, encoders)
    assert "c0002.png: the VAE gives NaN or infinity for it in float16 (1 of the 3072" in str(
        error.value
    )
    assert 'set model.dtype = "bfloat16" or "float32"' in str(error.value)
    assert len(list(cache.folder.glob("latents/*/*.safetensors"))) == 5  # the others are kept
    assert not list(cache.folder.glob("text/*/*.safetensors"))


def test_a_caption_the_text_encoder_has_no_numbers_for_is_named(folder, clipset, cache, encoders):
    encoders.text_record = {"dtype": "torch.float32"}
    spoil(encoders.text, 0)
    with pytest.raises(
        BadClips, match=r"caption 'sks, here, now': the text encoder gives NaN"
    ) as error:
        run(clipset(folder), cache, encoders)
    assert "get them anew" in str(error.value)


def test_a_composite_is_checked_too(folder, clipset, cache, encoders):
    from frisket.data.backgrounds import draw_backdrops

    spoil(encoders.vae, 7)
    plan = SwapPlan(draw_backdrops("flat"), variants=1)
    with pytest.raises(BadClips, match="the VAE gives NaN"):
        run(clipset(folder), cache, encoders, swap=plan)


def test_a_mask_with_nan_is_refused_before_any_encoding(folder, clipset, cache, encoders):
    values = np.zeros((32, 32), np.float32)
    values[3:9, 3:9] = np.nan
    (folder / "masks" / "c0001.png").unlink()
    Image.fromarray(values).save(folder / "masks" / "c0001.tif")
    with pytest.raises(BadClips, match=r"c0001\.tif: 36 of its 1024 pixels are no numbers"):
        run(clipset(folder), cache, encoders)
    assert encoders.encoded == 0


@pytest.mark.parametrize("kind", ["latents", "text", "coverage"])
def test_entries_of_earlier_versions_that_hold_nan_are_made_again(
    folder, clipset, cache, encoders, caplog, kind
):
    done = run(clipset(folder), cache, encoders)
    item = done.items[3]
    key = {"latents": item.latents, "text": item.texts[0], "coverage": item.coverage}[kind]
    entry = cache.load(kind, key)
    tensors = {name: each.clone() for name, each in entry.tensors.items()}
    first = sorted(name for name in tensors if tensors[name].is_floating_point())[-1]
    tensors[first].flatten()[0] = torch.nan
    Cache(cache.folder).store(kind, key, tensors, entry.notes)  # whole, as an old version wrote it
    with caplog.at_level(logging.WARNING):
        again = run(clipset(folder), cache, encoders)
    assert "holds NaN or infinity; making it again" in caplog.text
    assert again.digest == done.digest
    assert torch.equal(cache.load(kind, key).tensors[first], entry.tensors[first])


def test_numbers_of_all_types_pass():
    whole = {"ids": torch.arange(3), "mask": torch.ones(2, dtype=torch.bool), "x": torch.ones(2)}
    check_finite(whole, "VAE", {})
    check_finite({"x": torch.full((2,), 65504.0, dtype=torch.float16)}, "VAE", {})
    with pytest.raises(NotFinite, match="2 of the 3 values of 'x'"):
        check_finite({**whole, "x": torch.tensor([1, torch.nan, torch.inf])}, "VAE", {})

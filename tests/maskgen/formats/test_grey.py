"""Layouts that know weights only: what is baked in, where it goes, and what is never touched."""

import pytest
import torch
from PIL import Image

from frisket.maskgen.format_base import BadExchange, Masked, bake_weights
from frisket.maskgen.formats.alpha import EXCHANGE as ALPHA
from frisket.maskgen.formats.kohya import EXCHANGE as KOHYA
from frisket.maskgen.formats.onetrainer import EXCHANGE as ONETRAINER
from frisket.media.files import find
from frisket.media.frames import probe, stream


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "clips").mkdir()
    Image.linear_gradient("L").resize((8, 6)).convert("RGB").save(tmp_path / "clips" / "a.b.png")
    return probe(tmp_path / "clips" / "a.b.png")


def halves(clip):
    left = torch.zeros(clip.height, clip.width)
    left[:, :4] = 1
    return {"face": left, "hair": (1 - left) / 2}


def test_weights_are_baked_as_training_lays_them(clip):
    grey = bake_weights(halves(clip), {"face": 1.0, "hair": 0.4, "background": 0.4}, clip)
    assert (grey[:, :4] == 255).all()
    assert (grey[:, 4:] == round(255 * (0.5 * 0.4 + 0.5 * 0.4))).all()


def test_weights_above_one_shrink_all_alike(clip):
    grey = bake_weights(halves(clip), {"face": 2.0, "hair": 1.0}, clip)
    assert (grey[:, :4] == 255).all()
    assert (grey[:, 4:] == 64).all()


def test_a_region_without_a_weight_is_refused(clip):
    with pytest.raises(ValueError, match="weights: 'hair' has none; there are: face"):
        bake_weights(halves(clip), {"face": 1.0}, clip)


def test_a_region_that_is_not_there_counts_for_nothing(clip):
    grey = bake_weights({}, {"face": 1.0, "background": 0.5}, clip)
    assert (grey == 128).all()


def test_onetrainer_masks_lie_beside_and_frisket_finds_them(clip):
    folder = clip.path.parent
    item = Masked("a.b", clip, [halves(clip)])
    (path,) = ONETRAINER.write(folder, [item], {"face": 1.0, "hair": 0.4})
    assert path.name == "a.b-masklabel.png"
    (found,) = find(folder, masks="sidecar", folders={}).clips
    assert found.masks == {"": path}


def test_alpha_keeps_the_colours_under_the_mask(clip, tmp_path):
    item = Masked("a.b", clip, [halves(clip)])
    (path,) = ALPHA.write(tmp_path / "out", [item], {"face": 1.0, "hair": 0.0})
    with Image.open(path) as image, Image.open(clip.path) as picture:
        assert image.mode == "RGBA"
        assert image.convert("RGB").tobytes() == picture.tobytes()
    (alpha,) = stream(path, "alpha")
    assert torch.equal(alpha, halves(clip)["face"])


def test_alpha_never_writes_among_the_clips(clip):
    before = clip.path.read_bytes()
    item = Masked("a.b", clip, [halves(clip)])
    with pytest.raises(BadExchange, match=r"would lie among the clips"):
        list(ALPHA.write(clip.path.parent, [item], {"face": 1.0, "hair": 1.0}, overwrite=True))
    assert clip.path.read_bytes() == before


def test_a_video_that_breaks_midway_leaves_no_mask(clip, tmp_path):
    from dataclasses import replace

    def frames():
        yield halves(clip)
        raise RuntimeError("out of frames")

    video = replace(clip, video=True, frames=2)
    with pytest.raises(RuntimeError, match="out of frames"):
        list(
            KOHYA.write(
                tmp_path / "out", [Masked("a.b", video, frames())], {"face": 1.0, "hair": 1.0}
            )
        )
    assert not list((tmp_path / "out").iterdir())

"""What every layout of another tool promises, whichever it is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.maskgen.format_base import (
    EXCHANGES,
    GREY,
    BadExchange,
    Exchange,
    Masked,
    RegionMasks,
    bake_weights,
)
from frisket.media.frames import probe, write_video

WEIGHTS = {"face": 1.0, "hair": 0.3, "hands": 0.5, "background": 0.1}
NAMES = ("a", "take.1", "sub/deep er/é ü")
SIZE = (40, 56)


def discs(shift: int = 0) -> RegionMasks:
    """A face, a ring of hair around it, and no hands."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    away = np.hypot(y - 20, x - 24 - shift)
    face, hair = away < 9, (away >= 9) & (away < 14)
    return {name: torch.from_numpy(bits).float() for name, bits in (("face", face), ("hair", hair))}


@pytest.fixture(params=EXCHANGES.names())
def exchange(request: pytest.FixtureRequest) -> Exchange:
    return EXCHANGES.load(request.param)


@pytest.fixture
def clips(tmp_path) -> Path:
    for name in NAMES:
        path = tmp_path / "clips" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1], (200, 30, 60)).save(path)
    return tmp_path / "clips"


def items(clips: Path) -> Iterator[Masked]:
    for shift, name in enumerate(NAMES):
        yield Masked(name, probe(clips / f"{name}.jpg"), iter([discs(shift)]))


def test_it_says_what_it_is_and_what_it_loses(exchange):
    assert exchange.summary
    assert "\n" not in exchange.summary
    assert exchange.lossy.endswith(".")


def test_pictures_come_back_as_they_went(exchange, tmp_path, clips):
    written = list(exchange.write(tmp_path / "out", items(clips), WEIGHTS))
    assert written
    assert all(path.is_file() for path in written)
    found = {one.name: one for one in exchange.read(tmp_path / "out", clips)}
    assert set(found) == set(NAMES)
    for shift, name in enumerate(NAMES):
        (frame,) = found[name].frames
        wanted = discs(shift)
        if exchange.grey:
            levels = bake_weights(wanted, WEIGHTS, found[name].clip)
            assert torch.equal(frame[GREY], levels / 255)
        else:
            assert set(frame) == set(wanted)
            assert all(torch.equal(frame[region], wanted[region]) for region in wanted)


def test_a_picture_without_any_region_is_no_error(exchange, tmp_path, clips):
    nothing = {name: torch.zeros(SIZE) for name in ("face", "hair")}
    item = Masked("a", probe(clips / "a.jpg"), [nothing])
    list(exchange.write(tmp_path / "out", [item], WEIGHTS))
    (back,) = exchange.read(tmp_path / "out", clips)
    (frame,) = back.frames
    assert all((plane == plane.flatten()[0]).all() for plane in frame.values())


def test_what_is_there_is_kept_unless_asked(exchange, tmp_path, clips):
    out = tmp_path / "out"
    list(exchange.write(out, items(clips), WEIGHTS))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(BadExchange, match="is there already, perhaps painted by hand"):
        list(exchange.write(out, items(clips), WEIGHTS))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert list(exchange.write(out, items(clips), WEIGHTS, overwrite=True))


def test_a_video_comes_back_or_is_refused_by_name(exchange, tmp_path):
    clips = tmp_path / "clips"
    pixels = torch.zeros(3, *SIZE, 3, dtype=torch.uint8)
    write_video(clips / "walk.mkv", pixels, 16, lossless=True)
    item = Masked("walk", probe(clips / "walk.mkv"), map(discs, range(3)))
    out = tmp_path / "out"
    if not exchange.video:
        with pytest.raises(BadExchange, match=r"walk\.mkv: .* takes no masks of videos"):
            list(exchange.write(out, [item], WEIGHTS))
        assert not [path for path in out.rglob("*") if path.is_file()]
        return
    list(exchange.write(out, [item], WEIGHTS))
    (back,) = exchange.read(out, clips)
    for shift, frame in enumerate(back.frames):
        assert torch.equal(frame[GREY], bake_weights(discs(shift), WEIGHTS, item.clip) / 255)


def test_masks_of_another_size_are_refused(exchange, tmp_path, clips):
    list(exchange.write(tmp_path / "out", items(clips), WEIGHTS))
    Image.new("RGB", (20, 30)).save(clips / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg.*20 x 30"):
        [list(one.frames) for one in exchange.read(tmp_path / "out", clips)]


def test_masks_of_other_clips_are_refused(exchange, tmp_path, clips):
    list(exchange.write(tmp_path / "out", items(clips), WEIGHTS))
    other = tmp_path / "others"
    other.mkdir()
    Image.new("RGB", SIZE[::-1]).save(other / "b.jpg")
    with pytest.raises(ValueError, match=r"'b'|b-masklabel"):
        list(exchange.read(tmp_path / "out", other))

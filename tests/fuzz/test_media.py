"""Damaged pictures, masks, videos and lists: they are read, or refused with their name."""

from pathlib import Path

import pytest
from tests.fuzz.mutate import cuts, damage, damage_value, outcome, tried, written

from frisket.masks.read import read
from frisket.media.captions import BadCaption, read_captions
from frisket.media.files import find
from frisket.media.frames import (
    decode,
    decode_alpha,
    decode_grey,
    decode_index,
    probe,
    stream,
    try_decoding,
)
from frisket.media.paths import BadMedia

QUICK = pytest.param(range(60), id="quick")


def slow(start, count=2000, parts=1):
    """`count` seeds, in parts that take minutes at most."""
    step = count // parts
    return [
        pytest.param(range(place, place + step), id=f"{place}", marks=pytest.mark.slow)
        for place in range(start, start + count, step)
    ]


def look(path):
    """A clip as inspect, prepare and the mask maker read it."""
    media = probe(path)
    decode(path, [0, media.frames - 1])
    try_decoding(path, range(media.frames))
    for _ in stream(path):
        pass


def look_at_mask(path, rng):
    clip = probe(path)
    options = rng.choice(
        (
            {"regions": ["subject"]},
            {"regions": ["subject"], "invert": True},
            {"regions": ["face", "hair"], "levels": {"face": 100, "hair": 200}},
            {"regions": ["face"], "legend": {"face": 1}},
            {"regions": ["face"], "legend": {"face": (250, 0, 0)}},
        )
    )
    read({"": path}, clip=clip, alpha=False, picks=(0,), **options)


LARGEST = 300.0  # seconds for what is just within the limit of pixels


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=2)])
def test_damaged_pictures(seeds, pictures, tmp_path):
    def run(rng):
        name = rng.choice(sorted(pictures))
        path = tmp_path / name
        path.write_bytes(damage(pictures[name], rng))
        look(path)

    # A damaged header may well say 200 million pixels, five times over: slow, and no hang.
    counts = tried(seeds, run, allowed=BadMedia, seconds=LARGEST)
    assert all(counts.values())  # some of either outcome


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=2)])
def test_damaged_masks(seeds, pictures, tmp_path):
    def run(rng):
        name = rng.choice(sorted(pictures))
        path = tmp_path / name
        path.write_bytes(damage(pictures[name], rng, most=3))
        try:
            look_at_mask(path, rng)
        finally:
            for reader in (decode_grey, decode_alpha, decode_index):
                outcome(name, lambda reader=reader: reader(path, [0]), allowed=BadMedia)

    tried(seeds, run, allowed=BadMedia, seconds=LARGEST)


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=4)])
def test_damaged_videos(seeds, films, tmp_path):
    def run(rng):
        name = rng.choice(sorted(films))
        path = tmp_path / name
        path.write_bytes(damage(films[name], rng))
        if rng.random() < 0.3:
            look_at_mask(path, rng)
        else:
            look(path)

    assert all(tried(seeds, run, allowed=BadMedia).values())


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_files_cut_short(count, pictures, films, tmp_path):
    for name, whole in (pictures | films).items():
        path = tmp_path / name
        for part in cuts(whole, count):
            path.write_bytes(part)
            outcome(f"{name}[:{len(part)}]", lambda path=path: look(path), allowed=BadMedia)


def test_every_cut_of_an_animated_gif(pictures, tmp_path):
    path = tmp_path / "a.gif"
    for part in cuts(pictures["moving.gif"], 250):
        path.write_bytes(part)
        outcome(len(part), lambda: look(path), allowed=BadMedia)


LINES = [
    {"path": "a.png", "name": "x/a", "caption": "a\nb", "mask": "m.png", "references": ["r.png"]},
    {"image": "b.png", "text": "two words", "mask": {"face": "m.png", "hair": None}},
    {"file_name": "c d.png", "prompt": "", "references": "r.png", "width": 3},
]


@pytest.fixture
def listed(tmp_path) -> Path:
    for name in ("a.png", "b.png", "c d.png", "m.png", "r.png"):
        (tmp_path / name).touch()
    return tmp_path


def lines_of(lines, rng) -> bytes:
    """Lines of JSON, first damaged as values, then as bytes."""
    lines = damage_value(lines, rng) if rng.random() < 0.7 else lines
    lines = lines if isinstance(lines, list) else [lines]
    content = b"\n".join(written(each, rng) for each in lines)
    return damage(content, rng, 3) if rng.random() < 0.6 else content


@pytest.mark.parametrize("seeds", [QUICK, *slow(100)])
def test_damaged_manifests(seeds, listed):
    manifest = listed / "set.jsonl"

    def run(rng):
        manifest.write_bytes(lines_of(LINES, rng))
        find(manifest, masks="listed", folders={})

    assert all(tried(seeds, run).values())


@pytest.mark.parametrize("seeds", [QUICK, *slow(100)])
def test_damaged_captions(seeds, listed):
    clips = {name: listed / f"{name}.png" for name in ("a", "b")}
    told = [{"file_name": "a.png", "text": "one"}, {"path": "b", "caption": "two"}]
    whole = "one: a person\nwearing “red” ü".encode()

    def run(rng):
        if rng.random() < 0.5:
            source = listed / "captions.jsonl"
            source.write_bytes(lines_of(told, rng))
        else:
            source = None
            text = rng.choice((whole, whole.decode().encode("utf-16"), b"\xff\xfe" + whole[:9]))
            (listed / "a.txt").write_bytes(damage(text, rng, 3))
        read_captions(clips, listed, source)

    assert all(tried(seeds, run, allowed=BadCaption).values())

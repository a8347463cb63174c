"""The identity benchmark: its pictures, its scores on drawn faces, its tables and claims."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.effects.cells import run_cell
from benchmarks.identity import people, reading, samples, tables
from benchmarks.identity.adapters import FAMILY, train_adapter, wear_adapter
from benchmarks.identity.rows import Bench, list_jobs

from frisket.families.base import Parts, Source

NOTHING = np.zeros((1, 32, 32, 3), np.uint8)


def draw_asks(count: int) -> tuple[list[samples.Ask], np.ndarray, np.ndarray]:
    asks = samples.list_asks(0, people.HELD_OUT, count)
    drawn = [samples.draw_ask(ask).draw() for ask in asks]
    return asks, people.stack_pictures(drawn), np.stack([each.keypoints for each in drawn])


def put_cell(out: Path, part: str, name: str, seed: int, **scores: float) -> None:
    full = dict.fromkeys(("identity", "right", "text", "background", "looks", "points"), 0.5)
    full |= {"inside": 1.0, "outside": 1.0, **scores}
    run_cell(out, part, name, seed, (), lambda: (full, NOTHING))


def test_drawn_pictures_of_the_right_people_score_highly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CROWD", samples.CROWD[:12])
    samples.centre_crowd.cache_clear()
    asks, pictures, points = draw_asks(2)
    scores = samples.score_pictures(reading.Reader().eval(), pictures, asks, points)
    assert scores["identity"] > 0.85
    assert scores["right"] > 0.9
    assert scores["background"] > 0.9
    strangers = asks[2:] + asks[:2]
    wrong = samples.score_pictures(reading.Reader().eval(), pictures, strangers, points)
    assert wrong["identity"] < 0.5
    assert wrong["background"] < 0.5
    samples.centre_crowd.cache_clear()


def test_nobody_is_in_two_sets() -> None:
    crowds = (people.TRAINED, people.HELD_OUT, reading.READERS, samples.CROWD[6:], range(600))
    seeds = [seed for crowd in crowds for seed in crowd]
    assert len(seeds) == len(set(seeds))
    assert samples.CROWD[:6] == tuple(people.HELD_OUT)


def test_seeds_ask_for_other_pictures_and_rows_for_the_same() -> None:
    first, again, other = (samples.list_asks(seed, people.HELD_OUT) for seed in (0, 0, 1))
    assert first == again
    noises = [ask.seed for ask in first + other]
    assert len(set(noises)) == len(noises)
    assert "looking" in first[0].write()
    assert first[0].write("sks", looks=False) == f"sks on {first[0].background.words}"


def test_a_corpus_on_disk_has_masks_of_its_faces(tmp_path: Path) -> None:
    portraits = people.list_corpus(range(50_000, 50_002), views=2)
    people.write_portraits(tmp_path, portraits)
    assert len(list((tmp_path / "clips").glob("*.png"))) == 4
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    caption = (tmp_path / "clips" / "00003.txt").read_text(encoding="utf-8")
    assert caption.strip() == portraits[3].caption
    assert all(portrait.view.yaw > 0.2 for portrait in portraits if portrait.looks == "right")


def test_change_is_told_inside_and_outside_the_region() -> None:
    region = samples.draw_region()
    before = np.zeros((2, 32, 32, 3), np.uint8)
    after = before + (region[..., None] * 40).astype(np.uint8)
    assert samples.measure_change(after, before, region) == {"inside": 40.0, "outside": 0.0}


def test_claims_are_told_from_means_over_seeds(tmp_path: Path) -> None:
    for seed in range(2):
        put_cell(tmp_path, "scale", "0", seed, identity=0.1, text=0.9)
        put_cell(tmp_path, "scale", "1", seed, identity=0.5 + 0.1 * seed)
        put_cell(tmp_path, "scale", "3", seed, text=0.4)
        put_cell(tmp_path, "scale", "2", seed, text=0.4)
        put_cell(tmp_path, "rescaled", "2", seed, text=0.5)
        put_cell(tmp_path, "guidance", "3-3", seed, identity=0.5, text=0.5)
        put_cell(tmp_path, "guidance", "5-3", seed, identity=0.6, text=0.46)
        put_cell(tmp_path, "guidance", "1-3", seed, identity=0.9, text=0.9)
        put_cell(tmp_path, "taught", "start", seed, identity=0.1, points=8.0)
        put_cell(tmp_path, "taught", "taught", seed, identity=0.3, points=3.0 + seed)
    text = tables.build(tmp_path, [0, 1])
    assert "Claim 1 holds: identity +0.450 from 0 to 1, text -0.500 from 0 to 3." in text
    assert "Claim 2 holds: text +0.100" in text
    assert "Claim 3 holds: 5-3 (+0.100, -0.040) against 3-3." in text
    assert "Claim 8 holds: 3.50 % of the side against 8.00 %, identity +0.200." in text
    assert "| `1` | 0.550 (0.500 to 0.600)" in text
    assert text.count("Not run.") == 5


def load_packaged() -> Parts:
    source = Source("image")
    denoiser = FAMILY.load_denoiser(source)
    return Parts("image", FAMILY.load_vae(source), FAMILY.load_text(source), denoiser)


@pytest.mark.slow
def test_one_row_runs_from_the_adapter_to_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = load_packaged()
    corpus = people.list_corpus(range(50_000, 50_004))
    monkeypatch.setattr("benchmarks.identity.adapters.list_corpus", lambda: corpus)
    train_adapter(tmp_path / "adapters" / "faceid-0.safetensors", parts, 0, steps=2)
    bench = Bench(tmp_path, parts, reading.Reader().eval())
    jobs = {(part, name): work for part, name, _, work in list_jobs(bench, [0])}
    cells = [jobs[key]() for key in (("scale", "0"), ("scale", "1"), ("region", "strict"))]
    assert cells[2].scores["outside"] < cells[2].scores["inside"]
    assert jobs["scale", "1"]() == cells[1]


@pytest.mark.slow
def test_a_worn_adapter_at_scale_zero_is_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = load_packaged()
    corpus = people.list_corpus(range(50_000, 50_002))
    monkeypatch.setattr("benchmarks.identity.adapters.list_corpus", lambda: corpus)
    path = tmp_path / "adapter.safetensors"
    train_adapter(path, parts, 0, steps=1)
    asks = samples.list_asks(0, people.HELD_OUT[:1], 1)
    faces = samples.stack_references(asks)
    prompts = [ask.write() for ask in asks]
    pictures = [
        samples.sample_pictures(parts, asks, prompts, method, steps=1)
        for method in (
            None,
            *(wear_adapter(path, parts.denoiser, faces, scale=s) for s in (0.0, 1.0)),
        )
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert torch.allclose(faces.norm(dim=-1), torch.ones(1))

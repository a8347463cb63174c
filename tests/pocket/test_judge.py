"""The judge names ground truth, survives noise, and is not fooled by wrong captions."""

import cv2
import numpy as np
import pytest

from frisket.pocket.judge import (
    MATCH_DB,
    correct,
    find_creature,
    judge,
    judge_creature,
    leak,
    measure_backgrounds,
)
from frisket.pocket.world import (
    ZIGZAG,
    Background,
    Scene,
    draw,
    draw_background,
    frames_of,
    random_background,
    random_creature,
    random_scene,
)


def pictures_of(scenes: list[Scene], size: int = 32) -> np.ndarray:
    return np.stack([draw(scene, size)[0] for scene in scenes])


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.RandomState(4)
    return [random_scene(rng) for _ in range(100)]


@pytest.fixture(scope="module")
def creatures() -> list[Scene]:
    rng = np.random.RandomState(5)
    return [random_creature(rng, random_background(rng)) for _ in range(48)]


def test_names_what_is_there(scenes: list[Scene]) -> None:
    pictures = pictures_of(scenes)
    share = correct(judge(pictures), scenes)
    assert min(share["shape"], share["colour"], share["background"]) >= 0.99, share


def test_survives_noise_and_blur(scenes: list[Scene]) -> None:
    blurred = np.stack([cv2.GaussianBlur(p, (0, 0), 0.5) for p in pictures_of(scenes)])
    noise = np.random.RandomState(6).normal(0, 12, blurred.shape)
    noisy = (blurred + noise).round().clip(0, 255).astype(np.uint8)
    assert min(correct(judge(noisy), scenes).values()) >= 0.95


def test_is_at_chance_on_wrong_captions(scenes: list[Scene]) -> None:
    share = correct(judge(pictures_of(scenes)), scenes[1:] + scenes[:1])
    assert share["shape"] < 0.3
    assert share["colour"] < 0.3
    assert share["background"] < 0.06
    assert share["all"] < 0.02


def test_reads_multiples_of_the_raster(scenes: list[Scene]) -> None:
    share = correct(judge(pictures_of(scenes[:40], 64)), scenes[:40])
    assert min(share.values()) >= 0.97, share


def test_follows_a_moving_subject() -> None:
    rng = np.random.RandomState(7)
    still = random_scene(rng)
    clip = [
        frame
        for motion in ("rising", "rightward")
        for frame in frames_of(
            Scene(still.background, still.shape, still.colour, 14.0, 17.0, 8.0, motion), 5
        )
    ]
    assert correct(judge(pictures_of(clip)), clip)["all"] == 1.0


def test_an_empty_scene_has_no_shape() -> None:
    rng = np.random.RandomState(8)
    empty = [random_scene(rng, empty=1.0) for _ in range(60)]
    assert correct(judge(pictures_of(empty)), empty)["all"] == 1.0


def test_noise_has_neither_shape_nor_background() -> None:
    noise = np.random.RandomState(9).randint(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    for verdict in judge(noise):
        assert verdict.background is None
        assert verdict.shape == ""


def test_does_not_take_a_pattern_colour_for_a_shape() -> None:
    scene = Scene(Background("dots", "red", "blue"), "circle", "white", 16.0, 16.0, 8.0)
    verdict = judge(pictures_of([scene]))[0]
    assert (verdict.shape, verdict.colour) == ("circle", "white")
    assert verdict.background == scene.background


def test_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n \* 32 pixels, got 40 x 40"):
        judge(np.zeros((1, 40, 40, 3), np.uint8))


def test_unequal_lengths_are_refused(scenes: list[Scene]) -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        correct(judge(pictures_of(scenes[:2])), scenes[:3])


def test_finds_the_creature_and_nothing_else(scenes: list[Scene], creatures: list[Scene]) -> None:
    psnr, masks = find_creature(pictures_of(creatures))
    assert psnr.min() > MATCH_DB + 3
    truth = np.stack([np.clip(sum(draw(s)[1].values()), 0, 1) for s in creatures]) > 0.5
    overlap = (truth & (masks > 0.5)).sum((1, 2)) / (truth | (masks > 0.5)).sum((1, 2))
    assert overlap.min() > 0.75
    assert find_creature(pictures_of(scenes))[0].max() < MATCH_DB


def test_found_needs_subject_and_background(creatures: list[Scene]) -> None:
    pictures, asked = pictures_of(creatures), [scene.background for scene in creatures]
    right = judge_creature(pictures, asked)
    assert all(row.all() for row in right.values())
    swapped = asked[1:] + asked[:1]
    wrong = judge_creature(pictures, swapped)
    assert wrong["subject"].all()
    assert wrong["found"].mean() < 0.2
    assert wrong["strict"].tolist() == [a == b for a, b in zip(asked, swapped, strict=True)]
    bare = judge_creature(np.stack([draw_background(b) for b in asked]), asked)
    assert not bare["found"].any()


def test_strict_tells_patterns_of_the_same_colours_apart() -> None:
    stripes, checks = (Background(name, "red", "blue") for name in ("stripes", "checks"))
    picture = pictures_of([Scene(stripes, "sks", "", 16.0, 16.0, 8.5)])
    assert judge_creature(picture, [checks])["found"].all()
    assert not judge_creature(picture, [checks])["strict"].any()
    shares = measure_backgrounds(picture, find_creature(picture)[1], [stripes])
    assert shares["pattern"] == pytest.approx(1, abs=0.03)


def test_leak_is_the_share_of_novel_colours_outside(creatures: list[Scene]) -> None:
    rng = np.random.RandomState(10)
    leaked = leak(pictures_of([random_creature(rng) for _ in range(16)]))
    assert leaked.min() > 0.9
    assert leak(pictures_of(creatures)).max() < 0.03
    half = draw_background(ZIGZAG)
    half[:, 16:] = draw_background(Background("wall", "blue", "blue"))[:, 16:]
    assert leak(half[None])[0] == pytest.approx(0.5)

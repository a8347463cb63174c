"""Sheets show what they are given: regions in their colours, weights as heat, frames in time."""

import numpy as np
import pytest
from PIL import Image

from frisket.evaluation.contact_sheet import (
    CARD,
    HEAT,
    PANEL,
    REGION_COLOURS,
    Card,
    contact_sheet,
    draw_heat,
    draw_overlay,
    draw_panels,
    fit_picture,
)


def grey(frames: int = 1, high: int = 32, wide: int = 32, level: int = 128) -> np.ndarray:
    return np.full((frames, high, wide, 3), level, np.uint8)


def half(frames: int = 1, side: int = 32) -> np.ndarray:
    plane = np.zeros((frames, side, side), np.float32)
    plane[:, :, : side // 2] = 1
    return plane


def test_overlay_tints_regions_and_dims_the_rest() -> None:
    frame = grey()[0]
    left = half()[0]
    laid = draw_overlay(frame, {"a": left, "b": 1 - left}).astype(int)
    for column, colour in ((4, REGION_COLOURS[0]), (28, REGION_COLOURS[1])):
        toward = np.sign(np.array(colour) - 128)
        assert (np.sign(laid[16, column] - 128) == toward).all()
    assert tuple(laid[16, 15]) == REGION_COLOURS[0]  # the border is drawn full
    dimmed = draw_overlay(frame, {"a": left})
    assert dimmed[16, 28].max() < 100


def test_overlay_without_regions_is_dim_everywhere() -> None:
    assert draw_overlay(grey()[0], {}).max() < 100


def test_heat_rises_in_brightness_with_weight() -> None:
    ramp = np.linspace(0, 2, 50, dtype=np.float32)[None]
    shown = draw_heat(ramp)
    bright = shown.astype(int) @ [299, 587, 114]
    assert (np.diff(bright[0]) >= 0).all()
    assert (shown[0, 0] == HEAT[0]).all()
    assert (shown[0, -1] == HEAT[-1]).all()
    assert (draw_heat(np.zeros((3, 3), np.float32)) == HEAT[0]).all()
    # Half of the top is the middle colour, whatever the top is.
    assert (draw_heat(np.full((1, 1), 2, np.float32), 4.0)[0, 0] == HEAT[2]).all()


def test_small_pictures_keep_hard_pixels_and_large_ones_fit() -> None:
    noise = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        np.asarray(fit_picture(noise, 256, 256)), noise.repeat(8, 0).repeat(8, 1)
    )
    assert fit_picture(grey(1, 512, 1024)[0], 256, 256).size == (256, 128)
    assert fit_picture(grey(1, 3, 4000)[0], 256, 256).size == (256, 1)


def test_the_weights_panel_shows_the_latent_frame_of_the_middle() -> None:
    weights = np.zeros((3, 4, 4), np.float32)
    weights[1] = 1  # frames 1 to 4 of 9; the middle one is 4
    card = Card("a", grey(9), {"s": half(9)}, weights, {"s": 0.5})
    shown = np.asarray(draw_panels(card)["weights"])
    assert (shown == HEAT[-1]).all()
    few = Card("a", grey(3), {"s": half(3)}, weights, {"s": 0.5}, at=(0, 5, 8), length=9)
    assert (np.asarray(draw_panels(few)["weights"]) == HEAT[0]).all()


def test_weak_weights_look_weak() -> None:
    weights = np.full((1, 4, 4), 0.25, np.float32)
    shown = np.asarray(draw_panels(Card("a", grey(), {"s": half()}, weights))["weights"])
    assert (shown == HEAT[1]).all()


def test_panels_of_an_unmasked_image_are_the_clip_alone() -> None:
    assert set(draw_panels(Card("a", grey()))) == {"clip"}
    assert set(draw_panels(Card("a", grey(5), {"s": half(5)}))) == {"clip", "regions", "strip"}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sheet_holds_every_card(count: int) -> None:
    card = Card(
        "x" * 200, grey(1, 40, 90), {"s": np.ones((1, 40, 90), np.float32)}, None, {"s": 1.0}
    )
    sheet = contact_sheet([card] * count, title="all")
    assert isinstance(sheet, Image.Image)
    assert sheet.width >= min(count, 2) * 3 * PANEL
    assert (np.asarray(sheet) == CARD).all(-1).mean() > 0.2


def test_notes_make_a_card_taller() -> None:
    plain, told = (
        contact_sheet([Card("a", grey(), notes=notes)], title="t")
        for notes in ((), ("something is wrong here " * 20,))
    )
    assert told.height > plain.height + 40


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="no clip to show"):
        contact_sheet([], title="none")


def test_a_card_is_shown_at_its_focus_and_its_strip_holds_every_pick() -> None:
    frames = np.stack([grey(level=20 * number)[0] for number in range(9)])
    card = Card("a", frames, at=tuple(range(0, 90, 10)), length=81, focus=2)
    shown = draw_panels(card)
    assert (np.asarray(shown["clip"]) == 40).all()
    row = np.asarray(shown["strip"])[shown["strip"].height // 2, :, 0]
    assert {0, 20, 60, 80, 100, 120, 140, 160} <= set(row.tolist())


def test_chips_of_many_regions_take_as_many_lines_as_they_need() -> None:
    names = [f"region number {number}" for number in range(12)]
    planes = {name: np.zeros((1, 32, 32), np.float32) for name in names}
    few, many = (
        contact_sheet(
            [Card("a", grey(), planes, coverage={name: 0.05 for name in names[:count]})],
            title="t",
            shown=("clip", "regions"),
        )
        for count in (2, 12)
    )
    assert many.width == few.width < 3 * PANEL
    assert many.height >= few.height + 40

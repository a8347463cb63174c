"""What of other trainers' masked losses is not reproduced, each by name and number."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.losses.scenes import scene_of
from torch import Tensor
from torch.nn import functional

from frisket.losses.compat import COMPATS
from frisket.media.geometry import Geometry

PEERS = Path(__file__).parent / "peers"
RECORDS = {name: json.loads((PEERS / f"{name}.json").read_text("utf-8")) for name in COMPATS}
DEPARTS = [
    (name, text)
    for name, record in RECORDS.items()
    for text in sorted({case.get("departs", "") for case in record["cases"]} - {""})
]


def ours_of(bench: Any, trainer: str, case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    config = bench.config_of(trainer, **json.loads(json.dumps(case["sections"])))
    result: tuple[Tensor, Tensor] = bench.ours(config, scene_of(**case["scene"]))
    return result


@pytest.mark.parametrize(("trainer", "text"), DEPARTS)
def test_where_a_trainer_departs_its_own_code_gives_another_loss_and_the_log_says_why(
    bench: Any, trainer: str, text: str
) -> None:
    assert any(text in each.message for each in COMPATS[trainer].departures)
    far = 0.0
    for case in RECORDS[trainer]["cases"]:
        if case.get("departs") == text:
            _, gradient = ours_of(bench, trainer, case)
            theirs = torch.tensor(case["gradient"]).view_as(gradient)
            far = max(far, float((gradient - theirs).abs().max() / theirs.abs().max()))
    assert far > 0.3


@pytest.mark.parametrize(("trainer", "why"), [("onetrainer", "nan"), ("ai-toolkit", "nan"),
                                              ("blissful", "raises")])  # fmt: skip
def test_where_the_trainers_own_code_gives_nan_or_stops_ours_is_finite(
    bench: Any, trainer: str, why: str
) -> None:
    cases = [case for case in RECORDS[trainer]["cases"] if why in case]
    assert cases
    for case in cases:
        value, gradient = ours_of(bench, trainer, case)
        assert value.isfinite()
        assert gradient.isfinite().all()
        if set(case["scene"]["kinds"]) == {"empty"} and "floor" not in case["theirs"]:
            assert value == 0


def test_simpletuners_own_code_stops_at_video(bench: Any) -> None:
    cases = [case for case in RECORDS["simpletuner"]["cases"] if case["scene"]["frames"] > 1]
    assert cases
    for case in cases:
        assert "spatial dimensions" in case["raises"]
        assert ours_of(bench, "simpletuner", case)[0].isfinite()


@pytest.mark.parametrize(
    ("trainer", "way"),
    [
        ("onetrainer", "train_dtype bfloat16"),
        ("ai-toolkit", "train.dtype bf16"),
        ("diffusion-pipe", "float16"),
        ("blissful", "float16"),
    ],
)
def test_what_the_log_says_of_16_bits_was_measured_on_the_trainers_own_code(
    trainer: str, way: str
) -> None:
    value, gradient = (float(f"{100 * away:.2g}") for away in RECORDS[trainer]["rounding"][way])
    (said,) = [
        each.message for each in COMPATS[trainer].departures if "off by up to" in each.message
    ]
    assert f"off by up to {value:g} %" in said
    assert f"gradients by {gradient:g} %" in said


def test_a_full_mask_makes_onetrainers_prior_nan_and_ours_0(bench: Any) -> None:
    scene = bench.scene_of(2, ["full"])
    losses = {"normalise": "sample"}
    alone = bench.loss_of("onetrainer", scene, losses=losses)
    assert bench.loss_of("onetrainer", scene, losses=losses | {"prior": 1.0}) == alone
    # bicubic sums to 1 only up to rounding, which dividing by the mean would blow up
    toolkit = bench.loss_of("ai-toolkit", scene)
    assert bench.loss_of("ai-toolkit", scene, losses={"prior": 1.0}) == toolkit


def test_ai_toolkit_silences_a_clip_without_mask_in_a_mixed_batch_and_we_do_not(bench: Any) -> None:
    mixed = bench.scene_of(3, ["corner", "none"])
    _, gradient = bench.ours(bench.config_of("ai-toolkit"), mixed)
    assert gradient[1].ne(0).all()
    mixed.masks[1] = torch.zeros(mixed.size)  # what the original collates
    _, silenced = bench.ours(bench.config_of("ai-toolkit"), mixed)
    assert silenced[1].eq(0).all()


def test_ai_toolkits_prior_takes_sample_0_for_everyone_and_ours_each_its_own(bench: Any) -> None:
    scene = bench.scene_of(4, ["corner", "full"])
    _, gradient = bench.ours(
        bench.config_of("ai-toolkit", losses={"denoise": 0, "prior": 1.0}), scene
    )
    assert gradient[0].ne(0).any()
    assert gradient[1].eq(0).all()  # nothing is outside its mask
    scene.masks[1] = scene.masks[0]
    _, wrong = bench.ours(bench.config_of("ai-toolkit", losses={"denoise": 0, "prior": 1.0}), scene)
    assert wrong[1].ne(0).any()


def test_simpletuner_reads_the_first_frame_and_stops_at_video_and_we_read_every_frame(
    bench: Any,
) -> None:
    scene = bench.scene_of(5, ["empty"], frames=2)
    moving = torch.zeros(5, *scene.size)
    moving[1:] = 1  # comes in after the first frame
    scene.masks = [moving]
    assert bench.loss_of("simpletuner", scene) > 0
    first = replace(scene, masks=[moving[0]])
    assert bench.loss_of("simpletuner", first) == 0


def test_kohya_squashes_mask_files_to_the_bucket_and_we_crop_them_like_the_clip(bench: Any) -> None:
    mask = torch.zeros(1, 64, 128)
    mask[..., 48:80] = 1  # the middle quarter of a wide picture
    cropped = Geometry((64, 128), (64, 64), (0,)).plane(mask)
    squashed = functional.interpolate(mask[None], (64, 64), mode="area")[0]
    assert cropped.mean().item() == pytest.approx(0.5)  # the crop keeps it whole
    assert squashed.mean().item() == pytest.approx(0.25)


def test_onetrainers_unmasked_probability_is_dead_and_ours_draws(bench: Any) -> None:
    scene = bench.scene_of(6, ["empty"] * 3)
    assert bench.loss_of("onetrainer", scene) == 0
    drawn = bench.loss_of("onetrainer", scene, curve={"unmasked_probability": 1.0})
    error = (scene.prediction - scene.target).square().flatten(1).mean(1)
    assert drawn == pytest.approx(float((error * scene.weight * scene.level).mean()))


def test_simpletuners_masked_loss_probability_draws_once_a_batch(bench: Any) -> None:
    scene = bench.scene_of(7, ["empty"] * 4)
    config = bench.config_of("simpletuner", curve={"threshold": 0.0, "unmasked_probability": 0.5})
    trainer, batch = (
        bench.trainer_of(config, scene, scene.prediction),
        bench.batch_of(config, scene),
    )
    drawn = [trainer.plan.unmask(batch, trainer.generator).masked.tolist() for _ in range(30)]
    assert all(len(set(masked)) == 1 for masked in drawn)
    assert 5 < sum(masked[0] for masked in drawn) < 25


def test_blissful_rounds_its_masks_to_16_bits_and_we_do_not(bench: Any) -> None:
    scene = bench.scene_of(8, ["soft"], height=1, width=1)
    assert scene.masks[0] is not None
    scene.masks[0] *= 0.01
    exact = bench.loss_of("blissful", scene, curve={"gamma": 0.5}, losses={"beta": 1.0})
    mean = scene.masks[0].double().mean()
    rounded = mean.half().double()
    assert abs(float(rounded / mean) - 1) > 1e-5
    error = (scene.prediction - scene.target).double().square().mean()
    expected = float(error * mean * scene.level * scene.weight)
    assert exact == pytest.approx(expected, rel=1e-6)


def test_min_snr_weighs_ai_toolkits_prior_too_and_flow_weights_do_not(bench: Any) -> None:
    scene = bench.scene_of(9, ["corner"])
    losses = {"denoise": 0, "prior": 1.0}
    flow = bench.loss_of("ai-toolkit", scene, losses=losses)
    snr = bench.loss_of("ai-toolkit", scene, losses=losses, timesteps={"min_snr": 5.0})
    assert snr == pytest.approx(flow * float(scene.level), rel=1e-6)

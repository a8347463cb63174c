"""What of other trainers' masked losses is not reproduced, each by name and number."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from frisket.media.geometry import Geometry


def test_onetrainer_normalises_video_by_column_and_we_by_sample(bench: Any) -> None:
    scene = bench.scene_of(0, ["full"], height=8, width=8, s=1)
    mask = torch.zeros(8, 8)
    mask[:4, :4] = 1
    scene.masks = [mask]
    w = mask[None, None, None].clamp(0.1, 1)  # b 1 f h w
    by_column = w / w.mean((1, 2, 3), keepdim=True)  # what the original's dims leave standing
    assert by_column[..., 0, 0].item() == pytest.approx(1.818, abs=1e-3)
    assert by_column[..., 0, 7].item() == pytest.approx(1.0)  # pure background, full weight
    config = bench.config_of("onetrainer", losses={"normalise": "sample"}, curve={"floor": 0.1})
    _, gradient = bench.ours(config, scene)
    error = 2 * (scene.prediction - scene.target) * scene.level * scene.weight
    share = gradient / error * gradient.numel()
    assert share[0, :, 0, 1, 1].tolist() == pytest.approx([3.077] * 3, abs=1e-3)
    assert share[0, :, 0, 7, 7].tolist() == pytest.approx([0.308] * 3, abs=1e-3)


@pytest.mark.parametrize("kinds", [["empty"], ["empty", "empty"]])
def test_an_empty_mask_is_nan_in_onetrainer_and_ai_toolkit_and_0_here(
    bench: Any, kinds: list[str]
) -> None:
    scene = bench.scene_of(1, kinds)
    m = torch.zeros(len(kinds), 1, 3, 4)
    assert (m / m.mean((1, 2, 3), keepdim=True)).isnan().all()  # OneTrainer
    assert (m / m.mean()).isnan().all()  # ai-toolkit
    for trainer, losses in (("onetrainer", {"normalise": "sample"}), ("ai-toolkit", {})):
        value, gradient = bench.ours(bench.config_of(trainer, losses=losses), scene)
        assert value == 0
        assert gradient.eq(0).all()


def test_a_full_mask_makes_onetrainers_prior_nan_and_ours_0(bench: Any) -> None:
    scene = bench.scene_of(2, ["full"])
    q = torch.zeros(1, 1, 3, 4)
    assert (q / q.mean((1, 2, 3), keepdim=True)).isnan().all()
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
    with pytest.raises(ValueError, match="spatial dimensions"):
        functional.interpolate(moving[:1, None], size=scene.prediction.shape[2:], mode="area")
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
    drawn = [trainer._drawn(batch).masked.tolist() for _ in range(30)]
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

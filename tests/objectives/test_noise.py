"""[noise]: kohya's offset and multires noise to the number, OneTrainer's clips, and plain noise."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.peer_inputs import NOISES, latents_of
from torch import Generator, Tensor

from frisket.objectives.noise import NoiseSampler

PEERS = Path(__file__).parents[1] / "training/peers.json"
ROWS = [row for row in json.loads(PEERS.read_text("utf-8"))["rows"] if row["what"] == "noise"]
SHAPE = (2, 4, 3, 16, 16)


def drawn(noise: NoiseSampler, seed: int, *shape: int) -> Tensor:
    return noise.draw(shape or SHAPE, Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["trainer"] == "kohya"], ids=lambda row: str(row["seed"])
)
def test_a_pictures_noise_is_kohyas_number_by_number(row: dict[str, Any]) -> None:
    b, c, h, w = latents_of().shape
    made = drawn(NoiseSampler(*NOISES[row["seed"]]), row["seed"], b, c, 1, h, w)
    picked = made.flatten()[:: max(1, made.numel() // 24)][:24]
    assert picked.tolist() == pytest.approx(row["values"], rel=1e-4, abs=1e-5)
    assert float(made.std()) == pytest.approx(row["std"], rel=1e-5)
    assert made.mean((2, 3, 4)).flatten().tolist() == pytest.approx(row["means"], abs=1e-5)


def test_a_clips_offset_is_onetrainers_one_for_all_frames() -> None:
    (row,) = (row for row in ROWS if row["trainer"] == "onetrainer")
    made = drawn(NoiseSampler(offset=0.1), row["seed"], 2, 4, 3, 6, 5)
    assert made.flatten()[::15][:24].tolist() == pytest.approx(row["values"], rel=1e-5)
    assert made.mean((3, 4)).flatten().tolist() == pytest.approx(row["means"], abs=1e-6)


def test_without_options_it_is_plain_noise_bit_for_bit() -> None:
    assert torch.equal(
        drawn(NoiseSampler(), 3), torch.randn(SHAPE, generator=Generator().manual_seed(3))
    )


def test_an_offset_shifts_whole_channels_of_a_clip() -> None:
    plain, shifted = drawn(NoiseSampler(), 4), drawn(NoiseSampler(offset=0.5), 4)
    shift = shifted - plain
    assert torch.allclose(shift, shift[:, :, :1, :1, :1].expand(SHAPE), atol=1e-6)
    assert shift[:, :, 0, 0, 0].unique().numel() == 8
    strengths = [
        float(
            (
                drawn(NoiseSampler(offset=0.5, offset_random=True), seed)
                - drawn(NoiseSampler(), seed)
            ).std()
        )
        for seed in range(6)
    ]
    assert len(set(strengths)) == 6


def test_coarser_layers_keep_the_deviation_and_raise_the_low_frequencies() -> None:
    plain, made = (
        drawn(NoiseSampler(), 5, 1, 4, 2, 64, 64),
        NoiseSampler(iterations=8, discount=0.6),
    )
    layered = drawn(made, 5, 1, 4, 2, 64, 64)
    assert float(layered.std()) == pytest.approx(1, abs=1e-5)

    def coarse(noise: Tensor) -> float:
        return float(torch.nn.functional.avg_pool3d(noise, (1, 16, 16)).std())

    assert coarse(layered) > 3 * coarse(plain)
    # Frames are drawn apart: what is coarse in one is not what is coarse in the next.
    pooled = torch.nn.functional.avg_pool3d(layered, (1, 16, 16))
    first, second = pooled[:, :, 0].flatten(), pooled[:, :, 1].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.5

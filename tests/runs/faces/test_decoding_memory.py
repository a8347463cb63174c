"""What the term takes is in the prediction of a run's memory."""

from typing import Any

from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.runs.faces.decoding_memory import measure_decoding
from frisket.runs.memory.estimate import predict

TINY = {"strength": 0.1, "embedder": "tiny"}


def config_of(family: str, **losses: Any) -> Config:
    return Config.model_validate(
        {
            "model": {"family": family, "device": "cpu"},
            "data": [{"clips": "clips", "masks": "masks"}],
            "regions": {"face": 1.0},
            "losses": losses,
        }
    )


def test_a_decoder_with_gradients_lies_beside_the_step() -> None:
    family, source = FAMILIES.load("pocket"), Source("image", device="meta")
    config = config_of("pocket", denoise=0.0, identity=TINY)
    assert measure_decoding(config_of("pocket"), family, source, (1, 64, 64)) == 0
    small = measure_decoding(config, family, source, (1, 64, 64))
    large = measure_decoding(config, family, source, (1, 128, 128))
    pixels = 3 * 64 * 64 * 4 / 2**20
    assert pixels < small < 10 * pixels
    assert 3.5 * small < large < 4.5 * small
    # The term alone: nothing else is rehearsed than the prediction itself.
    assert predict(config, prepare=False).activations > small

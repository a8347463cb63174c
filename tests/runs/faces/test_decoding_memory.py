"""What the term takes is in the prediction of a run's memory."""

from typing import Any

from frisket.config.tree import Config
from frisket.runs.memory.estimate import predict


def config_of(family: str, variant: str, **losses: Any) -> Config:
    return Config.model_validate(
        {
            "model": {"family": family, "variant": variant, "device": "cpu"},
            "data": [{"clips": "clips", "masks": "masks"}],
            "regions": {"face": 1.0},
            "losses": losses,
        }
    )


def test_a_decoder_with_gradients_lies_beside_the_step() -> None:
    tiny = {"strength": 0.1, "embedder": "tiny"}
    plain = predict(config_of("pocket", "image"), prepare=False)
    looked = predict(config_of("pocket", "image", identity=tiny), prepare=False)
    assert plain.activations < looked.activations < 1.2 * plain.activations

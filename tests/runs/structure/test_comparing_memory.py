"""What the terms take is in the prediction of a run's memory."""

from typing import Any

from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.runs.faces.decoding_memory import measure_decoding
from frisket.runs.memory.estimate import predict
from frisket.runs.structure.comparing_memory import measure_comparing

SMALL, LARGE = (1, 64, 64), (1, 128, 128)


def config_of(batch: int = 1, **losses: Any) -> Config:
    tree = {
        "model": {"family": "pocket", "device": "cpu"},
        "data": [{"clips": "clips", "masks": "masks"}],
        "run": {"batch": batch},
        "losses": losses,
    }
    return Config.model_validate(tree)


def test_maps_of_every_sample_lie_beside_one_decoding() -> None:
    family, source = FAMILIES.load("pocket"), Source("image", device="meta")
    config = config_of(denoise=0.0, consistency=1.0)
    assert measure_comparing(config_of(), SMALL) == 0
    assert measure_decoding(config_of(), family, source, SMALL) == 0
    maps = measure_comparing(config, SMALL)
    assert 3.5 * maps < measure_comparing(config, LARGE) < 4.5 * maps
    assert 3.5 * maps < measure_comparing(config_of(4, consistency=1.0), SMALL) < 4.5 * maps
    plane = 64 * 64 * 4 / 2**20
    assert 3 * plane < maps < 40 * plane
    assert measure_decoding(config, family, source, SMALL) > maps


def test_a_teacher_costs_no_more_than_the_prior() -> None:
    prior = predict(config_of(prior=1.0), prepare=False).activations
    teacher = predict(config_of(teacher=1.0), prepare=False).activations
    assert teacher == prior

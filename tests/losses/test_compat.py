"""Value and gradient under `losses.compat` are those the other trainer's own code gave, to 1e-6.

`tests/losses/peers/*.json` hold the numbers, with the repository and commit whose text was run, in
float32 (`scripts/record_peer_losses.py`). A case where the trainer does otherwise than it means
names what of `Compat.departures` it shows; test_compat_defects.py looks at those.
"""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.losses.scenes import Scene, scene_of

from frisket.config.tree import Losses
from frisket.losses.compat import COMPATS

PEERS = Path(__file__).parent / "peers"
RECORDS = {name: json.loads((PEERS / f"{name}.json").read_text("utf-8")) for name in COMPATS}
CLOSE = 1.5e-6  # of float32 sums in another order; 1e-6 of nearly all


def cases_of(trainer: str) -> list[dict[str, Any]]:
    return RECORDS[trainer]["cases"]


def alike(bench: Any, trainer: str, case: dict[str, Any]) -> tuple[float, float, Scene]:
    """How far ours is from theirs, as a share of theirs: value and largest gradient."""
    scene = scene_of(**case["scene"])
    config = bench.config_of(trainer, **json.loads(json.dumps(case["sections"])))
    value, gradient = bench.ours(config, scene, case["theirs"].get("step"))
    theirs = torch.tensor(case["gradient"]).view_as(gradient)
    scale = max(float(theirs.abs().max()), 1e-12)
    away = float((gradient - theirs).abs().max()) / scale
    return abs(float(value) - case["value"]) / max(abs(case["value"]), 1e-12), away, scene


@pytest.mark.parametrize("trainer", COMPATS)
def test_value_and_gradient_are_the_trainers_own(bench: Any, trainer: str) -> None:
    compared = 0
    for case in cases_of(trainer):
        if case.get("departs") or "value" not in case:
            continue
        value, gradient, _ = alike(bench, trainer, case)
        assert value <= CLOSE, case
        assert gradient <= CLOSE, case
        compared += 1
    assert compared >= 14


@pytest.mark.parametrize("trainer", COMPATS)
def test_the_record_names_what_was_run_and_covers_pictures_video_and_every_mask(
    trainer: str,
) -> None:
    record = RECORDS[trainer]
    assert len(record["commit"]) == 40
    assert record["files"]
    scenes = [case["scene"] for case in record["cases"]]
    kinds = {kind for scene in scenes for kind in scene["kinds"]}
    assert kinds >= {"soft", "hard", "corner", "line", "empty", "full"}
    assert ("none" in kinds) == (trainer != "simpletuner")  # it stops where a mask is missing
    assert (3 in {scene["frames"] for scene in scenes}) == (trainer != "kohya")  # no video model


def test_every_trainer_of_the_table_can_be_written_in_a_config() -> None:
    assert set(get_args(Losses.model_fields["compat"].annotation)) == {"", *COMPATS}

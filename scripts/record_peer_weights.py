"""Records how other trainers weigh noise levels, for tests/objectives/test_weighting.py.

    python scripts/record_peer_weights.py kohya=CHECKOUT ai_toolkit=CHECKOUT

As record_peer_draws.py. Kept is the weight at every 20th of 1000 levels.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.draws import schedulers  # noqa: E402
from scripts.peers.text import Commit  # noqa: E402

TO = ROOT / "tests/objectives/peer_weights.json"
PLACES = torch.arange(0, 1000, 20)
Rows = Iterator[tuple[str, str, Any, Any]]  # our weighting, kind of model, levels t, weights


def kohya(commit: Commit) -> Rows:
    file = "library/custom_train_functions.py"
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    squared = torch.cumprod(1 - betas, 0)
    scheduler = Stub(all_snr=squared / (1 - squared))
    scale = commit.function(file, "get_snr_scale")
    like = commit.function(
        file, "scale_v_prediction_loss_like_noise_prediction", get_snr_scale=scale
    )
    debiased = commit.function(file, "apply_debiased_estimation")
    t, ones = (PLACES + 1) / 1000, torch.ones(len(PLACES))
    yield "debiased", "epsilon", t, debiased(ones, PLACES, scheduler)
    yield "debiased", "v", t, debiased(ones, PLACES, scheduler, True)
    yield "noise_like", "v", t, like(ones, PLACES, scheduler)
    sd3 = commit.function("library/sd3_train_utils.py", "compute_loss_weighting_for_sd3")
    for name in ("cosmap", "sigma_sqrt"):
        yield name, "flow", t, sd3(name, t)


def ai_toolkit(commit: Commit) -> Rows:
    file = "toolkit/samplers/custom_flowmatch_sampler.py"
    scheduler = schedulers(commit, file).CustomFlowMatchEulerDiscreteScheduler()
    levels = scheduler.set_train_timesteps(1000, "cpu", "linear")[PLACES]
    for ours, options in (
        ("flex", {"timestep_type": "weighted"}),
        ("bell", {}),
        ("half_bell", {"v2": True}),
    ):
        yield ours, "flow", levels / 1000, scheduler.get_weights_for_timesteps(levels, **options)


def onetrainer(commit: Commit) -> Rows:
    file = "modules/modelSetup/mixin/ModelSetupDiffusionLossMixin.py"
    weigh = commit.function(file, "__sigma_loss_weight")
    steps = torch.arange(1, 1001) / 1000
    weights = weigh(Stub(**{"__sigmas": steps}), PLACES, torch.device("cpu"))
    yield "sigma", "flow", (PLACES + 1) / 1000, weights


PEERS = {each.__name__: each for each in (kohya, ai_toolkit, onetrainer)}

if __name__ == "__main__":
    lines = []
    for given in sys.argv[1:]:
        name, checkout = given.split("=", 1)
        commit = Commit(checkout)
        for weighting, model, t, weights in PEERS[name](commit):
            row = {"trainer": name, "commit": commit.name, "weighting": weighting, "model": model}
            pairs = zip(t.tolist(), weights.tolist(), strict=True)
            row["weights"] = [[round(level, 3), float(f"{each:.6g}")] for level, each in pairs]
            lines.append(json.dumps(row))
    TO.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{len(lines)} weightings")

"""Records what other trainers' own masked-loss code gives, for tests/losses/test_compat.py.

    python scripts/record_peer_losses.py kohya=CHECKOUT blissful=CHECKOUT@COMMIT ...

A checkout is a clone of a trainer's repository, bare or not; without @COMMIT its HEAD is read. The
text of the functions is taken out of that commit and run, with stand-ins where it reaches for the
rest of the trainer; none of it is kept. `tests/losses/peers/<trainer>.json` gets repository,
commit, files, and value and gradient of each case; tests/losses/scenes.py draws what both sides are
given. Masks have the size of the bucket: no resize but that to the latents takes part. It also
measures, and keeps under `rounding`, how far the trainer's own precision takes it from float32.
"""

import json
import math
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers import trainers  # noqa: E402
from scripts.peers.blissful import Blissful  # noqa: E402
from scripts.peers.text import Commit  # noqa: E402
from tests.losses.scenes import scene_of  # noqa: E402

PEERS: dict[str, Any] = {
    "kohya": trainers.Kohya,
    "onetrainer": trainers.OneTrainer,
    "simpletuner": trainers.SimpleTuner,
    "ai-toolkit": trainers.AiToolkit,
    "diffusion-pipe": trainers.DiffusionPipe,
    "blissful": Blissful,
}
TO = ROOT / "tests/losses/peers"
ROUNDED: dict[str, dict[str, dict[str, Any]]] = {  # how each trainer keeps its masks, and means
    "onetrainer": {"train_dtype bfloat16": {"dtype": torch.bfloat16}},
    "ai-toolkit": {
        "train.dtype float32": {"exact": True},
        "train.dtype bf16": {"exact": True, "dtype": torch.bfloat16},
    },
    "diffusion-pipe": {"float16": {"dtype": torch.float16}},
    "blissful": {"float16": {"dtype": torch.float16}},
}


def scenes_of(peer: Any) -> Iterator[dict[str, Any]]:
    shapes = [(1, kinds) for kinds in peer.scenes["images"]]
    shapes += [(3, kinds) for kinds in peer.scenes.get("videos", ())]
    for frames, kinds in shapes:
        small = {"height": 2, "width": 3} if frames > 1 else {}
        yield {"kinds": list(kinds), "frames": frames, "plain": peer.scenes["plain"]} | small


def options_of(peer: Any) -> list[dict[str, Any]]:
    if hasattr(peer, "variations"):
        return list(peer.variations)
    values = product(*peer.options.values())
    return [dict(zip(peer.options, each, strict=True)) for each in values]


def measure(peer: Any, scene: Any, theirs: dict[str, Any], **more: Any) -> tuple[float, Any]:
    """Value and gradient; none where it raises."""
    prediction = scene.prediction.clone().requires_grad_()
    try:
        loss = peer.loss(scene, prediction, **theirs, **more)
        (gradient,) = torch.autograd.grad(loss, prediction)
    except (ValueError, RuntimeError) as error:
        return float("nan"), str(error)
    return loss.item(), gradient


def record(name: str, checkout: str) -> None:
    commit = Commit(checkout)
    peer = PEERS[name](commit)
    cases: list[dict[str, Any]] = []
    worst = {way: [0.0, 0.0] for way in ROUNDED.get(name, {})}
    for seed, (drawn, theirs) in enumerate(product(scenes_of(peer), options_of(peer))):
        sections = peer.sections(**theirs)
        if sections is None:
            continue
        described = {"seed": seed, **drawn}
        scene = scene_of(**described)
        value, gradient = measure(peer, scene, theirs)
        departs = peer.departs(scene, **theirs) if hasattr(peer, "departs") else ""
        case = {"scene": described, "theirs": theirs, "sections": sections}
        if isinstance(gradient, str):
            cases.append(case | {"raises": gradient.splitlines()[0][:80]})
            continue
        finite = math.isfinite(value) and bool(gradient.isfinite().all())
        if not finite:
            cases.append(case | {"nan": True})
            continue
        numbers = [float(f"{each:.7g}") for each in gradient.flatten().tolist()]
        cases.append(case | {"value": value, "gradient": numbers, "departs": departs})
        for way, more in ROUNDED.get(name, {}).items():
            other, rounded = measure(peer, scene, theirs, **more)
            scale = max(float(gradient.abs().max()), 1e-12)
            if math.isfinite(other) and not departs:
                worst[way][0] = max(worst[way][0], abs(other - value) / max(abs(value), 1e-12))
                away = float((rounded - gradient).abs().max()) / scale
                worst[way][1] = max(worst[way][1], away)
    head = {"repo": peer.repo, "commit": commit.name, "files": commit.files, "rounding": worst}
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    TO.mkdir(exist_ok=True)
    text = json.dumps(head, indent=1)[:-2] + f',\n "cases": [\n{rows}\n]\n}}\n'
    (TO / f"{name}.json").write_text(text)
    print(f"{name}: {len(cases)} cases, {len(text) / 1000:.0f} kB, rounding {worst}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for given in sys.argv[1:]:
        record(*given.split("=", 1))

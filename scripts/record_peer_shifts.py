"""Records by what other trainers' own code shifts noise levels by size, for test_shift.py.

    python scripts/record_peer_shifts.py kohya=CHECKOUT musubi=CHECKOUT onetrainer=CHECKOUT ...

As record_peer_losses.py: checkouts as there, nothing of their text is kept. For each law what
becomes of t = 1/4, 1/2, 3/4 is kept at every size of SIZES, in pixels.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit, run  # noqa: E402

TO = ROOT / "tests/objectives/peer_shifts.json"
SIZES = ((512, 512), (1024, 1024), (832, 1216), (2048, 1024))
T = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
FLUX = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
QWEN = FLUX | {"max_image_seq_len": 8192, "max_shift": 0.9}  # of the model's scheduler_config.json
Law = Callable[[int, int], Any]  # latent height and width -> shifted T
Laws = Iterator[tuple[str, str, int, Law]]  # family, option, pixels of a latent cell, law


def shifted(shift: float) -> Any:
    return T * shift / (1 + (shift - 1) * T)


def kohya(commit: Commit) -> Laws:
    file, names = "library/flux_train_utils.py", {"Callable": Callable}
    line = commit.function(file, "get_lin_function", **names)
    move = commit.function(file, "time_shift")
    part = commit.part(file, "mu = get_lin_function(y1=0.5", "timesteps = sigmas * num_timesteps")

    def law(h: int, w: int) -> Any:
        given = {"get_lin_function": line, "time_shift": move, "h": h, "w": w, "sigmas": T}
        run(part, given)
        return given["sigmas"]

    yield "flux", "flux_shift", 8, law


def musubi(commit: Commit) -> Laws:
    line = commit.function(
        "src/musubi_tuner/utils/train_utils.py", "get_lin_function", Callable=Any
    )
    file = "src/musubi_tuner/training/trainer_base.py"
    start = 'if args.timestep_sampling == "shift":'
    part = commit.part(file, start, "logits_norm = randn(batch_size")
    for family, way, pixels in (
        ("flux", "flux_shift", 8), ("flux2", "flux2_shift", 16), ("qwen_image", "qwen_shift", 8),
    ):  # fmt: skip

        def law(h: int, w: int, way: str = way) -> Any:
            given: dict[str, Any] = {
                "args": Stub(timestep_sampling=way),
                "math": math,
            }
            given |= {"train_utils": Stub(get_lin_function=line), "latents": torch.empty(1, h, w)}
            run(part, given)
            return shifted(given["shift"])

        yield family, way, pixels, law


def onetrainer(commit: Commit) -> Laws:
    for family, file, config in (
        ("flux", "FluxModel", FLUX),
        ("flux2", "Flux2Model", FLUX),
        ("qwen_image", "QwenModel", QWEN),
    ):
        found = commit.function(f"modules/model/{file}.py", "calculate_timestep_shift")
        me = Stub(noise_scheduler=Stub(config=Stub(**config)))
        yield (
            family,
            "dynamic_timestep_shifting",
            8,  # FLUX.2's too: it counts the cells of before the folding
            lambda h, w, found=found, me=me: shifted(found(me, h, w)),
        )


def simpletuner(commit: Commit) -> Laws:
    file = "simpletuner/helpers/training/custom_schedule.py"
    move = commit.function(file, "apply_flow_schedule_shift", calculate_shift_flux=calculate_shift)
    args = Stub(flow_schedule_shift=0, flow_schedule_auto_shift=True)
    for family, config in (("flux", FLUX), ("qwen_image", QWEN)):
        scheduler = Stub(config=Stub(**config))
        yield (
            family,
            "flow_schedule_auto_shift",
            8,
            lambda h, w, s=scheduler: move(args, s, T, torch.empty(1, 16, h, w)),
        )


def diffusion_pipe(commit: Commit) -> Laws:
    line = commit.function("models/flux.py", "get_lin_function")
    move = commit.function("models/flux.py", "time_shift")
    part = commit.part("models/flux.py", "mu = get_lin_function(y1=0.5", "x_1 = latents")

    def law(h: int, w: int) -> Any:
        given = {"get_lin_function": line, "time_shift": move, "h": h, "w": w, "t": T}
        run(part, given)
        return given["t"]

    yield "flux", "flux_shift", 8, law


PEERS = {each.__name__: each for each in (kohya, musubi, onetrainer, simpletuner, diffusion_pipe)}

if __name__ == "__main__":
    rows = []
    for given in sys.argv[1:]:
        name, checkout = given.split("=", 1)
        commit = Commit(checkout)
        for family, option, pixels, law in PEERS[name](commit):
            sizes = [
                [height, width, *law(height // pixels, width // pixels).tolist()]
                for height, width in SIZES
            ]
            rows.append({"trainer": name, "commit": commit.name, "family": family} | {
                "option": option, "sizes": sizes})  # fmt: skip
    TO.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(f"{len(rows)} laws")

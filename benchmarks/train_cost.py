"""The whole trainer, masked, against a bare diffusers + peft loop: CPU seconds a step, peak memory.

Each runs in its own process, in turn. Targets: 0.155 s and 530 MB, what the bare loop took on the
machine of research/bench.md A (the best whole trainer of the field there: 0.188 s, 603 MB).
"""

import measure  # first: it sets the number of threads torch starts with  # noqa: I001
import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional

STEPS = 23  # as many as the peers were run for
WARM_UP = 3
CLIPS = 8


def bare() -> list[float]:
    """Train with nothing but diffusers and peft: no mask, no metrics, no clipping."""
    from peft import LoraConfig  # noqa: PLC0415 - each case counts its own imports

    model = measure.tiny_wan()
    targets = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
    model.add_adapter(LoraConfig(r=measure.RANK, lora_alpha=measure.RANK, target_modules=targets))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    clips = [measure.draw(seed) for seed in range(CLIPS)]
    seconds = []
    for step in range(STEPS):
        began = time.process_time()
        latents, text, _ = clips[step % CLIPS]
        noise = torch.randn_like(latents)
        t = torch.sigmoid(torch.randn(measure.BATCH))
        level = t.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * latents + level * noise
        prediction = model(noisy, t * 1000, text, return_dict=False)[0]
        functional.mse_loss(prediction, noise - latents).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - began)
    return seconds


def whole(prior: float) -> list[float]:
    """Train with Frisket's trainer: masks, clipping, schedule, metrics on disk after every step."""
    from frisket.adapters import lora  # noqa: PLC0415 - each case counts its own imports
    from frisket.data.sample import Batch  # noqa: PLC0415
    from frisket.families.base import FAMILIES  # noqa: PLC0415
    from frisket.losses.base import TERMS  # noqa: PLC0415
    from frisket.masks.weights import RegionWeights  # noqa: PLC0415
    from frisket.training import optim, schedules  # noqa: PLC0415
    from frisket.training.distributed import assemble  # noqa: PLC0415
    from frisket.training.metrics_log import MetricsLog  # noqa: PLC0415
    from frisket.training.plan import Hooks, Plan  # noqa: PLC0415
    from frisket.training.trainer import Trainer  # noqa: PLC0415

    family = FAMILIES.load("wan")
    variant = next(iter(family.variants))
    denoiser = measure.tiny_wan()
    lora.attach(denoiser, lora.LoraSpec(rank=measure.RANK, targets=family.lora_targets), seed=0)
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec())
    clips = [measure.draw(seed) for seed in range(CLIPS)]
    names = tuple(f"clip {index}" for index in range(measure.BATCH))

    def batches(first: int) -> Iterator[Batch]:
        while True:
            latents, text, coverage = clips[first % CLIPS]
            yield Batch(
                latents,
                {"text": text},
                coverage,
                torch.ones(measure.BATCH, dtype=torch.bool),
                torch.ones(measure.BATCH),
                names,
                torch.zeros(measure.BATCH, dtype=torch.bool),
            )
            first += 1

    terms = {"denoise": (TERMS.load("denoise")(), 1.0)}
    if prior:
        terms["prior"] = (TERMS.load("prior")(), prior)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            family=family,
            grid=family.variants[variant].grid,
            denoiser=denoiser,
            parameters=parameters,
            objective=family.objective(variant),
            weights=RegionWeights({"subject": 1.0}),
            terms=terms,
            optimizer=optimizer,
            schedule=schedules.schedule(optimizer, schedules.Rates(steps=STEPS)),
            batches=batches,
            plan=Plan(steps=STEPS),
            record=MetricsLog(Path(folder) / "metrics.jsonl"),
            team=assemble(precision="float32", device="cpu"),
            hooks=Hooks(progress=lambda *_: times.append(time.process_time())),
        )
        times.append(time.process_time())
        with trainer.record:
            trainer.run()
    return [after - before for before, after in itertools.pairwise(times)]


CASES = {
    "bare diffusers + peft, no mask": bare,
    "Frisket, masked": lambda: whole(prior=0.0),
    "Frisket, masked + prior": lambda: whole(prior=0.2),
}


def alone(name: str) -> None:
    """Run one case in this process and print what it took."""
    seconds = CASES[name]()[WARM_UP:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.case:
        alone(chosen.case)
        return
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    peaks: dict[str, list[float]] = {name: [] for name in CASES}
    for turn in range(chosen.rounds):
        for name in list(CASES) if turn % 2 else reversed(CASES):
            command = [sys.executable, __file__, "--case", name]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(run.stdout.splitlines()[-1])
            seconds[name] += found["seconds"]
            peaks[name].append(found["peak"])
    measure.title("The whole trainer: tiny Wan, 2 x 16 x 1 x 32 x 32, LoRA rank 8")
    base = statistics.median(seconds["bare diffusers + peft, no mask"])
    measure.table(
        ("trainer", "CPU ms a step (quartiles)", "/ bare", "peak RSS MiB"),
        [
            (
                name,
                measure.spread(each),
                f"{statistics.median(each) / base:.3f}",
                f"{statistics.median(peaks[name]):.0f}",
            )
            for name, each in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()

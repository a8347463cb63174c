"""CPU seconds of a training step with and without token routing: Wan's blocks, 1024 image tokens.

One run, one thread, cases interleaved: each is a step of the real Trainer (forward, backward,
clipping, AdamW on a LoRA of rank 8, metrics), with all tokens and with half and a quarter of them
carried through the blocks [2, -4). The router's hooks are put on once, as in a run. `/ window` is
the ratio of the routed blocks alone (all of the model without them is timed and taken off both
sides); `by FLOPs` is what `frisket.routing.flops` predicts. Last, a whole run with the full steps
that [routing] has by default, beside as many steps with all tokens.
"""

import measure  # first: it sets the number of threads torch starts with  # noqa: I001
import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from diffusers import WanTransformer3DModel

SIDE = 64  # cells: 32 x 32 tokens
TOKENS = 1024
SUBJECT = slice(24, 40)  # cells: 8 x 8 tokens, 10 x 10 when grown
GROWN = 100
START, END = 2, -4
SHARES = (0.5, 0.25)
CHANCE, FULL_FROM = 0.25, 0.85  # the defaults of [routing]
HEADER = ("kept", "CPU ms (quartiles)", "steps/s", "/ window", "by FLOPs", "a run's")


def build_denoiser(layers: int, width: int) -> Any:
    """Wan with this many blocks, `width` channels in heads of 64, and four times in the middle."""
    from frisket.adapters import lora  # noqa: PLC0415
    from frisket.families.base import FAMILIES, default_targets  # noqa: PLC0415

    torch.manual_seed(0)
    denoiser = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=width // 64,
        attention_head_dim=64,
        in_channels=16,
        out_channels=16,
        text_dim=64,
        freq_dim=256,
        ffn_dim=4 * width,
        num_layers=layers,
        rope_max_seq_len=64,
    ).requires_grad_(False)
    family = FAMILIES.load("wan")
    targets, dead = default_targets(family, family.default)
    spec = lora.LoraSpec(rank=measure.RANK, targets=targets, dead=dead)
    lora.attach(denoiser, spec, seed=0, streams=family.streams)
    return denoiser


def draw_batches(first: int) -> Iterator[Any]:
    """Noise for latents, 64 words, and a mask over 8 x 8 of the tokens."""
    from frisket.data.sample import Batch  # noqa: PLC0415

    coverage = torch.zeros(1, 1, 1, SIDE, SIDE)
    coverage[..., SUBJECT, SUBJECT] = 1
    flags, ones = torch.ones(1, dtype=torch.bool), torch.ones(1)
    while True:
        made = torch.Generator().manual_seed(first)
        latents = torch.randn(1, 16, 1, SIDE, SIDE, generator=made)
        text = torch.randn(1, 64, 64, generator=made)
        yield Batch(latents, {"text": text}, coverage, flags, ones, ("clip",), ~flags)
        first += 1


def build_routing(denoiser: Any, share: float, chance: float, full_from: float) -> Any:
    """Routing that carries just this share of all tokens."""
    from frisket.families.base import FAMILIES  # noqa: PLC0415
    from frisket.routing.router import Router  # noqa: PLC0415
    from frisket.routing.selection import BackgroundSelection  # noqa: PLC0415
    from frisket.training.token_routing import TokenRouting  # noqa: PLC0415

    family = FAMILIES.load("wan")
    background = (share * TOKENS - GROWN) / (TOKENS - GROWN)
    return TokenRouting(
        router=Router(denoiser, family.routes, family.streams, START, END),
        select=BackgroundSelection(background=background),
        patch=family.routes.find_patch(denoiser),
        seed=0,
        full_step_probability=chance,
        full_from=full_from,
    )


def build_trainer(
    layers: int, width: int, share: float = 1.0, chance: float = 0.0, full_from: float = 1.0
) -> Any:
    """A trainer whose steps carry this share of the tokens, but for full ones by chance."""
    from frisket.adapters import lora  # noqa: PLC0415
    from frisket.families.base import FAMILIES  # noqa: PLC0415
    from frisket.losses.base import TERMS  # noqa: PLC0415
    from frisket.masks.weights import RegionWeights  # noqa: PLC0415
    from frisket.training import optim, schedules  # noqa: PLC0415
    from frisket.training.distributed import assemble  # noqa: PLC0415
    from frisket.training.plan import Plan  # noqa: PLC0415
    from frisket.training.trainer import Trainer  # noqa: PLC0415

    family = FAMILIES.load("wan")
    variant = next(iter(family.variants))
    denoiser = build_denoiser(layers, width)
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec())
    return Trainer(
        family=family,
        grid=family.variants[variant].grid,
        denoiser=denoiser,
        parameters=parameters,
        objective=family.objective(variant),
        weights=RegionWeights({"subject": 1.0}),
        terms={"denoise": (TERMS.load("denoise")(), 1.0)},
        optimizer=optimizer,
        schedule=schedules.schedule(optimizer, schedules.Rates(steps=1000)),
        batches=draw_batches,
        plan=Plan(steps=0),
        team=assemble(precision="float32", device="cpu"),
        routing=build_routing(denoiser, share, chance, full_from) if share < 1 else None,
    )


def advance(trainer: Any) -> Callable[[], None]:
    """One more step each time it is called, which must carry what it is to carry."""

    def run() -> None:
        trainer.plan = replace(trainer.plan, steps=trainer.done + 1)
        trainer.run()

    return run


def count_operations(trainer: Any) -> Any:
    """The cost of a step by the formula."""
    from frisket.routing.flops import SAVED_SCORES, count_step  # noqa: PLC0415

    batch, family = next(draw_batches(0)), trainer.family
    return count_step(
        trainer.denoiser,
        family.streams,
        lambda: family.predict(
            trainer.denoiser, batch.latents, torch.tensor([0.5]), batch.conditioning
        ),
        backward=SAVED_SCORES,
    )


def time_steps(layers: int, width: int, repeats: int, steps: int) -> None:
    """Print the table of one model."""
    from frisket.routing.flops import expect_routed, mix_ratios  # noqa: PLC0415

    inside = len(range(layers)[START:END])
    trainers = {f"{share:g}": build_trainer(layers, width, share) for share in (1.0, *SHARES)}
    trainers["short"] = build_trainer(layers - inside, width)
    shares: dict[str, float] = {}
    for name, trainer in trainers.items():
        trainer.hooks.progress = lambda _, values, name=name: shares.update(
            {name: values.get("kept", 1.0)}
        )
    cases = {name: advance(trainer) for name, trainer in trainers.items()}
    seconds = measure.interleaved(cases, repeats, warm_up=1)
    assert [shares[f"{share:g}"] for share in SHARES] == list(SHARES)
    cost = count_operations(trainers["1"])
    measure.title(
        f"A routed step: {layers} blocks of width {width}, {TOKENS} image tokens, window"
        f" [{START}, {END}): {inside} blocks, {cost.measure_window(START, END):.0%} of the FLOPs"
    )
    full, rest = seconds["1"], statistics.median(seconds["short"])
    routed_share = expect_routed(CHANCE, FULL_FROM)
    rows = [("all", measure.spread(full), *["1.00"] * 4)]
    for share in SHARES:
        routed = seconds[f"{share:g}"]
        ratio = measure.ratio(full, routed)
        inner = (statistics.median(full) - rest) / (statistics.median(routed) - rest)
        by_flops = cost.predict_ratio(share, START, END)
        ratios = (ratio, inner, by_flops, mix_ratios(ratio, routed_share))
        rows.append((f"{share:.0%}", measure.spread(routed), *(f"{each:.2f}" for each in ratios)))
    measure.table(HEADER, rows)
    if steps:
        time_run(layers, width, steps)


def time_run(layers: int, width: int, steps: int) -> None:
    """Print what whole runs take, a quarter of the tokens carried and all of them, step by step."""
    share = min(SHARES)
    whole = advance(build_trainer(layers, width))
    trainer = build_trainer(layers, width, share, CHANCE, FULL_FROM)
    whole()  # the first step makes what is kept
    advance(trainer)()
    seconds: list[float] = []
    carried: list[float] = []

    def beside(_: int, values: Any) -> None:
        carried.append(values["kept"])
        began = time.process_time()
        whole()
        seconds.append(time.process_time() - began)

    trainer.hooks.progress = beside
    trainer.plan, trainer.done = replace(trainer.plan, steps=steps), 0
    began = time.process_time()
    trainer.run()
    plain = sum(seconds)
    mixed = time.process_time() - began - plain
    routed = sum(value < 1 for value in carried) / steps
    print(
        f"\nA run of {steps} steps, {routed:.0%} of them routed, step by step beside one with all"
        f" tokens: {plain:.0f} s with all, {mixed:.0f} s with {share:.0%} in routed steps:"
        f" {plain / mixed:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="*", default=[16, 30])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40, help="of the whole runs; 0: none")
    chosen = parser.parse_args()
    for layers in chosen.layers:
        time_steps(layers, chosen.width, chosen.repeats, chosen.steps)


if __name__ == "__main__":
    main()

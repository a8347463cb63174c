"""Predicted peak memory of a training step against real steps on the CPU.

For every family's tiny model (written to disk, so that its own config.json is what is read):
`Prediction.training` of `frisket.runs.memory.estimate.predict`, from shapes alone, beside two
measurements of the real Trainer over STEPS steps. *Tensors*: the most bytes of tensors alive at one
time, each storage counted once, parameters included (a TorchDispatchMode looks at every result).
*Allocator*: parameters plus the highest sum of what torch's CPU allocator handed out less what it
took back, from torch's profiler; that has what CPU kernels take for themselves as well, which
differs on a GPU. The loss is made to work on whole maps, as it does on an accelerator.
"""

import argparse
import importlib.util
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEASURE = Path(__file__).with_name("measure.py")
STEPS = 2


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("measure", MEASURE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(family: str, variant: str, folder: Path, **sections: dict[str, Any]) -> Any:
    from frisket.config.tree import Config  # noqa: PLC0415

    asked: dict[str, Any] = {
        "model": {"family": family, "variant": variant, "source": str(folder), "device": "cpu"},
        "data": [sections.pop("data")],
        "lora": {"rank": 8},
    }
    if sections.get("model", {}).get("train") == "all":
        del asked["lora"]
    for name, values in sections.items():
        asked[name] = {**asked.get(name, {}), **values}
    return Config.model_validate(asked)


def tensors_of(trainer: Any) -> list[Any]:
    """Parameters, buffers and the tables that modules made for themselves."""
    from torch import Tensor  # noqa: PLC0415

    values = [*trainer.denoiser.parameters(), *trainer.denoiser.buffers()]
    for module in trainer.denoiser.modules():
        values += [each for each in vars(module).values() if isinstance(each, Tensor)]
    return values


def alive(config: Any) -> float:
    """MiB of tensors alive at the worst moment of a real run."""
    from frisket.training.memory.dry_run import LiveBytes  # noqa: PLC0415

    trainer = built(config)
    with LiveBytes() as live:
        live.hold(tensors_of(trainer))
        trainer.run()
    return live.peak / 2**20


def allocated(config: Any) -> float:
    """MiB the allocator had handed out at the worst moment of a real run."""
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    from frisket.families.blocks import plain_tensors  # noqa: PLC0415

    trainer = built(config)
    tensors = [each for value in tensors_of(trainer) for each in plain_tensors(value)]
    before = sum({each.untyped_storage()._cdata: each.nbytes for each in tensors}.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer.run()
    events = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    events.sort(key=lambda each: each.start_ns())
    sums = itertools.accumulate((each.nbytes() for each in events), initial=0)
    return (before + max(sums)) / 2**20


def built(config: Any) -> Any:
    """A real trainer of a configuration, over drawn latents and the tiny text of its family."""
    import torch  # noqa: PLC0415

    from frisket.adapters import lora  # noqa: PLC0415
    from frisket.data.sample import Batch  # noqa: PLC0415
    from frisket.families.base import FAMILIES, Source  # noqa: PLC0415
    from frisket.masks.weights import RegionWeights  # noqa: PLC0415
    from frisket.objectives.timesteps import TimestepSampler  # noqa: PLC0415
    from frisket.runs.memory import conditioning_shapes as shapes  # noqa: PLC0415
    from frisket.runs.memory import estimate as foretold  # noqa: PLC0415
    from frisket.runs.methods.token_routing import make_routing  # noqa: PLC0415
    from frisket.runs.refusals import terms_of  # noqa: PLC0415
    from frisket.training import optim, schedules  # noqa: PLC0415
    from frisket.training.distributed import assemble  # noqa: PLC0415
    from frisket.training.memory import plan as memory_plan  # noqa: PLC0415
    from frisket.training.plan import Plan  # noqa: PLC0415
    from frisket.training.trainer import Trainer  # noqa: PLC0415

    family = FAMILIES.load(config.model.family)
    card = family.variants[config.model.variant]
    memory = memory_plan.MemoryPlan(**config.memory.model_dump())
    source = Source(
        config.model.variant,
        config.model.source,
        dtype=getattr(torch, config.model.dtype),
        quantise=config.memory.quantise,
    )
    denoiser = family.load_denoiser(source)
    foretold.choose_trained(denoiser, config, family)
    memory_plan.apply(denoiser, memory, device="cpu")
    tiny = family.tiny(config.model.variant)
    size, count = foretold.find_size(config, card), config.run.batch
    clip = torch.zeros(1, 3, *size)
    pictures = [shapes.picture(size)] if card.sees == "pictures" else []
    given = dict(family.embed(tiny.text, [shapes.CAPTION], [pictures] if pictures else ()))
    given |= family.image_conditioning(tiny.vae, tiny.vision, clip, pictures)
    shape = (count, card.grid.channels, *card.grid.cells(*size))
    names = tuple(map(str, range(count)))

    def batches(_: int) -> Iterator[Batch]:
        while True:
            coverage = torch.zeros(count, 1, *shape[2:])
            coverage[..., : shape[-1] // 2] = 1
            told = {
                name: value.expand(count, *value.shape[1:]).clone() for name, value in given.items()
            }
            ones = torch.ones(count)
            flags, empty = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
            yield Batch(torch.randn(shape), told, coverage, flags, ones, names, empty)

    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optim.OptimizerSpec(config.optimizer.name))
    bounds = (max(low for low, _ in card.experts.values()), 1.0) if card.experts else (0.0, 1.0)
    return Trainer(
        family=family,
        grid=card.grid,
        denoiser=denoiser,
        parameters=parameters,
        objective=family.objective(
            config.model.variant, TimestepSampler(low=bounds[0], high=bounds[1])
        ),
        weights=RegionWeights({"subject": 1.0}),
        terms=terms_of(config),
        optimizer=optimizer,
        schedule=schedules.schedule(optimizer, schedules.Rates(steps=STEPS)),
        batches=batches,
        plan=Plan(steps=STEPS),
        team=assemble(precision=config.run.precision, device="cpu"),
        routing=make_routing(config, family, denoiser),
    )


# Every step carries the half of the picture that has weight, and a quarter of the rest.
KEPT_SHARE = 0.625
ROUTED = {
    "background": 0.25,
    "start": 0,
    "end": 2,
    "dilate": 0,
    "multiple": 1,
    "full_step_probability": 0.0,
    "full_from": 1.0,
}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "checkpointing": {"memory": {"checkpointing": True}},
    "batch 2, prior": {"run": {"batch": 2}, "losses": {"prior": 0.2}},
    "bfloat16": {"model": {"dtype": "bfloat16"}, "run": {"precision": "bfloat16"}},
    "routed": {"routing": ROUTED},
    "all weights": {"model": {"train": "all"}, "memory": {"checkpointing": True}},
    "all weights, bfloat16": {"model": {"train": "all"}, "run": {"precision": "bfloat16"}},
}


def config_for(family: str, variant: str, case: str, folder: Path, scale: int = 16) -> Any:
    """A configuration over the tiny model in `folder`, of clips `scale` patches a side."""
    from frisket.families.base import FAMILIES  # noqa: PLC0415

    card = FAMILIES.load(family).variants[variant]
    side = scale * card.grid.step
    data = {"clips": ".", "resolution": [side, side], "frames": 1 + card.grid.temporal}
    return config_of(family, variant, folder, data=data, **CASES[case])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--case", choices=CASES, nargs="*", default=list(CASES))
    chosen = parser.parse_args()
    measure = _tool()
    from frisket.families.base import FAMILIES  # noqa: PLC0415

    measure.title("Predicted peak of training against real steps, tiny models, CPU")
    from frisket.losses import base  # noqa: PLC0415
    from frisket.runs.memory.estimate import predict  # noqa: PLC0415

    base.CACHE_ELEMENTS = 1 << 40
    rows = []
    for family in chosen.families or FAMILIES.names():
        shelf = FAMILIES.load(family)
        plain = [name for name, card in shelf.variants.items() if not card.like]
        able = [case for case in chosen.case if case != "routed" or shelf.routes is not None]
        for variant, case in itertools.product(plain, able):
            if "all weights" in case and shelf.variants[variant].experts:
                continue  # refused: all weights are trained of one denoiser
            with tempfile.TemporaryDirectory() as folder:
                shelf.save(shelf.tiny(variant), Path(folder))
                config = config_for(family, variant, case, Path(folder))
                share = KEPT_SHARE if case == "routed" else 1.0
                ours = predict(config, prepare=False, kept_share=share).training
                real, held = alive(config), allocated(config)
            numbers = (f"{ours:.2f}", f"{real:.2f}", f"{ours / real:.3f}")
            rows.append(
                (f"{family} {variant}", case, *numbers, f"{held:.2f}", f"{ours / held:.3f}")
            )
    header = ("predicted MiB", "tensors MiB", "ratio", "allocator MiB", "ratio")
    measure.table(("model", "case", *header), rows)


if __name__ == "__main__":
    main()

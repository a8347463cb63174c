"""bfloat16 autocast, attention kernels and compiled blocks, against plain float32."""

import re

import torch
from benchmarks.check_gpu.checking import Failed, Place, Skipped
from benchmarks.check_gpu.models import Trial, agree, exact_attention, same_step

from frisket.adapters import lora
from frisket.families.blocks import blocks_of
from frisket.training.memory import precision
from frisket.training.memory.plan import CannotFit

NO_KERNEL = re.compile("No available kernel|No viable backend|not supported|only supports", re.I)
FAMILIES = ("wan", "flux", "stable_diffusion", "qwen_image")


def autocast(place: Place) -> str:
    """A step in bfloat16 is near the one in float32, and the adapter's gradients are float32."""
    said = []
    for family in FAMILIES:
        trial = Trial(family)
        trial.fit(place)
        expected = trial.step(place)
        with torch.autocast(place.device.type, torch.bfloat16):
            found = trial.step(place)
        agree(f"{family}: prediction", found[0], expected[0], 5e-2)
        distance = agree(f"{family}: gradients", found[1], expected[1], 2e-1)
        kinds = {value.dtype for value in lora.trainable(trial.denoiser).values()}
        if kinds != {torch.float32}:
            raise Failed(f"{family}: the adapter is in {kinds}")
        said.append(f"{family} {distance:.0e}")
    return ", ".join(said)


def attention(place: Place) -> str:
    """Every backend that is installed, in bfloat16, against attention written out."""
    size = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 64}
    with exact_attention():
        trial = Trial("wan", dtype=torch.bfloat16, **size)
        trial.fit(place)
        expected = trial.step(place)
    said, lacking, without, wrong = [], [], [], []
    for backend in precision.TRAINABLE:
        trial = Trial("wan", dtype=torch.bfloat16, **size)
        try:
            trial.fit(place, attention=backend)
        except CannotFit:
            lacking.append(backend)
            continue
        try:
            found = trial.step(place)
            distance = agree("prediction", found[0], expected[0], 5e-2)
            agree("gradients", found[1], expected[1], 2e-1)
            said.append(f"{backend} {distance:.0e}")
        except (Failed, RuntimeError, ImportError) as error:
            message = str(error).strip().partition("\n")[0]
            if not place.cuda or NO_KERNEL.search(message):
                without.append(backend)
            else:
                wrong.append(f"{backend}: {message[:160]}")
    said += [f"not installed: {', '.join(lacking)}"] if lacking else []
    said += [f"no kernel here: {', '.join(without)}"] if without else []
    if wrong:
        raise Failed(f"{'; '.join(wrong)} (the others: {', '.join(said)})")
    return ", ".join(said)


def compiled(place: Place) -> str:
    """Blocks compiled by the default backend, recomputed in the backward pass as well."""
    place.need_card("minutes on a CPU; the suite has it (`-m slow`)")
    import torch._dynamo  # noqa: PLC0415 - a slow import

    if torch.cuda.get_device_capability(place.device) < (7, 0):
        raise Skipped("Triton needs compute capability 7.0")
    said = []
    for again in (False, True):
        torch._dynamo.reset()
        plain = Trial("wan", num_layers=6)
        plain.fit(place, checkpointing=again)
        expected = plain.step(place)
        trial = Trial("wan", num_layers=6)
        trial.fit(place, checkpointing=again, compile=True)
        trial.step(place)
        found = trial.step(place)
        said.append(same_step("compiled", found, expected, (1e-3, 1e-2)))
        counts = torch._dynamo.utils.counters["frames"]
        place.numbers[f"frames, checkpointing {again}"] = dict(counts)
        if not all(block._compiled_call_impl for block in blocks_of(trial.denoiser).values()):
            raise Failed("not every block is compiled")
    return f"{said[0]}; with checkpointing {said[1]}"

"""How every benchmark here measures: one thread, process CPU time, interleaved, medians, ratios."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"

import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

torch.set_num_threads(1)
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

RANK = 8
BATCH = 2
LATENTS = (16, 1, 32, 32)
TOKENS, TEXT = 64, 64


def interleaved(
    cases: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """CPU seconds of each call; A B C, then C B A, so that drift of the machine hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warm_up + repeats):
        order = list(cases) if turn % 2 else list(reversed(cases))
        for name in order:
            began = time.process_time()
            cases[name]()
            if turn >= warm_up:
                seconds[name].append(time.process_time() - began)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of neighbours in time: steadier than the ratio of medians."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> str:
    """Median and quartiles in milliseconds."""
    low, middle, high = (1e3 * value for value in statistics.quantiles(values, n=4))
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        sys.stdout.write(f"| {' | '.join(str(cell) for cell in row)} |\n")


def title(text: str) -> None:
    """Print what is measured, and on what."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    sys.stdout.write(f"\n## {text}\n{machine}; 1 thread, process CPU time\n\n")


def tiny_wan(seed: int = 0) -> WanTransformer3DModel:
    """The Wan of research/bench.md A: dim 128, 6 layers, 4 heads; frozen, float32."""
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=LATENTS[0],
        out_channels=LATENTS[0],
        text_dim=TEXT,
        freq_dim=256,
        ffn_dim=512,
        num_layers=6,
        rope_max_seq_len=64,
    ).requires_grad_(False)


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text and a coverage of one region (a box of a quarter of the picture)."""
    made = torch.Generator().manual_seed(seed)
    latents = torch.randn(BATCH, *LATENTS, generator=made)
    text = torch.randn(BATCH, TOKENS, TEXT, generator=made)
    coverage = torch.zeros(BATCH, 1, *LATENTS[1:])
    coverage[..., 8:24, 8:24] = 1
    return latents, text, coverage

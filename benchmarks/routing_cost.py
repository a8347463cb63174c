"""CPU seconds of a training step with and without token routing: Wan's blocks, 1024 image tokens.

One run, one thread, cases interleaved: forward, backward, clipping and AdamW on a LoRA of rank 8,
with all tokens, with half and with a quarter of them kept in the blocks [2, -4). `/ window` is the
ratio of the routed blocks alone (all of the model without them is timed and taken off both sides);
the FLOPs ratio is that of `frisket.routing.flops`. The blocks are narrowed by the families' contract
tests' own carrier (tests/contracts/routing/small_router.py), not by the trainer.
"""

import measure  # first: it sets the number of threads torch starts with  # noqa: I001
import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel

sys.path.insert(0, str(Path(__file__).parents[1]))  # the carrier lies among the tests

SIDE = 64  # cells: 32 x 32 tokens
TOKENS = 1024
START, END = 2, -4
SHARES = (0.5, 0.25)
CHANCE, FULL_FROM = 0.25, 0.85  # the defaults of [routing]


class WanBlocks:
    """Wan's blocks as the router has them: hidden states of the image, and their places."""

    shared = False

    def list_blocks(self, denoiser: Any) -> Any:
        from frisket.families.routes import align  # noqa: PLC0415
        from frisket.families.shared.routes.stacks import list_stack  # noqa: PLC0415

        narrow = align(rotary_emb=("image", 1))
        return list_stack(denoiser, "blocks", output=None, narrow=narrow)


class Routed:
    """A family's streams with these routes."""

    def __init__(self, streams: Any) -> None:
        self.streams, self.routes = streams, WanBlocks()


def build(layers: int, width: int) -> Any:
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
    lora.attach(
        denoiser,
        lora.LoraSpec(rank=measure.RANK, targets=targets, dead=dead),
        seed=0,
        streams=family.streams,
    )
    return denoiser.train()


def time_steps(layers: int, width: int, repeats: int) -> None:
    """Print the table of one model."""
    from tests.contracts.routing.small_router import carry_tokens  # noqa: PLC0415

    from frisket.families.base import FAMILIES  # noqa: PLC0415
    from frisket.routing.flops import (  # noqa: PLC0415
        SAVED_SCORES,
        count_step,
        expect_routed,
        mix_ratios,
    )

    family = FAMILIES.load("wan")
    denoiser = build(layers, width)
    short = build(layers - len(range(layers)[START:END]), width)
    noisy, target = torch.randn(2, 1, 16, 1, SIDE, SIDE).unbind()
    conditioning, t = {"text": torch.randn(1, 64, 64)}, torch.tensor([0.5])

    def step(model: Any, share: float) -> Callable[[], None]:
        trained = [value for value in model.parameters() if value.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)

        def run() -> None:
            tokens = torch.randperm(TOKENS)[: int(share * TOKENS)].sort().values[None]
            if share < 1:
                with carry_tokens(Routed(family.streams), model, tokens, (START, END)):
                    prediction = family.predict(model, noisy, t, conditioning)
            else:
                prediction = family.predict(model, noisy, t, conditioning)
            (prediction - target).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return run

    cases = {f"{share:g}": step(denoiser, share) for share in (1.0, *SHARES)}
    seconds = measure.interleaved({**cases, "short": step(short, 1.0)}, repeats, warm_up=1)
    cost = count_step(
        denoiser,
        family.streams,
        lambda: family.predict(denoiser, noisy, t, conditioning),
        backward=SAVED_SCORES,
    )
    window = cost.measure_window(START, END)
    measure.title(
        f"A routed step: {layers} blocks of width {width}, {TOKENS} image tokens, window"
        f" [{START}, {END}): {len(range(layers)[START:END])} blocks, {window:.0%} of the FLOPs"
    )
    full, rest = seconds["1"], statistics.median(seconds["short"])
    routed_share = expect_routed(CHANCE, FULL_FROM)
    rows = [("all", measure.spread(full), "1.00", "1.00", "1.00", "1.00")]
    for share in SHARES:
        routed = seconds[f"{share:g}"]
        ratio = measure.ratio(full, routed)
        inner = (statistics.median(full) - rest) / (statistics.median(routed) - rest)
        rows.append(
            (
                f"{share:.0%}",
                measure.spread(routed),
                f"{ratio:.2f}",
                f"{inner:.2f}",
                f"{cost.predict_ratio(share, START, END):.2f}",
                f"{mix_ratios(ratio, routed_share):.2f}",
            )
        )
    header = ("kept", "CPU ms (quartiles)", "steps/s", "/ window", "by FLOPs", "a run's")
    measure.table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="*", default=[16, 30])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    for layers in chosen.layers:
        time_steps(layers, chosen.width, chosen.repeats)


if __name__ == "__main__":
    main()

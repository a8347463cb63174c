"""Teach a copy of the packaged pocket base two shapes on one wide picture, for the benchmark alone.

    python -m benchmarks.effects.pair_base OUT

The packaged base never saw more than one shape a picture, nor another size than 32 x 32. This goes
on from it on wide pictures (32 x 64) of two shapes, three steps in four, and on the corpus it was
made on, one step in four, and writes OUT/denoiser, a folder `model.source` may name. Adam at a
constant rate, then a linear cool-down, in two sittings; EMA weights; a step's data and noise are
functions of the step. Resumes from OUT/state.pt. One caption in eight is never shown
(`PairScene.held_out`, `world.is_held_out`).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from frisket.disk.atomic import replacing
from frisket.families.base import Parts, Source
from frisket.families.models.pocket.family import FAMILY, PocketVae
from frisket.families.shared.pocket.text import PocketText, embed
from frisket.pocket.pairs import draw_pair, generate_pair
from frisket.pocket.world import Scene, draw, is_held_out, random_scene

BATCH, RATE, WARM, COOL, EMA_EVERY, EMA = 16, 5e-4, 50, 0.3, 5, 0.98
SQUARE = 4  # every so many steps the pictures are those of the packaged base
EMPTY, COLOURLESS, WORDLESS = 0.15, 0.2, 0.1  # shares of halves, of subjects, of captions
SITTINGS = (1000, 1500)  # steps at the end of each; the rate cools down twice


def _name_subject(scene: Scene, rng: np.random.RandomState) -> str:
    """The subject's phrase, now and then without its colour."""
    if not scene.shape:
        return ""
    return f"a {'' if rng.rand() < COLOURLESS else scene.colour} {scene.shape}"


def write_caption(halves: list[Scene], rng: np.random.RandomState) -> str:
    """A caption of one or two subjects, now and then nothing at all."""
    if rng.rand() < WORDLESS:
        return ""
    subjects = [phrase for phrase in (_name_subject(half, rng) for half in halves) if phrase]
    return f"{' and '.join(subjects) or 'nothing'} on {halves[0].background.words}"


def draw_batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents `b 12 1 16 w` and tokens `b 12 64` of step `step`."""
    rng = np.random.RandomState(1_000_000 + step)
    pictures, captions = [], []
    while len(pictures) < BATCH:
        if step % SQUARE == 0:
            scene = random_scene(rng, empty=EMPTY)
            shown, halves, picture = not is_held_out(scene), [scene], draw(scene)[0]
        else:
            pair = generate_pair(rng, empty=EMPTY)
            shown, halves, picture = not pair.held_out, [pair.left, pair.right], draw_pair(pair)[0]
        if shown:
            pictures.append(picture)
            captions.append(write_caption(halves, rng))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[:, :, None]
    return PocketVae().encode(pixels.float() / 127.5 - 1), embed(captions)


def take_step(net: torch.nn.Module, step: int) -> torch.Tensor:
    """The loss of one step: rectified flow at the packaged base's density of t."""
    clean, tokens = draw_batch(step)
    generator = torch.Generator().manual_seed(1_000_000 + step)
    t = torch.sigmoid(torch.randn(BATCH, generator=generator))
    noise = torch.randn(clean.shape, generator=generator)
    level = t[:, None, None, None, None]
    velocity = FAMILY.predict(net, (1 - level) * clean + level * noise, t, {"tokens": tokens})
    return (velocity - (noise - clean)).square().mean()


def make_pair_base(out: Path) -> Path:
    """Train in SITTINGS, or go on training, and write OUT/denoiser; returns OUT."""
    for steps in SITTINGS:
        train_until(out, steps)
    return out


def train_until(out: Path, steps: int) -> None:
    """One sitting: go on from OUT/state.pt, or the packaged base; write OUT/denoiser."""
    out.mkdir(parents=True, exist_ok=True)
    net = FAMILY.load_denoiser(Source("image")).train().requires_grad_(True)
    net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    state_path, first = out / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]
    began, losses = time.process_time(), []
    for step in range(first, steps):
        rate = RATE * min(1.0, (step + 1) / WARM, (steps - step) / (steps * COOL))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = take_step(net, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % EMA_EVERY == 0:
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - EMA**EMA_EVERY)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            cost = (time.process_time() - began) / (step + 1 - first)
            print(step + 1, f"loss {np.mean(losses[-100:]):.4f}", f"{cost:.2f} s", flush=True)
            with replacing(state_path) as draft:
                torch.save(
                    {
                        "net": net.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average,
                        "step": step + 1,
                    },
                    draft,
                )
    net.load_state_dict(average)
    parts = Parts("image", PocketVae(), PocketText(), net.requires_grad_(False).eval())
    FAMILY.save(parts, out)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    make_pair_base(options.out)


if __name__ == "__main__":
    main()

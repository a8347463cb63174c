"""Pretrain the pocket base on the procedural world. Resumable; the same seeds give the same run.

    python scripts/pretrain_pocket.py OUT --steps 8000 --threads 2

Constant rate, then a linear cool-down over the last fifth, so that a run cut short can be finished
by calling it again with fewer --steps. Writes OUT/state.pt as it goes and OUT/image.safetensors
(float16 EMA weights) at the end.
"""

import argparse
import time
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from frisket.families.models.pocket import build_image_net, embed, fold
from frisket.pocket.world import draw, held_out, random_scene

BATCH, RATE, COOL, EMA_EVERY = 32, 1e-3, 0.2, 10


def caption_of(scene, rng: np.random.RandomState) -> str:
    """The scene's caption, sometimes with a phrase (or all of it) left out, as people write them."""
    subject, background = scene.caption.split(" on ", 1)
    draw_ = rng.rand()
    if draw_ < 0.10:
        return ""
    if draw_ < 0.18:
        return subject
    if draw_ < 0.26:
        return f"on {background}"
    if draw_ < 0.31 and scene.shape:
        return f"a {scene.shape} on {background}"
    return scene.caption


def batch(rng: np.random.RandomState) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents `b 12 16 16` and token embeddings `b 12 64` of fresh scenes."""
    drawn = (random_scene(rng, empty=0.15) for _ in count())
    scenes = list(islice((scene for scene in drawn if not held_out(scene)), BATCH))
    pictures = torch.from_numpy(np.stack([draw(scene)[0] for scene in scenes]))
    clips = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return fold(clips), embed([caption_of(scene, rng) for scene in scenes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    net = build_image_net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    ema = {name: value.detach().clone() for name, value in net.state_dict().items()}
    state_path, start = options.out / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        ema, start = state["ema"], state["step"]

    began, losses = time.time(), []
    for step in range(start, options.steps):
        rng = np.random.RandomState(
            step
        )  # the data of a step is a function of the step: exact resume
        generator = torch.Generator().manual_seed(step)
        left = (options.steps - step) / (options.steps * COOL)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * min(1.0, left)
        clean, tokens = batch(rng)
        t = torch.sigmoid(torch.randn(BATCH, generator=generator))
        noise = torch.randn(clean.shape, generator=generator)
        level = t[:, None, None, None]
        noisy = ((1 - level) * clean + level * noise).to(memory_format=torch.channels_last)
        loss = functional.mse_loss(net(noisy, t * 1000, tokens).sample, noise - clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % EMA_EVERY == 0:
            keep = min(0.999, (1 + step) / (10 + step)) ** EMA_EVERY
            for name, value in net.state_dict().items():
                ema[name].lerp_(value, 1 - keep)
        if (step + 1) % 100 == 0:
            rate = (time.time() - began) / (step + 1 - start)
            print(step + 1, f"loss {np.mean(losses[-100:]):.4f}", f"{rate:.3f} s/step", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            pack = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema,
                "step": step + 1,
            }
            torch.save(pack, state_path.with_suffix(".tmp"))
            state_path.with_suffix(".tmp").replace(state_path)
    half = {name: value.half().contiguous() for name, value in ema.items()}
    save_file(half, options.out / "image.safetensors")


if __name__ == "__main__":
    main()

"""Pretrain the pocket bases on the procedural world. Resumable; the same seeds give the same run.

    python scripts/pretrain_pocket.py image OUT --steps 5800
    python scripts/pretrain_pocket.py image OUT --steps 6500 --focus checks
    python scripts/pretrain_pocket.py video OUT --steps 3700 --start OUT/image.safetensors
    python scripts/pretrain_pocket.py dit OUT --steps 10000 --batch 16 --compile

The shipped weights were made in more sittings, each a resume of the one before: image to 4000, 4500
(of --steps 6500), 5800, 6500 with --focus checks; video to 1500 (of 3000), 2300, 3700, begun from
the image base at 4000; dit to 8000, 8500 (of --steps 12000), 10000. So these commands give their
like, not their bytes.

Constant rate, then a linear cool-down over the last fifth, so that a run cut short can be finished
by calling it again with fewer --steps. --focus shows one background pattern more often: which
colour of a checkerboard comes first is what the model learns last. Writes OUT/VARIANT.pt as it goes
and OUT/VARIANT.safetensors (float16 EMA weights) at the end. One caption in eight
(`world.is_held_out`) is never shown.
"""

import argparse
import time
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from frisket.families.models.pocket.family import FAMILY
from frisket.families.models.pocket.unet import CHANNELS
from frisket.families.models.pocket.weights import build_denoiser
from frisket.families.shared.pocket.text import embed
from frisket.families.shared.pocket.vae import PocketVae
from frisket.pocket.world import MOTIONS, draw, frames_of, is_held_out, random_scene

RATE, COOL, EMA_EVERY = 1e-3, 0.2, 10
FRAMES = 5
OTHERS = 0.3  # share of the other patterns that is kept under --focus
STILLS = 8  # every so many steps the clip model sees pictures


def caption_of(scene, rng: np.random.RandomState) -> str:
    """The scene's caption, now and then with a phrase, or all of it, left out."""
    subject, background = scene.caption.split(" on ", 1)
    chance = rng.rand()
    if chance < 0.10:
        return ""
    if chance < 0.18:
        return subject
    if chance < 0.26:
        return f"on {background}"
    if chance < 0.31 and scene.shape:
        return f"a {scene.shape} on {background}"
    return scene.caption


def batch(rng: np.random.RandomState, size: int, frames: int, vae: PocketVae, focus: str = ""):
    """Clean latents `b c f h w` and token embeddings `b 12 64` of fresh scenes."""
    motions = tuple(MOTIONS) if frames > 1 else None
    drawn = (random_scene(rng, empty=0.15, motions=motions) for _ in count())
    shown = (scene for scene in drawn if not is_held_out(scene))
    if focus:
        shown = (s for s in shown if s.background.pattern == focus or rng.rand() < OTHERS)
    scenes = list(islice(shown, size))
    clips = np.stack([[draw(each)[0] for each in frames_of(scene, frames)] for scene in scenes])
    pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return vae.encode(pixels), embed([caption_of(scene, rng) for scene in scenes])


def warm(net, start: Path) -> None:
    """Begin the clip model as the image model: every frame read and painted alike."""
    state = {name: value.float() for name, value in load_file(start).items()}
    copies = CHANNELS["video"] // CHANNELS["image"]
    state["conv_in.weight"] = state["conv_in.weight"].repeat(1, copies, 1, 1) / copies
    state["conv_out.weight"] = state["conv_out.weight"].repeat(copies, 1, 1, 1)
    state["conv_out.bias"] = state["conv_out.bias"].repeat(copies)
    net.load_state_dict(state)


def build(variant: str, start: Path | None, *, compiled: bool):
    """The denoiser that is trained; `compiled` is for the transformer's blocks."""
    net = build_denoiser(variant)
    if start:
        warm(net, start)
    if variant in CHANNELS:  # the UNets
        net = net.to(memory_format=torch.channels_last)
    if compiled:
        for block in net.blocks:
            block.compile()
    return net


def main() -> None:  # noqa: PLR0915  a script reads best in one piece
    """Train one variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=("image", "video", "dit"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--compile", action="store_true", help="of the transformer's blocks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--focus", default="")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    net = build(options.variant, options.start, compiled=options.compile)
    vae = PocketVae(FAMILY.variants[options.variant].grid.temporal)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    ema = {name: value.detach().clone() for name, value in net.state_dict().items()}
    state_path, first = options.out / f"{options.variant}.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        ema, first = state["ema"], state["step"]

    began, losses = time.time(), []
    for step in range(first, options.steps):
        # The data and noise of a step are functions of the step: exact resume.
        rng, generator = np.random.RandomState(step), torch.Generator().manual_seed(step)
        left = (options.steps - step) / (options.steps * COOL)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * min(1.0, left)
        still = options.variant != "video" or step % STILLS == 0
        clean, tokens = batch(rng, options.batch, 1 if still else FRAMES, vae, options.focus)
        t = torch.sigmoid(torch.randn(options.batch, generator=generator))
        noise = torch.randn(clean.shape, generator=generator)
        level = t[:, None, None, None, None]
        noisy = (1 - level) * clean + level * noise
        velocity = FAMILY.predict(net, noisy, t, {"tokens": tokens})
        error = (velocity - (noise - clean)).square().mean((1, 2, 3, 4))
        if options.variant == "video":
            error = error * (t / t.clamp_min(0.3)) ** 2  # a clean-clip error is divided by t^2
        loss = error.mean()
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
            rate = (time.time() - began) / (step + 1 - first)
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
    save_file(half, options.out / f"{options.variant}.safetensors")


if __name__ == "__main__":
    main()

"""Pretrain the pocket image-to-video model from the packaged clip model. Resumable, seeded.

    nice -n 10 python scripts/pretrain_pocket_i2v.py OUT --steps 600

It learns a wide input layer whole, and of its convolutions and attention a difference of low rank:
that, in float16, is all that is packaged (OUT/video-i2v.safetensors; see
`families.models.pocket.weights`). As Wan's image-to-video models do, it sees the first frame of
most clips (SHARES), of some further whole frames, of some nothing; never a part of a frame. The
rate is constant and falls over the last fifth. One caption in eight (`world.is_held_out`) is never
shown.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from scripts.pretrain_pocket import FRAMES, STILLS, batch

from frisket.families.models.pocket.family import FAMILY
from frisket.families.models.pocket.first_frame import show_clip
from frisket.families.models.pocket.weights import build_denoiser, read_packaged, widen_input
from frisket.families.shared.pocket.vae import PocketVae

RATE, COOL, EMA_EVERY = 1e-3, 0.2, 10
RANKS = {"conv": 16, "attention": 8}
SHARES = (0.7, 0.85)  # of clips shown their first frame; those, and ones shown more frames
ATTENTION = r".*\.(to_q|to_k|to_v|to_out\.0)"
LAYERS = rf".*\.(conv1|conv2)|{ATTENTION}"


def build():
    """The clip model with a wide input layer and the difference that is learned."""
    net = build_denoiser("video-i2v")
    net.load_state_dict(widen_input(read_packaged("video")))
    config = LoraConfig(
        r=RANKS["conv"],
        lora_alpha=RANKS["conv"],
        target_modules=LAYERS,
        rank_pattern={ATTENTION: RANKS["attention"]},
        alpha_pattern={ATTENTION: RANKS["attention"]},
    )
    inject_adapter_in_model(config, net)
    for name, value in net.named_parameters():
        value.requires_grad_("lora_" in name or name.startswith("conv_in"))
    return net.to(memory_format=torch.channels_last)


def list_learned(net) -> dict[str, torch.Tensor]:
    """What is learned, by the names it is packaged under."""
    return {
        name.replace(".default", ""): value
        for name, value in net.named_parameters()
        if value.requires_grad
    }


def show(clip: torch.Tensor, rng: np.random.RandomState) -> torch.Tensor:
    """`condition` of clips b 3 F H W: the first frame, or more whole frames, or nothing."""
    visible = torch.zeros_like(clip[:, :1])
    if clip.shape[2] > 1:
        for row in visible:
            chance = rng.rand()
            row[:, 0] = float(chance < SHARES[1])
            if SHARES[0] <= chance < SHARES[1]:
                row[:, 1:] = torch.from_numpy(rng.rand(clip.shape[2] - 1, 1, 1) < 0.5).float()
    return show_clip(clip, visible)["condition"]


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    net, vae = build(), PocketVae(4)
    learned = list_learned(net)
    optimizer = torch.optim.AdamW(learned.values(), RATE, betas=(0.9, 0.99), weight_decay=0.0)
    ema = {name: value.detach().clone() for name, value in learned.items()}
    state_path, first = options.out / "video-i2v.pt", 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        for name, value in learned.items():
            value.data.copy_(state["net"][name])
        optimizer.load_state_dict(state["optimizer"])
        ema, first = state["ema"], state["step"]
    began, losses = time.time(), []
    for step in range(first, options.steps):
        rng, generator = np.random.RandomState(step), torch.Generator().manual_seed(step)
        left = (options.steps - step) / (options.steps * COOL)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * min(1.0, left)
        still = step % STILLS == 0
        clean, tokens = batch(rng, options.batch, 1 if still else FRAMES, vae)
        conditioning = {"tokens": tokens, "condition": show(vae.decode(clean), rng)}
        t = torch.sigmoid(torch.randn(options.batch, generator=generator))
        noise = torch.randn(clean.shape, generator=generator)
        level = t[:, None, None, None, None]
        velocity = FAMILY.predict(net, (1 - level) * clean + level * noise, t, conditioning)
        error = (velocity - (noise - clean)).square().mean((1, 2, 3, 4))
        loss = (error * (t / t.clamp_min(0.3)) ** 2).mean()  # a clean-clip error is divided by t^2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % EMA_EVERY == 0:
            keep = min(0.99, (1 + step) / (10 + step)) ** EMA_EVERY
            for name, value in learned.items():
                ema[name].lerp_(value.detach(), 1 - keep)
        if (step + 1) % 50 == 0 or step + 1 == options.steps:
            rate = (time.time() - began) / (step + 1 - first)
            print(step + 1, f"loss {np.mean(losses[-50:]):.4f}", f"{rate:.3f} s/step", flush=True)
            pack = {
                "net": {name: value.detach() for name, value in learned.items()},
                "optimizer": optimizer.state_dict(),
                "ema": ema,
                "step": step + 1,
            }
            torch.save(pack, state_path.with_suffix(".tmp"))
            state_path.with_suffix(".tmp").replace(state_path)
            half = {name: value.half().contiguous() for name, value in ema.items()}
            save_file(half, options.out / "video-i2v.safetensors")


if __name__ == "__main__":
    main()

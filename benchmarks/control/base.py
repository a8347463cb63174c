"""The base ControlNet: the pocket picture model's, taught silhouettes of corpus shapes."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.control.scenes import list_scenes, stack_pictures, stack_silhouettes
from torch import Tensor, nn

from frisket.families.base import Source
from frisket.families.control.base import CONTROLS
from frisket.families.models.pocket import FAMILY
from frisket.families.shared.pocket.text import embed
from frisket.shapes import Latents, PerSample

VARIANT = "image"
STEPS, BATCH, RATE, COOL = 400, 16, 1e-3, 0.2
CAPTIONS_DROPPED = 0.1
CONTROL = CONTROLS.load("pocket")


def predict_controlled(
    net: nn.Module, denoiser: Any, noisy: Latents, t: PerSample, tokens: Tensor, control: Latents
) -> Latents:
    """The base's velocity under a ControlNet at scale 1; gradients flow to the net alone."""
    call: dict[str, Any] = {
        "sample": noisy[:, :, 0],
        "timestep": t * 1000,
        "encoder_hidden_states": tokens,
    }
    residuals = CONTROL.compute(net, denoiser, call, control, torch.ones(len(noisy)))
    velocity: Tensor = denoiser(**CONTROL.join(call, residuals), return_dict=False)[0]
    return velocity[:, :, None]


def open_controlnet(out: Path) -> Path:
    """The folder of the base ControlNet, trained where it is not there yet; resumes."""
    folder = out / "controlnet"
    if (folder / "config.json").is_file():
        return folder
    torch.manual_seed(0)
    denoiser = FAMILY.load_denoiser(Source(VARIANT))
    vae = FAMILY.load_vae(Source(VARIANT))
    net = CONTROL.start(denoiser).train()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.01)
    draft, first, losses, began = out / "controlnet.pt", 0, list[float](), time.time()
    if draft.is_file():
        state = torch.load(draft, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, STEPS):
        rng, generator = np.random.RandomState(step), torch.Generator().manual_seed(step)
        left = (STEPS - step) / (STEPS * COOL)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * min(1.0, left)
        scenes = list_scenes(rng, BATCH)
        clean = vae.encode(stack_pictures(scenes))  # type: ignore[operator]
        captions = ["" if rng.rand() < CAPTIONS_DROPPED else s.caption for s in scenes]
        t = torch.sigmoid(torch.randn(BATCH, generator=generator))
        noise = torch.randn(clean.shape, generator=generator)
        level = t[:, None, None, None, None]
        noisy = (1 - level) * clean + level * noise
        control = CONTROL.read(net, vae, stack_silhouettes(scenes))
        velocity = predict_controlled(net, denoiser, noisy, t, embed(captions), control)
        loss = (velocity - (noise - clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            rate = (time.time() - began) / (step + 1 - first)
            sys.stdout.write(
                f"controlnet {step + 1}: loss {np.mean(losses[-50:]):.4f}, {rate:.2f} s\n"
            )
            sys.stdout.flush()
            out.mkdir(parents=True, exist_ok=True)
            pack = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(pack, draft.with_suffix(".tmp"))
            draft.with_suffix(".tmp").replace(draft)
    net.save_pretrained(folder)
    return folder

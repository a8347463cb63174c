"""The quick start's subject: its little data set, and what is measured on a trained adapter.

The measurements were fixed before any result was looked at; see `Scores` for their definitions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.adapters import lora
from frisket.disk.atomic import replacing
from frisket.evaluation.metrics import drift
from frisket.families.base import Family, Parts
from frisket.inference.generate import generate
from frisket.media.frames import write_image
from frisket.pocket.judge import find_creature, judge_creature, leak
from frisket.pocket.world import (
    PATTERNS,
    Background,
    Scene,
    draw,
    is_held_out,
    random_background,
    random_creature,
    random_scene,
)

_Pictures = NDArray[np.uint8]  # n H W 3
CLIPS = 8
NEW = 32  # prompted backgrounds the subject is looked for on
PLAIN = 16  # samples that name no background
DRIFT = 32  # corpus scenes the drift is taken on
LEVELS = (0.35, 0.55, 0.75, 0.9)
BANK = 24  # backgrounds the swap may use; none of them is asked for in the measurement


@dataclass(frozen=True, slots=True)
class Scores:
    """What one trained adapter did.

    leak: share of the pixels outside the subject that have a colour of its training background, on
        samples that name no background (lower is better).
    fidelity: PSNR in dB of the subject in those samples, inside the best-fitting place of its mask.
    found: share of samples on new prompted backgrounds with the right subject (PSNR >= 12 dB) AND
        the right background (its two colours on more than 80 % of the rest).
    subject, background: the two halves of `found` alone. strict: found, and the pattern fits too.
    drift: mean squared distance of the tuned to the base model's prediction on scenes of the
        corpus, at t = 0.35, 0.55, 0.75, 0.9.
    """

    leak: float
    fidelity: float
    found: float
    subject: float
    background: float
    strict: float
    drift: float


def make_clips(folder: Path, seed: int) -> None:
    """Write CLIPS pictures of the new subject on its one background, masks and captions.

    clips/0.png ... with clips/0.txt ("sks"), and masks/0.png (grey: the subject's exact cover).
    """
    rng = np.random.RandomState(77 + seed)
    for index in range(CLIPS):
        picture, planes = draw(random_creature(rng))
        cover = np.clip(sum(planes.values()), 0, 1)
        grey = np.repeat((cover * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
        write_image(folder / "clips" / f"{index}.png", torch.from_numpy(picture))
        write_image(folder / "masks" / f"{index}.png", torch.from_numpy(grey))
        with replacing(folder / "clips" / f"{index}.txt") as draft:
            draft.write_text("sks\n", encoding="utf-8")


def backgrounds() -> tuple[list[Background], list[Background]]:
    """Backgrounds for the bank (BANK), and others the subject is looked for on (NEW), disjoint.

    Both hold every pattern about equally often.
    """
    rng = np.random.RandomState(9)
    kinds = _draw_kinds(rng)
    # Six walls are all there are: two go to the bank, four are asked for.
    shares = {pattern: 2 if pattern == "wall" else (BANK - 2) // 3 + 1 for pattern in PATTERNS}
    bank = [wall for pattern, walls in kinds.items() for wall in walls[: shares[pattern]]][:BANK]
    fresh = [wall for walls in kinds.values() for wall in walls if wall not in bank]
    while len(fresh) < NEW:
        background = random_background(rng)
        if background not in bank and background not in fresh:
            fresh.append(background)
    return bank, fresh[:NEW]


def _draw_kinds(rng: np.random.RandomState) -> dict[str, list[Background]]:
    """Different backgrounds by pattern: six of each at least, BANK + NEW in all."""
    kinds: dict[str, list[Background]] = {pattern: [] for pattern in PATTERNS}
    while min(map(len, kinds.values())) < 6 or sum(map(len, kinds.values())) < BANK + NEW:
        background = random_background(rng)
        if background not in kinds[background.pattern]:
            kinds[background.pattern].append(background)
    return kinds


def sample(family: Family, parts: Parts, prompts: list[str], seed: int) -> _Pictures:
    """One picture a prompt, uint8 n 32 32 3."""
    variant = family.variants[parts.variant]
    pictures = generate(
        family,
        parts,
        prompts,
        seeds=[seed + index for index in range(len(prompts))],
        height=variant.height,
        width=variant.width,
        frames=1,
        steps=variant.steps,
        guidance=variant.guidance,
    )
    return np.stack([np.asarray(picture.frames[0]) for picture in pictures])


@torch.no_grad()
def drift_of(family: Family, parts: Parts) -> float:
    """Mean squared distance to the base's prediction on held-out corpus scenes."""
    vae, text, denoiser = parts.vae, parts.text, parts.denoiser
    assert vae is not None
    assert text is not None
    assert denoiser is not None
    rng = np.random.RandomState(11)
    scenes: list[Scene] = []
    while len(scenes) < DRIFT:
        scene = random_scene(rng)
        if is_held_out(scene):
            scenes.append(scene)
    pixels = np.stack([draw(scene)[0] for scene in scenes])
    clip = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1
    clean = family.encode(vae, clip)
    conditioning = family.embed(text, [scene.caption for scene in scenes])
    objective = family.objective(parts.variant)
    generator = torch.Generator().manual_seed(3)
    total = 0.0
    for level in LEVELS:
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.full((DRIFT,), level)
        noisy, _ = objective.corrupt(clean, noise, t)
        tuned = family.predict(denoiser, noisy, t, conditioning)
        with lora.frozen(denoiser):
            base = family.predict(denoiser, noisy, t, conditioning)
        total += drift(tuned, base)
    return total / len(LEVELS)


def measure(family: Family, parts: Parts) -> tuple[Scores, _Pictures, _Pictures]:
    """Scores, the samples that name no background, and those on new backgrounds (in that order)."""
    _, fresh = backgrounds()
    plain = sample(family, parts, ["sks"] * PLAIN, seed=1000)
    placed = sample(
        family, parts, [f"sks on {background.words}" for background in fresh], seed=2000
    )
    verdicts = judge_creature(placed, fresh)
    scores = Scores(
        leak=float(leak(plain).mean()),
        fidelity=float(find_creature(plain)[0].mean()),
        drift=drift_of(family, parts),
        **{name: float(np.mean(value)) for name, value in verdicts.items()},
    )
    return scores, plain, placed

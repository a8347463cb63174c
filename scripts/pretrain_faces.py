"""Train the tiny face embedder on procedural people, and say how well it tells unseen ones apart.

    python scripts/pretrain_faces.py OUT.safetensors --steps 1500
    python scripts/pretrain_faces.py OUT.safetensors --verify      # the numbers alone

ArcFace (arXiv:1801.07698, equation 3) with scale 64 and a margin that grows to 0.5 over the first
third: from scratch the whole margin does not let the angles form. The same seeds and thread count
give the same run.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from frisket.faces.align import align_faces
from frisket.faces.embedders.tiny import PIXELS, SHAPE
from frisket.faces.iresnet import IResNet, build_iresnet
from frisket.pocket.portraits import draw_person, sample_person, sample_view

SCALE, MARGIN, RAMP = 64.0, 0.5, 0.33
SIDES = (40, 48, 64, 80)  # pixels of the pictures
JITTER = 0.012  # of the key points, in shares of the side: no detector is exact
UNSEEN = 10_000  # seeds from here on are never trained on


def draw_crops(seeds: range, views: int) -> Tensor:
    """Aligned faces `people views 3 40 40`, uint8."""
    people = []
    for seed in seeds:
        rng = np.random.RandomState(seed)
        person = sample_person(rng)
        crops = []
        for _ in range(views):
            side = SIDES[rng.randint(len(SIDES))]
            portrait = draw_person(person, sample_view(rng), side)
            points = portrait.keypoints + rng.randn(5, 2).astype(np.float32) * JITTER * side
            pixels = torch.from_numpy(portrait.picture).permute(2, 0, 1)[None] / 127.5 - 1
            aligned = align_faces(pixels, torch.from_numpy(points)[None])
            crops.append(functional.interpolate(aligned, (PIXELS, PIXELS), mode="area")[0])
        people.append(torch.stack(crops))
    return ((torch.stack(people) + 1) * 127.5).round().clamp(0, 255).byte()


def margin_logits(cosines: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Scale * cos(theta + m) in the column of the label, scale * cos(theta) elsewhere."""
    wide = cosines.clamp(-1 + 1e-6, 1 - 1e-6)
    own = wide.gather(1, labels[:, None])
    turned = own * math.cos(margin) - (1 - own**2).sqrt() * math.sin(margin)
    # Past pi - m the cosine would rise again: go on in a straight line, as everybody does.
    turned = torch.where(own > -math.cos(margin), turned, own - math.sin(margin) * margin)
    return SCALE * wide.scatter(1, labels[:, None], turned)


def train(crops: Tensor, steps: int, batch: int, device: str) -> IResNet:
    """The network after `steps` batches of `crops` (people views 3 h w)."""
    torch.manual_seed(0)
    people, views = crops.shape[:2]
    model = IResNet(SHAPE).to(device)
    centres = nn.Parameter(torch.randn(people, SHAPE.embedding, device=device) * 0.01)
    optimizer = torch.optim.AdamW([*model.parameters(), centres], lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    flat, generator = crops.flatten(0, 1).to(device), torch.Generator().manual_seed(0)
    start = time.time()
    for step in range(steps):
        rows = torch.randint(people * views, (batch,), generator=generator)
        gain = 1 + 0.2 * torch.randn(batch, 1, 1, 1, generator=generator).to(device)
        faces = (flat[rows.to(device)].float() / 127.5 * gain).clamp(0, 2) - 1
        mirror = (torch.rand(batch, 1, 1, 1, generator=generator) < 0.5).to(device)
        faces = torch.where(mirror, faces.flip(-1), faces)
        labels = (rows // views).to(device)
        cosines = functional.normalize(model(faces)) @ functional.normalize(centres).T
        margin = MARGIN * min(step / (RAMP * steps), 1.0)
        loss = functional.cross_entropy(margin_logits(cosines, labels, margin), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"{step:5} loss {loss.item():7.3f} {time.time() - start:6.0f} s", flush=True)
    return model.eval().cpu()


@torch.no_grad()
def verify(model: IResNet, people: int, views: int, pairs: int = 6000) -> dict[str, float]:
    """Unseen people: accuracy of same or not (threshold from other people), retrieval, cosines."""
    units = []
    for half in range(2):
        begin = UNSEEN + half * people
        crops = draw_crops(range(begin, begin + people), views)
        rows = model(crops.flatten(0, 1).float() / 127.5 - 1)
        units.append(functional.normalize(rows).view(people, views, -1))
    rng = np.random.RandomState(0)
    scores = [_score_pairs(unit, rng, pairs) for unit in units]
    same, other = scores[0]
    levels = torch.linspace(-1, 1, 401)
    accuracies = [_measure_accuracy(same, other, float(level)) for level in levels]
    threshold = float(levels[int(np.argmax(accuracies))])
    same, other = scores[1]
    gallery, probes = units[1][:, 0], units[1][:, 1:].flatten(0, 1)
    names = torch.arange(people).repeat_interleave(views - 1)
    cut = float(other.quantile(0.99))
    return {
        "accuracy": _measure_accuracy(same, other, threshold),
        "threshold": threshold,
        "accepted at 1% false": float((same > cut).float().mean()),
        f"retrieval of {people}": float(((probes @ gallery.T).argmax(1) == names).float().mean()),
        "cosine same": float(same.mean()),
        "cosine other": float(other.mean()),
    }


def _measure_accuracy(same: Tensor, other: Tensor, threshold: float) -> float:
    return float(((same > threshold).float().mean() + (other <= threshold).float().mean()) / 2)


def _score_pairs(units: Tensor, rng: np.random.RandomState, pairs: int) -> tuple[Tensor, Tensor]:
    people, views = units.shape[:2]
    first = rng.randint(people, size=pairs)
    second = (first + rng.randint(1, people, size=pairs)) % people
    left = rng.randint(views, size=pairs)
    right = (left + rng.randint(1, views, size=pairs)) % views
    same = (units[first, left] * units[first, right]).sum(-1)
    other = (units[first, left] * units[second, right]).sum(-1)
    return same, other


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--verify", action="store_true", help="measure OUT, train nothing")
    options = parser.parse_args()
    if not options.verify:
        begin = time.time()
        crops = draw_crops(range(options.people), options.views)
        print(f"drawn in {time.time() - begin:.0f} s", flush=True)
        model = train(crops, options.steps, options.batch, options.device)
        weights = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        save_file({k: v.half().contiguous() for k, v in weights.items()}, options.out)
    model = build_iresnet(load_file(options.out))  # as it will be used: from half precision
    for name, value in verify(model, 150, 8).items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()

"""What cleaning, smoothing and tracking make of damaged pocket world masks, whose truth is exact.

    OMP_NUM_THREADS=1 python benchmarks/mask_mending.py

Pictures: 60 scenes at 128 px; each mask is grown by 4 px, given specks and holes, then cleaned
with refine, fill holes and largest patch. Videos: 12 clips of 40 frames; the border wobbles, one
frame in nine loses the mask, then gaps are filled and frames smoothed. Tracking: a finder that sees
the subject in every 20th frame alone, and a tracker that cuts by colour and fails in one frame in
seven. Damage and settings were fixed before the first run.
"""

from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from frisket.evaluation.mask_metrics import iou
from frisket.maskgen.base import Instance
from frisket.maskgen.cleanup.clean import Cleaning, tidy
from frisket.maskgen.job import Motion
from frisket.maskgen.tracking.temporal_smoothing import smooth_planes
from frisket.maskgen.tracking.tracker import Tracking, track
from frisket.masks.morphology import grow
from frisket.pocket.world import draw, frames_of, random_scene

SIDE, PICTURES, CLIPS, FRAMES = 128, 60, 12, 40
MOTIONS = ("rising", "falling", "leftward", "rightward")


def drawn(one) -> tuple[Tensor, Tensor]:
    picture, planes = draw(one, SIDE)
    return torch.from_numpy(picture), torch.from_numpy(planes["subject"])


def damaged(mask: Tensor, rng: np.random.RandomState) -> Tensor:
    """4 px too wide, 12 specks outside, 4 holes inside."""
    wide = grow(mask[None], 4.0)[0].numpy().copy()
    for _ in range(12):
        y, x = rng.randint(0, SIDE, 2)
        cv2.circle(wide, (int(x), int(y)), 2, 1.0, -1)
    inside = np.argwhere(mask.numpy() > 0.5)
    for y, x in inside[rng.randint(0, len(inside), 4)]:
        cv2.circle(wide, (int(x), int(y)), 3, 0.0, -1)
    return torch.from_numpy(wide)


def wobbled(mask: Tensor, rng: np.random.RandomState) -> Tensor:
    """The border moved in and out by a smooth random field of 3 px."""
    inside = (mask.numpy() > 0.5).astype(np.uint8)
    far = cv2.distanceTransform(inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
        1 - inside, cv2.DIST_L2, 5
    )
    noise = cv2.GaussianBlur(rng.standard_normal(inside.shape), (0, 0), 6)
    return torch.from_numpy((far + 3 * noise / noise.std() > 0).astype(np.float32))


def mean_iou(found: list[Tensor], true: list[Tensor]) -> tuple[float, float]:
    each = [iou(a >= 0.5, b >= 0.5) for a, b in zip(found, true, strict=True)]
    return float(np.mean(each)), float(np.min(each))


def row(name: str, scores: tuple[float, float]) -> None:
    print(f"| {name} | {scores[0]:.3f} | {scores[1]:.3f} |")


def pictures() -> None:
    rng = np.random.RandomState(0)
    shots = [drawn(random_scene(rng)) for _ in range(PICTURES)]
    bad = [damaged(mask, rng) for _, mask in shots]
    how = Cleaning(refine=8.0, fill_holes=True, largest=True)
    good = [tidy(mask, how, picture) for mask, (picture, _) in zip(bad, shots, strict=True)]
    true = [mask for _, mask in shots]
    row("pictures, damaged", mean_iou(bad, true))
    row("pictures, refine + holes + largest", mean_iou(good, true))


def videos() -> None:
    rng = np.random.RandomState(1)
    clips = []
    for index in range(CLIPS):
        moving = random_scene(rng, motions=(MOTIONS[index % 4],))
        shots = [drawn(one) for one in frames_of(moving, FRAMES, 0.3)]
        bad = [
            torch.zeros_like(mask) if at % 9 == 5 else wobbled(mask, rng)
            for at, (_, mask) in enumerate(shots)
        ]
        clips.append((shots, bad))
    true = [mask for shots, _ in clips for _, mask in shots]
    row("videos, damaged", mean_iou([mask for _, bad in clips for mask in bad], true))
    for smooth in ("median", "motion"):
        motion = Motion(smooth=smooth, radius=2, gap=4)
        found = [
            planes["subject"]
            for shots, bad in clips
            for _, planes in smooth_planes(
                ({"subject": mask} for mask in bad),
                (picture for picture, _ in shots),
                ("subject",),
                motion,
            )
        ]
        row(f"videos, gaps filled, {smooth} of 5", mean_iou(found, true))


class ByColour:
    """A tracker that cuts each frame at the seed's colour, and loses one frame in seven."""

    def track(self, frames, seeds, *, reverse=False):
        """As base.Tracker."""
        tracks = {}
        for seed in seeds:
            colour = frames[seed.frame][seed.mask >= 0.5].float().median(0).values
            near = (frames.float() - colour).abs().amax(-1) < 40
            plane = near.float()
            plane[[at for at in range(len(frames)) if at % 7 == 3 and at != seed.frame]] = 0
            if reverse:
                plane[seed.frame + 1 :] = 0
            else:
                plane[: seed.frame] = 0
            tracks[seed.number] = plane
        return tracks


def tracking() -> None:
    rng = np.random.RandomState(2)
    found, true, switches = [], [], 0
    for index in range(CLIPS):
        moving = random_scene(rng, motions=(MOTIONS[index % 4],))
        shots = [drawn(one) for one in frames_of(moving, FRAMES, 0.3)]
        keyed = (0, 20, FRAMES - 1)

        def find(picture, shots=shots, keyed=keyed):
            for frame in keyed:
                if torch.equal(picture, shots[frame][0]):
                    return [Instance("subject", shots[frame][1])]
            return []

        frames = track(
            (p for p, _ in shots), find, ByColour(), Tracking(every=20, window=30, gap=6)
        )
        numbers = []
        for tracked, (_, mask) in zip(frames, shots, strict=True):
            true.append(mask)
            found.append(tracked[0].instance.mask if tracked else torch.zeros_like(mask))
            numbers += [one.number for one in tracked[:1]]
        switches += sum(a != b for a, b in pairwise(numbers))
    row(
        f"tracking, one detection in 20 frames ({switches} changes of number)",
        mean_iou(found, true),
    )


if __name__ == "__main__":
    print("| pocket world, IoU with the exact mask | mean | worst |\n|---|---|---|")
    pictures()
    videos()
    tracking()

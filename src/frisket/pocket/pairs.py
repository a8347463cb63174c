"""Wide pictures of two: two scenes of the pocket world side by side before one background.

The first thing the caption names stands in the left half, the second in the right half. Every half
is a picture of the world of its own, which is how it is drawn and how it is judged: whatever
stands across the middle is neither. Patterns repeat every 8 pixels, so a background has no seam.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from frisket.pocket.judge import AGREES, MATCH_DB, Judgement, find_creature, judge
from frisket.pocket.judge import measure_backgrounds as measure_half_backgrounds
from frisket.pocket.world import SIZE, Background, Scene, draw, is_held_out, random_scene

WIDTH = 2 * SIZE  # pixels; the height is SIZE
CLEAR_DB = 3.0  # by which a creature's PSNR must exceed the other's; an even blend has 0
Wide = UInt8[np.ndarray, "n 32 64 3"]


@dataclass(frozen=True, slots=True)
class PairScene:
    """Two scenes of one background; either may hold nothing."""

    left: Scene
    right: Scene

    @property
    def background(self) -> Background:
        """That of both halves."""
        return self.left.background

    @property
    def caption(self) -> str:
        """`a red circle and a blue ring on a white wall`; an empty half goes without saying."""
        halves = (self.left, self.right)
        subjects = [half.caption.split(" on ", 1)[0] for half in halves if half.shape]
        return f"{' and '.join(subjects) or 'nothing'} on {self.background.words}"

    @property
    def held_out(self) -> bool:
        """Whether the base of pairs never saw this caption: one in eight, by its checksum."""
        return is_held_out(replace(self.left, shape=self.caption, colour=""))


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What stands in each half: `sks`, `zwx`, `blend` (both match alike), or "" (neither)."""

    left: str
    right: str

    @property
    def kind(self) -> str:
        """`right` (sks left, zwx right), `swapped`, `twins`, `one` (a creature, once) or `none`."""
        halves = (self.left, self.right)
        creatures = [word for word in halves if word in ("sks", "zwx")]
        if len(creatures) < len(halves):
            return "one" if creatures else "none"
        if self.left == self.right:
            return "twins"
        return "right" if self.left == "sks" else "swapped"

    @property
    def creatures(self) -> int:
        """How many of the two creatures are on the picture, wherever: 0, 1 or 2."""
        return len({self.left, self.right} & {"sks", "zwx"})


def generate_pair(rng: np.random.RandomState, *, empty: float = 0.0) -> PairScene:
    """Two shapes of the corpus before one background; `empty` is the share of halves of nothing."""
    left = random_scene(rng)
    while (right := random_scene(rng)).colour in _list_colours(left.background):
        pass
    right = replace(right, background=left.background)
    halves = [Scene(half.background) if rng.rand() < empty else half for half in (left, right)]
    return PairScene(*halves)


def _list_colours(background: Background) -> tuple[str, str]:
    return background.first, background.second


def draw_pair(scene: PairScene) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
    """Paint a wide scene; the picture (32 64 3) and the planes (32 64, in [0, 1]) left and right.

    Each plane is the whole subject of its half, 0 where the half holds nothing.
    """
    paints, planes = [], {}
    for index, (name, half) in enumerate((("left", scene.left), ("right", scene.right))):
        paint, parts = draw(half)
        paints.append(paint)
        plane = np.zeros((SIZE, WIDTH), np.float32)
        if parts:
            plane[:, index * SIZE : (index + 1) * SIZE] = np.clip(sum(parts.values()), 0, 1)
        planes[name] = plane
    return np.concatenate(paints, axis=1), planes


def split(pictures: UInt8[np.ndarray, "n H W 3"]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The left and right halves, each n 32 32 3; ValueError for another size."""
    if pictures.shape[1:3] != (SIZE, WIDTH):
        height, width = pictures.shape[1:3]
        raise ValueError(f"a wide picture has {SIZE} x {WIDTH} pixels, got {height} x {width}")
    return pictures[:, :, :SIZE], pictures[:, :, SIZE:]


def judge_shapes(pictures: Wide, scenes: Sequence[PairScene]) -> dict[str, float]:
    """Share of pictures whose `left`, `right` (shape and colour), `background` are as asked.

    `all` is the share with all three; a background is right when both halves show it.
    """
    verdicts = list(zip(*(judge(half) for half in split(pictures)), strict=True))
    pairs = list(zip(verdicts, scenes, strict=True))
    right = {
        "left": [_is_shown(judgements[0], scene.left) for judgements, scene in pairs],
        "right": [_is_shown(judgements[1], scene.right) for judgements, scene in pairs],
        "background": [
            all(half.background == scene.background for half in judgements)
            for judgements, scene in pairs
        ],
    }
    right["all"] = [all(row) for row in zip(*right.values(), strict=True)]
    return {name: float(np.mean(row)) if row else 0.0 for name, row in right.items()}


def _is_shown(judgement: Judgement, scene: Scene) -> bool:
    return (judgement.shape, judgement.colour) == (scene.shape, scene.colour)


def judge_pairs(pictures: Wide) -> list[PairVerdict]:
    """Which creature stands in each half.

    A half shows a creature when its template matches (PSNR >= MATCH_DB) and beats the other's by
    CLEAR_DB; a match that does not is a blend.
    """
    names = []
    for half in split(pictures):
        first, second = find_creature(half, "sks")[0], find_creature(half, "zwx")[0]
        names.append([_name(*pair) for pair in zip(first.tolist(), second.tolist(), strict=True)])
    return [PairVerdict(left, right) for left, right in zip(*names, strict=True)]


def _name(first: float, second: float) -> str:
    if max(first, second) < MATCH_DB:
        return ""
    if abs(first - second) < CLEAR_DB:
        return "blend"
    return "sks" if first > second else "zwx"


def count_verdicts(verdicts: Sequence[PairVerdict]) -> dict[str, float]:
    """Shares of the kinds of verdict, `mixup` (1 - `right`) and `found` (0 to 2, the mean)."""
    kinds = Counter(verdict.kind for verdict in verdicts)
    count = max(len(verdicts), 1)
    shares = {kind: kinds[kind] / count for kind in ("right", "swapped", "twins", "one", "none")}
    blends = sum("blend" in (verdict.left, verdict.right) for verdict in verdicts) / count
    creatures = sum(verdict.creatures for verdict in verdicts) / count
    return {"mixup": 1 - shares["right"], **shares, "blends": blends, "found": creatures}


def find_backgrounds(pictures: Wide, backgrounds: Sequence[Background]) -> Bool[np.ndarray, " n"]:
    """Whether each picture has its prompt's two colours outside the creatures, in both halves.

    As `judge_creature` has it: on more than AGREES of the pixels outside the better template.
    """
    right = np.ones(len(pictures), bool)
    for half in split(pictures):
        first, second = find_creature(half, "sks"), find_creature(half, "zwx")
        masks = np.where((first[0] >= second[0])[:, None, None], first[1], second[1])
        right &= measure_half_backgrounds(half, masks, backgrounds)["colours"] > AGREES
    return right

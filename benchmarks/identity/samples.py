"""Pictures that are asked for, sampled and scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from benchmarks.identity.adapters import FAMILY
from benchmarks.identity.people import (
    HELD_OUT,
    SIDE,
    YAWS,
    Portrait,
    sample_portrait,
    write_caption,
)
from benchmarks.identity.reading import (
    Pictures,
    Reader,
    centre_people,
    embed_pictures,
    is_right_background,
    read_pictures,
)
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from frisket.families.base import Parts
from frisket.inference import generate
from frisket.inference.methods.base import Method
from frisket.inference.sample_specs import build_spec
from frisket.pocket.world import Background, random_background

STEPS, GUIDANCE = 12, 3.0
EACH = 4  # pictures of a person in a cell
CROWD = (*HELD_OUT, *range(91_000, 91_094))  # among whom `right` looks for the nearest
REFERENCE_BACKGROUND = Background("wall", "white", "white")
ELLIPSE = (0.5, 0.52, 0.36, 0.44)  # of the region: middle and half axes, in shares of the side


@dataclass(frozen=True, slots=True)
class Ask:
    """One picture that is asked for; `word` names the subject, `looks` may be left out."""

    person: int
    looks: str
    background: Background
    seed: int  # of its noise

    def write(self, word: str = "a person", *, looks: bool = True) -> str:
        """The prompt."""
        if looks:
            return write_caption(self.looks, self.background).replace("a person", word)
        return f"{word} on {self.background.words}"


def list_asks(seed: int, people: Sequence[int], each: int = EACH) -> list[Ask]:
    """What a seed's rows are asked for: `each` pictures of every person; the same in all rows."""
    rng = np.random.RandomState(4_000 + seed)
    return [
        Ask(
            person,
            list(YAWS)[rng.randint(len(YAWS))],
            random_background(rng),
            100_000 * (seed + 1) + 100 * (person - HELD_OUT[0]) + index,
        )
        for person in people
        for index in range(each)
    ]


def draw_ask(ask: Ask) -> Portrait:
    """A drawn picture of what is asked for, which no model can better."""
    rng = np.random.RandomState(ask.seed % 2**31)
    while (portrait := sample_portrait(rng, ask.person, ask.background)).looks != ask.looks:
        pass
    return portrait


@cache
def embed_reference(person: int) -> Float[Tensor, "64"]:
    """The unit embedding of one drawn picture of a person, looking ahead before a white wall."""
    rng = np.random.RandomState(person)
    while (portrait := sample_portrait(rng, person, REFERENCE_BACKGROUND)).looks != "ahead":
        pass
    drawn = portrait.draw()
    return embed_pictures(drawn.picture[None], drawn.keypoints[None])[0]


def stack_references(asks: Sequence[Ask]) -> Float[Tensor, "b 64"]:
    """The references of the people that are asked for."""
    return torch.stack([embed_reference(ask.person) for ask in asks])


def sample_pictures(
    parts: Parts,
    asks: Sequence[Ask],
    prompts: Sequence[str],
    method: Method | None = None,
    *,
    steps: int = STEPS,
) -> Pictures:
    """One picture an ask, all in one batch, as `frisket generate` samples."""
    card = FAMILY.variants["image"]
    specs = [
        build_spec(card, prompt, ask.seed, height=SIDE, width=SIDE, steps=steps, guidance=GUIDANCE)
        for ask, prompt in zip(asks, prompts, strict=True)
    ]
    embeddings = generate.embed(FAMILY, "image", parts.text, specs)
    sampled = generate.sample(FAMILY, parts, embeddings, specs, batch=len(specs), method=method)
    return np.stack([np.asarray(picture.frames[0]) for picture in sampled])


@cache
def centre_crowd() -> Float[Tensor, "p 64"]:
    """Each centroid of CROWD."""
    return centre_people(CROWD)


def score_pictures(
    reader: Reader,
    pictures: Pictures,
    asks: Sequence[Ask],
    keypoints: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """`identity`, `right`, `background`, `looks` and `text` (README.md), means over pictures.

    `keypoints` (n 5 2) where they are known; else those that the reader finds.
    """
    points, looks = read_pictures(reader, pictures)
    keypoints = points if keypoints is None else keypoints
    likeness = embed_pictures(pictures, keypoints) @ centre_crowd().T
    wanted = torch.tensor([CROWD.index(ask.person) for ask in asks])
    behind = is_right_background(pictures, [ask.background for ask in asks])
    turned = looks == np.array([ask.looks for ask in asks])
    return {
        "identity": float(likeness[torch.arange(len(asks)), wanted].mean()),
        "right": float((likeness.argmax(1) == wanted).float().mean()),
        "background": float(behind.mean()),
        "looks": float(turned.mean()),
        "text": float((behind & turned).mean()),
    }


def measure_points(points: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Mean distance of key points n 5 2 in hundredths of the side."""
    return float(100 * np.linalg.norm(points - wanted, axis=-1).mean() / SIDE)


def draw_region() -> NDArray[np.float32]:
    """The ellipse round the head's usual place, 32 x 32, 1 inside and 0 outside."""
    x, y, across, down = ELLIPSE
    line = (np.arange(SIDE) + 0.5) / SIDE
    rows, columns = np.meshgrid(line, line, indexing="ij")
    return (np.hypot((columns - x) / across, (rows - y) / down) <= 1).astype(np.float32)


def measure_change(
    pictures: Pictures, before: Pictures, region: NDArray[np.float32]
) -> dict[str, float]:
    """Mean absolute difference, 0 to 255, `inside` the region and `outside` it."""
    change = np.abs(pictures.astype(np.float32) - before.astype(np.float32)).mean((0, 3))
    return {
        "inside": float(change[region > 0.5].mean()),
        "outside": float(change[region <= 0.5].mean()),
    }

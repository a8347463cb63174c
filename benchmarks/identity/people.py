"""The faces of the benchmark: portraits of 32 pixels with captions that name nobody."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.disk.atomic import replacing
from frisket.media.frames import write_image
from frisket.pocket.portraits import (
    FaceView,
    ProceduralPortrait,
    draw_person,
    sample_person,
    sample_view,
)
from frisket.pocket.world import Background

SIDE = 32  # pixels, the pocket family's own; faces fill it, as small ones lose their eyes
SIZES = (0.34, 0.40)  # half of a head's height in shares of the side: 22 to 26 pixels of head
SPREAD = 0.6  # of pose and light: in between a passport and everyday
YAWS = {"left": (-0.5, -0.3), "ahead": (-0.1, 0.1), "right": (0.3, 0.5)}
TRAINED = range(50_000, 51_000)  # seeds of people that base and adapters are taught with
VIEWS = 4  # pictures of each of them
HELD_OUT = range(90_000, 90_006)  # nobody, the embedder included, was taught with these


@dataclass(frozen=True, slots=True)
class Portrait:
    """A picture that is drawn: who, how, and which way the person looks."""

    person: int  # seed of `sample_person`
    looks: str  # a key of YAWS
    view: FaceView

    @property
    def caption(self) -> str:
        """Where the person looks and what is behind, but not who it is."""
        return write_caption(self.looks, self.view.background)

    def draw(self) -> ProceduralPortrait:
        """The picture with its key points and planes."""
        return draw_person(sample_person(np.random.RandomState(self.person)), self.view, SIDE)


def write_caption(looks: str, background: Background) -> str:
    """`a person looking left on a red wall`."""
    return f"a person looking {looks} on {background.words}"


def sample_portrait(
    rng: np.random.RandomState, person: int, background: Background | None = None
) -> Portrait:
    """One picture of a person as the corpus has them: view, size, light and background drawn."""
    looks = list(YAWS)[rng.randint(len(YAWS))]
    view = sample_view(rng, background, SPREAD)
    return Portrait(
        person, looks, replace(view, yaw=rng.uniform(*YAWS[looks]), size=rng.uniform(*SIZES))
    )


def list_corpus(people: Sequence[int] = TRAINED, views: int = VIEWS) -> list[Portrait]:
    """All pictures of the corpus, person by person; the same on every machine."""
    return [
        sample_portrait(np.random.RandomState(person * 100 + index), person)
        for person in people
        for index in range(views)
    ]


def write_portraits(
    folder: Path, portraits: Sequence[Portrait], captions: Sequence[str] = ()
) -> None:
    """Clips, captions (their own where none are given), key points and masks, once.

    `folder`/clips has name.png, name.txt and name.keypoints.json; `folder`/masks covers of face and
    hair.
    """
    if (folder / "clips" / f"{len(portraits) - 1:05}.txt").is_file():
        return
    captions = captions or [portrait.caption for portrait in portraits]
    for index, (portrait, caption) in enumerate(zip(portraits, captions, strict=True)):
        drawn = portrait.draw()
        cover = np.clip(sum(drawn.planes.values()), 0, 1)
        grey = np.repeat((cover * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
        write_image(folder / "clips" / f"{index:05}.png", torch.from_numpy(drawn.picture))
        write_image(folder / "masks" / f"{index:05}.png", torch.from_numpy(grey))
        places = {"size": [SIDE, SIDE], "faces": [{"points": drawn.keypoints.tolist()}]}
        with replacing(folder / "clips" / f"{index:05}.keypoints.json") as draft:
            draft.write_text(json.dumps(places) + "\n", encoding="utf-8")
        with replacing(folder / "clips" / f"{index:05}.txt") as draft:
            draft.write_text(f"{caption}\n", encoding="utf-8")


def stack_pictures(drawn: Sequence[ProceduralPortrait]) -> NDArray[np.uint8]:
    """`n 32 32 3`."""
    return np.stack([portrait.picture for portrait in drawn])

"""Backends put together: what a run asks for its pictures, whichever models stand behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import cv2
import torch
from torch.nn import functional as F

from frisket.maskgen.base import (
    Box,
    Detector,
    Drafter,
    FaceFinder,
    Follower,
    Grounder,
    Instance,
    Mask,
    Parser,
    Picture,
    Seen,
    Segment,
    Segmenter,
)
from frisket.maskgen.vision.classes import Grouping
from frisket.maskgen.vision.person_crops import parse_people

Wanted = Mapping[str, tuple[str, ...]]  # region -> phrases that name it
PERSON = "person"  # the phrase people are detected by before they are parsed


@runtime_checkable
class Look(Protocol):
    """Pictures to instances of regions; `wanted` has the phrases of each picture."""

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """One answer a picture, in order."""
        ...


def phrases_of(wanted: Wanted) -> dict[str, str]:
    """Phrase to region; a phrase that two regions name belongs to the first."""
    named: dict[str, str] = {}
    for region, phrases in wanted.items():
        for phrase in phrases:
            named.setdefault(phrase, region)
    return named


@dataclass(frozen=True, slots=True)
class Grounded:
    """Phrases to boxes, boxes to masks: Grounded SAM 2 (Ren et al. 2024), with any two such models.

    Boxes are grown by `loosen` of their size before they are segmented. An instance's score is the
    lower of its box's and its mask's. Without a segmenter the boxes themselves are the masks.
    """

    detector: Detector
    segmenter: Segmenter | None
    loosen: float = 0.0

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """One answer a picture; a phrase that nothing is found for gives no instance."""
        named = [phrases_of(each) for each in wanted]
        boxes = self.detector.detect(pictures, [list(each) for each in named])
        loose = [
            [box.loosened(self.loosen, *picture.shape[:2]) for box in found]
            for picture, found in zip(pictures, boxes, strict=True)
        ]
        cut = masks_of(pictures, loose, self.segmenter)
        return [
            Seen(
                tuple(
                    Instance(
                        names[box.phrase],
                        segment.mask,
                        lower(box.score, segment.score),
                        box,
                        phrase=box.phrase,
                    )
                    for box, segment in zip(found, segments, strict=True)
                )
            )
            for names, found, segments in zip(named, boxes, cut, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Phrased:
    """Phrases straight to masks (SAM 3, CLIPSeg)."""

    grounder: Grounder

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """The segments of each picture, under the region that their phrase names."""
        named = [phrases_of(each) for each in wanted]
        found = self.grounder.ground(pictures, [list(each) for each in named])
        return [
            Seen(tuple(_named(segment, names) for segment in segments))
            for names, segments in zip(named, found, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Faced:
    """Faces to one region `face`, cut out by a segmenter, or as ellipses without one."""

    finder: FaceFinder
    segmenter: Segmenter | None

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """Find faces, cut them out."""
        faces = self.finder.faces(pictures)
        boxes = [[face.box for face in found] for found in faces]
        cut = masks_of(pictures, boxes, self.segmenter, ellipse)
        return [
            Seen(
                tuple(
                    Instance("face", segment.mask, lower(box.score, segment.score), box, person)
                    for person, (box, segment) in enumerate(zip(found, segments, strict=True))
                )
            )
            for found, segments in zip(boxes, cut, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Drafted:
    """A backend that knows its regions by itself."""

    drafter: Drafter

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """What the backend saw; phrases are not asked for."""
        return self.drafter.draft(pictures)


@dataclass(frozen=True, slots=True)
class Parsed:
    """People by their parts: each in the box a detector gave them, or pictures as they are."""

    parser: Parser
    people: Detector | None
    grouping: Grouping

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """Find the people, parse them one by one."""
        boxes = None
        if self.people is not None:
            boxes = self.people.detect(pictures, [[PERSON]] * len(pictures))
        parsed = parse_people(self.parser, pictures, boxes, grouping=self.grouping)
        nobody = "nobody was found, so nobody was parsed"
        return [
            Seen(tuple(instances), nobody if boxes is not None and not boxes[at] else "")
            for at, instances in enumerate(parsed)
        ]


@dataclass(frozen=True, slots=True)
class Followed:
    """A model of videos asked for pictures: each is a clip of one frame."""

    follower: Follower

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """Follow each picture's phrases through its one frame."""
        seen = []
        for picture, each in zip(pictures, wanted, strict=True):
            names = phrases_of(each)
            tracks = self.follower.follow(picture[None], list(names))
            segments = [
                Segment(one.plane[0], one.scores[0] if one.scores else None, None, one.phrase)
                for one in tracks
            ]
            seen.append(Seen(tuple(_named(segment, names) for segment in segments)))
        return seen


@dataclass(frozen=True, slots=True)
class Reduced:
    """A pipeline on pictures made smaller, its masks and boxes brought back to their size."""

    look: Look
    longest: int  # pixels of the longer side; smaller pictures stay as they are

    def __call__(self, pictures: Sequence[Picture], wanted: Sequence[Wanted]) -> list[Seen]:
        """The answers to the smaller pictures, masks resized bilinearly."""
        small = [shrunk(picture, self.longest) for picture in pictures]
        return [
            seen if less is picture else _brought_back(seen, less, picture)
            for picture, less, seen in zip(pictures, small, self.look(small, wanted), strict=True)
        ]


def shrunk(picture: Picture, longest: int) -> Picture:
    """A picture whose longer side is at most `longest` pixels, by area means."""
    high, wide, _ = picture.shape
    if max(high, wide) <= longest:
        return picture
    scale = longest / max(high, wide)
    size = max(round(wide * scale), 1), max(round(high * scale), 1)
    return torch.from_numpy(cv2.resize(picture.numpy(), size, interpolation=cv2.INTER_AREA))


def _brought_back(seen: Seen, small: Picture, picture: Picture) -> Seen:
    high, wide, _ = picture.shape
    x, y = wide / small.shape[1], high / small.shape[0]

    def back(one: Instance) -> Instance:
        mask = F.interpolate(one.mask[None, None], (high, wide), mode="bilinear")[0, 0]
        box = one.box
        if box is not None:
            box = replace(
                box, left=box.left * x, top=box.top * y, right=box.right * x, bottom=box.bottom * y
            )
        return replace(one, mask=mask, box=box)

    return replace(seen, instances=tuple(back(one) for one in seen.instances))


def masks_of(
    pictures: Sequence[Picture],
    boxes: Sequence[Sequence[Box]],
    segmenter: Segmenter | None,
    drawn: Callable[[Box, int, int], Mask] | None = None,
) -> list[list[Segment]]:
    """A mask for every box: the segmenter's; without one what `drawn` makes of it, the box."""
    if segmenter is not None and any(boxes):
        return segmenter.segment(pictures, boxes)
    draw = drawn or rectangle
    return [
        [Segment(draw(box, *picture.shape[:2]), None, box, box.phrase) for box in found]
        for picture, found in zip(pictures, boxes, strict=True)
    ]


def rectangle(box: Box, height: int, width: int) -> Mask:
    """The pixels whose centre lies in a box."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    rows, columns = (y > box.top) & (y < box.bottom), (x > box.left) & (x < box.right)
    return (rows[:, None] & columns).float()


def ellipse(box: Box, height: int, width: int) -> Mask:
    """The pixels whose centre lies in the ellipse that touches the box's sides."""
    (x, y), half_wide, half_high = (
        box.centre,
        max((box.right - box.left) / 2, 0.5),
        max((box.bottom - box.top) / 2, 0.5),
    )
    rows = ((torch.arange(height) + 0.5 - y) / half_high) ** 2
    columns = ((torch.arange(width) + 0.5 - x) / half_wide) ** 2
    return (rows[:, None] + columns <= 1).float()


def union(masks: Sequence[Mask], height: int, width: int) -> Mask:
    """The largest of several probabilities a pixel; zeros where there are none."""
    if not masks:
        return torch.zeros(height, width)
    return torch.stack(list(masks)).amax(0)


def planes_of(seen: Seen, regions: Sequence[str], height: int, width: int) -> dict[str, Mask]:
    """Every region's plane in the order of `regions`: the union of its instances, else zeros."""
    masks: dict[str, list[Mask]] = {name: [] for name in regions}
    for one in seen.instances:
        masks[one.region].append(one.mask)
    return {name: union(each, height, width) for name, each in masks.items()}


def lower(*scores: float | None) -> float | None:
    """The lowest score there is, None where no model told one."""
    told = [score for score in scores if score is not None]
    return min(told) if told else None


def _named(segment: Segment, names: Mapping[str, str]) -> Instance:
    return Instance(
        names[segment.phrase], segment.mask, segment.score, segment.box, phrase=segment.phrase
    )

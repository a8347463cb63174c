"""Backends put together: what a run asks for its pictures, whichever models stand behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import cv2
import torch
from torch.nn import functional as F

from frisket.maskgen.base import (
    Box,
    Detections,
    Detector,
    FaceFinder,
    Grounder,
    Instance,
    Parser,
    PromptFreeSegmenter,
    RgbPicture,
    Segment,
    Segmenter,
    SoftMask,
    VideoGrounder,
)
from frisket.maskgen.vision.classes import Grouping
from frisket.maskgen.vision.person_crops import parse_people

Prompts = Mapping[str, tuple[str, ...]]  # region -> phrases that name it
PERSON = "person"  # the phrase people are detected by before they are parsed


@runtime_checkable
class SegmentationPipeline(Protocol):
    """Pictures to instances of regions; `prompts` has the phrases of each picture."""

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """One answer a picture, in order."""
        ...


def phrases_of(prompts: Prompts) -> dict[str, str]:
    """Phrase to region; a phrase that two regions name belongs to the first."""
    regions: dict[str, str] = {}
    for region, phrases in prompts.items():
        for phrase in phrases:
            regions.setdefault(phrase, region)
    return regions


@dataclass(frozen=True, slots=True)
class GroundedPipeline:
    """Phrases to boxes, boxes to masks: Grounded SAM 2 (Ren et al. 2024), with any two such models.

    Boxes are grown by `loosen` of their size before they are segmented. An instance's score is the
    lower of its box's and its mask's. Without a segmenter the boxes themselves are the masks.
    """

    detector: Detector
    segmenter: Segmenter | None
    loosen: float = 0.0

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """One answer a picture; a phrase that nothing is found for gives no instance."""
        regions = [phrases_of(phrases) for phrases in prompts]
        boxes = self.detector.detect(pictures, [list(phrases) for phrases in regions])
        loose = [
            [box.loosen(self.loosen, *picture.shape[:2]) for box in picture_boxes]
            for picture, picture_boxes in zip(pictures, boxes, strict=True)
        ]
        cut = masks_of(pictures, loose, self.segmenter)
        return [
            Detections(
                tuple(
                    Instance(
                        names[box.phrase],
                        segment.mask,
                        pick_lowest(box.score, segment.score),
                        box,
                        phrase=box.phrase,
                    )
                    for box, segment in zip(picture_boxes, segments, strict=True)
                )
            )
            for names, picture_boxes, segments in zip(regions, boxes, cut, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PhrasePipeline:
    """Phrases straight to masks (SAM 3, CLIPSeg)."""

    grounder: Grounder

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """The segments of each picture, under the region that their phrase names."""
        regions = [phrases_of(phrases) for phrases in prompts]
        answers = self.grounder.ground(pictures, [list(phrases) for phrases in regions])
        return [
            Detections(tuple(_name_instance(segment, names) for segment in segments))
            for names, segments in zip(regions, answers, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class FacePipeline:
    """Faces to one region `face`, cut out by a segmenter, or as ellipses without one."""

    finder: FaceFinder
    segmenter: Segmenter | None

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """Find faces, cut them out."""
        faces = self.finder.faces(pictures)
        boxes = [[face.box for face in matches] for matches in faces]
        cut = masks_of(pictures, boxes, self.segmenter, draw_ellipse)
        return [
            Detections(
                tuple(
                    Instance(
                        "face", segment.mask, pick_lowest(box.score, segment.score), box, person
                    )
                    for person, (box, segment) in enumerate(zip(matches, segments, strict=True))
                )
            )
            for matches, segments in zip(boxes, cut, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PromptFreePipeline:
    """A backend that knows its regions by itself."""

    drafter: PromptFreeSegmenter

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """What the backend saw; phrases are not asked for."""
        return self.drafter.draft(pictures)


@dataclass(frozen=True, slots=True)
class ParsingPipeline:
    """People by their parts: each in the box a detector gave them, or pictures as they are."""

    parser: Parser
    people: Detector | None
    grouping: Grouping

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """Find the people, parse them one by one."""
        boxes = None
        if self.people is not None:
            boxes = self.people.detect(pictures, [[PERSON]] * len(pictures))
        parsed = parse_people(self.parser, pictures, boxes, grouping=self.grouping)
        nobody = "nobody was found, so nobody was parsed"
        return [
            Detections(tuple(instances), nobody if boxes is not None and not boxes[at] else "")
            for at, instances in enumerate(parsed)
        ]


@dataclass(frozen=True, slots=True)
class StillGroundingPipeline:
    """A model of videos asked for pictures: each is a clip of one frame."""

    follower: VideoGrounder

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """Follow each picture's phrases through its one frame."""
        detections = []
        for picture, phrases in zip(pictures, prompts, strict=True):
            names = phrases_of(phrases)
            tracks = self.follower.follow(picture[None], list(names))
            segments = [
                Segment(
                    track.plane[0], track.scores[0] if track.scores else None, None, track.phrase
                )
                for track in tracks
            ]
            detections.append(
                Detections(tuple(_name_instance(segment, names) for segment in segments))
            )
        return detections


@dataclass(frozen=True, slots=True)
class ReducedPipeline:
    """A pipeline on pictures made smaller, its masks and boxes brought back to their size."""

    pipeline: SegmentationPipeline
    longest: int  # pixels of the longer side; smaller pictures stay as they are

    def __call__(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[Prompts]
    ) -> list[Detections]:
        """The answers to the smaller pictures, masks resized bilinearly."""
        small = [shrink(picture, self.longest) for picture in pictures]
        return [
            detections if less is picture else _scale_back(detections, less, picture)
            for picture, less, detections in zip(
                pictures, small, self.pipeline(small, prompts), strict=True
            )
        ]


def shrink(picture: RgbPicture, longest: int) -> RgbPicture:
    """A picture whose longer side is at most `longest` pixels, by area means."""
    high, wide, _ = picture.shape
    if max(high, wide) <= longest:
        return picture
    scale = longest / max(high, wide)
    size = max(round(wide * scale), 1), max(round(high * scale), 1)
    return torch.from_numpy(cv2.resize(picture.numpy(), size, interpolation=cv2.INTER_AREA))


def _scale_back(detections: Detections, small: RgbPicture, picture: RgbPicture) -> Detections:
    high, wide, _ = picture.shape
    x, y = wide / small.shape[1], high / small.shape[0]

    def scale_instance(instance: Instance) -> Instance:
        mask = F.interpolate(instance.mask[None, None], (high, wide), mode="bilinear")[0, 0]
        box = instance.box
        if box is not None:
            box = replace(
                box, left=box.left * x, top=box.top * y, right=box.right * x, bottom=box.bottom * y
            )
        return replace(instance, mask=mask, box=box)

    return replace(
        detections, instances=tuple(scale_instance(instance) for instance in detections.instances)
    )


def masks_of(
    pictures: Sequence[RgbPicture],
    boxes: Sequence[Sequence[Box]],
    segmenter: Segmenter | None,
    draw_box: Callable[[Box, int, int], SoftMask] | None = None,
) -> list[list[Segment]]:
    """A mask for every box: the segmenter's; without one what `draw_box` makes of it, the box."""
    if segmenter is not None and any(boxes):
        return segmenter.segment(pictures, boxes)
    draw = draw_box or draw_rectangle
    return [
        [Segment(draw(box, *picture.shape[:2]), None, box, box.phrase) for box in picture_boxes]
        for picture, picture_boxes in zip(pictures, boxes, strict=True)
    ]


def draw_rectangle(box: Box, height: int, width: int) -> SoftMask:
    """The pixels whose centre lies in a box."""
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    rows, columns = (y > box.top) & (y < box.bottom), (x > box.left) & (x < box.right)
    return (rows[:, None] & columns).float()


def draw_ellipse(box: Box, height: int, width: int) -> SoftMask:
    """The pixels whose centre lies in the ellipse that touches the box's sides."""
    (x, y), half_wide, half_high = (
        box.centre,
        max((box.right - box.left) / 2, 0.5),
        max((box.bottom - box.top) / 2, 0.5),
    )
    rows = ((torch.arange(height) + 0.5 - y) / half_high) ** 2
    columns = ((torch.arange(width) + 0.5 - x) / half_wide) ** 2
    return (rows[:, None] + columns <= 1).float()


def merge_masks(masks: Sequence[SoftMask], height: int, width: int) -> SoftMask:
    """The largest of several probabilities a pixel; zeros where there are none."""
    if not masks:
        return torch.zeros(height, width)
    return torch.stack(list(masks)).amax(0)


def planes_of(
    detections: Detections, regions: Sequence[str], height: int, width: int
) -> dict[str, SoftMask]:
    """Every region's plane in the order of `regions`: the union of its instances, else zeros."""
    masks: dict[str, list[SoftMask]] = {name: [] for name in regions}
    for instance in detections.instances:
        masks[instance.region].append(instance.mask)
    return {name: merge_masks(region_masks, height, width) for name, region_masks in masks.items()}


def pick_lowest(*scores: float | None) -> float | None:
    """The lowest score there is, None where no model told one."""
    known_scores = [score for score in scores if score is not None]
    return min(known_scores) if known_scores else None


def _name_instance(segment: Segment, names: Mapping[str, str]) -> Instance:
    return Instance(
        names[segment.phrase], segment.mask, segment.score, segment.box, phrase=segment.phrase
    )

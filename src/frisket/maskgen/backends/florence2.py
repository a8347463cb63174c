"""Florence-2: phrases and whole captions to boxes, and pictures to captions; it tells no scores."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Box,
    Licence,
    MaskWeightsNotFound,
    ModelSource,
    RgbPicture,
)
from frisket.maskgen.vision import loading
from frisket.maskgen.vision.preprocess import split_batches

BINS = 1000  # Florence-2 writes coordinates as one of so many steps across the picture
BEAMS = 3
LONGEST = 1024  # tokens of an answer, as in Microsoft's examples

FindingTask = Literal["<OPEN_VOCABULARY_DETECTION>", "<CAPTION_TO_PHRASE_GROUNDING>"]
CaptioningTask = Literal["<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>"]

_TAG = re.compile(r"<[^<>]*>")
_FRAME = re.compile(r"</?s>|<pad>")
_BIN = re.compile(r"<loc_(\d+)>")
_PHRASE = re.compile(r"([^<]+)((?:<loc_\d+>|<sep>|</?poly>)+)")
_OUTLINE = re.compile(r"<poly>(.*?)(?:</poly>|$)")


@dataclass(slots=True)
class Florence2:
    """Detector and captioner. It answers with text, so boxes have no score.

    `finding` is the task a phrase is looked for by, `captioning` the one captions are written by.
    """

    processor: Any
    model: Any
    finding: FindingTask = "<OPEN_VOCABULARY_DETECTION>"
    captioning: CaptioningTask = "<CAPTION>"
    longest: int = LONGEST

    def detect(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Box]]:
        """Boxes in the order of the phrases, each phrase asked by itself.

        BackendUnusable where a phrase is empty or too long.
        """
        questions = [
            (at, phrase)
            for at, picture_phrases in enumerate(phrases)
            for phrase in dict.fromkeys(picture_phrases)
        ]
        answers = self._ask_batches(
            [pictures[at] for at, _ in questions],
            [self.finding + _strip_tags(phrase) for _, phrase in questions],
            len(pictures),
        )
        results: list[list[Box]] = [[] for _ in pictures]
        for (at, phrase), answer in zip(questions, answers, strict=True):
            boxes = read(answer, *pictures[at].shape[:2])
            # What it calls a thing in its answer may differ from what it was asked for.
            results[at] += dict.fromkeys(replace(box, phrase=phrase) for box in boxes)
        return results

    def caption(self, pictures: Sequence[RgbPicture]) -> list[str]:
        """One caption a picture."""
        answers = self._ask_batches(pictures, [self.captioning] * len(pictures), len(pictures))
        return [" ".join(_TAG.sub(" ", answer).split()) for answer in answers]

    def _ask_batches(
        self, pictures: Sequence[RgbPicture], prompts: Sequence[str], batch: int
    ) -> list[str]:
        """What the model writes, special tokens and all, at most `batch` questions at once."""
        return [
            answer
            for part in split_batches(prompts, max(batch, 1))
            for answer in self._ask([pictures[at] for at in part], [prompts[at] for at in part])
        ]

    @torch.inference_mode()
    def _ask(self, pictures: Sequence[RgbPicture], prompts: Sequence[str]) -> list[str]:
        inputs = self.processor(
            text=list(prompts),
            images=[Image.fromarray(picture.numpy()) for picture in pictures],
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        room = self.model.config.text_config.max_position_embeddings
        if (count := inputs["input_ids"].shape[1]) > room:
            raise BackendUnusable(
                f"Florence-2 reads {room} tokens with the picture, and this is {count}:"
                f" {max(prompts, key=len)[:80]!r}...; shorten the caption, or give phrases"
            )
        output = self.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"].to(self.model.dtype),
            num_beams=BEAMS,
            do_sample=False,
            max_new_tokens=min(self.longest, room - 1),
        )
        answers: list[str] = self.processor.batch_decode(output, skip_special_tokens=False)
        return answers


def read(answer: str, height: int, width: int) -> list[Box]:
    """The boxes in an answer of Florence-2, at the picture's size.

    "a hat<loc_10><loc_20><loc_30><loc_40>" are left, top, right and bottom in thousandths, several
    boxes in a row; outlines ("<poly>...</poly>", parts apart by "<sep>") give the box around them.
    The middle of a step is the coordinate, as in the stock processor, which rounds to pixels.
    """
    boxes = []
    for phrase, places in _PHRASE.findall(_FRAME.sub("", answer)):
        for bins in _read_rectangles(places):
            left, right = ((at + 0.5) * width / BINS for at in bins[::2])
            top, bottom = ((at + 0.5) * height / BINS for at in bins[1::2])
            box = Box(left, top, right, bottom, phrase=phrase.strip())
            if cropped := box.within(height, width):
                boxes.append(cropped)
    return boxes


def _read_rectangles(places: str) -> list[tuple[int, ...]]:
    if "<poly>" not in places:
        bins = [int(at) for at in _BIN.findall(places)]
        return [tuple(bins[at : at + 4]) for at in range(0, len(bins) - 3, 4)]
    outlines = [[int(at) for at in _BIN.findall(outline)] for outline in _OUTLINE.findall(places)]
    return [
        (min(bins[::2]), min(bins[1::2]), max(bins[::2]), max(bins[1::2]))
        for bins in outlines
        if len(bins) >= 4
    ]


def _strip_tags(text: str) -> str:
    """Text without tags, which Florence-2 would read as tasks, places or pictures."""
    stripped = " ".join(_TAG.sub(" ", text).split())
    if not stripped:
        raise BackendUnusable(
            f"Florence-2 was asked for {text!r}, which names nothing; give a word or a caption"
        )
    return stripped


def load(source: ModelSource) -> Florence2:
    """The model of a folder or hub id; MaskWeightsNotFound names what lacks."""
    import transformers  # noqa: PLC0415 - slow, and only where this backend is used

    folder = loading.folder_of(source, BACKEND.repo)
    _check_native(folder)
    processor = loading.load_processor(transformers.Florence2Processor, folder)
    kind = transformers.Florence2ForConditionalGeneration
    return Florence2(processor, loading.load_model(kind, folder, source))


def _check_native(folder: Path) -> None:
    config = loading.config_of(folder, "florence2")
    if "auto_map" in config:
        raise MaskWeightsNotFound(
            f"{folder} is a Florence-2 that brings its own code, as microsoft/Florence-2-large"
            " does, and no code of a checkpoint is run here; take the same weights converted, such"
            " as florence-community/Florence-2-large (also -base, -base-ft, -large-ft)"
        )


BACKEND = Backend(
    summary="phrases or whole captions to boxes without scores, and captions: Florence-2",
    roles=frozenset({"detector", "captioner"}),
    licence=Licence(code="MIT", weights="MIT"),
    load=load,
    repo="florence-community/Florence-2-large",
    weights=True,
)

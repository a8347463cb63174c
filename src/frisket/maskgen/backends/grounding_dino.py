"""GroundingDINO and MM-GroundingDINO: phrases to boxes with scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from frisket.maskgen.base import Backend, BackendUnusable, Box, Licence, ModelSource, RgbPicture
from frisket.maskgen.vision import loading

KINDS = ("grounding-dino", "mm-grounding-dino")
BOX, TEXT, OVERLAP = 0.35, 0.25, 0.7


@dataclass(frozen=True, slots=True)
class TextTokens:
    """Several phrases in one text; `spans` says which of its tokens are whose."""

    tokens: list[int]
    spans: Mapping[str, range]


@dataclass(slots=True)
class GroundingDino:
    """Detector of phrases; each is looked for by itself, so that one never takes another's box.

    A phrase gives a box where its best token passes both thresholds. Boxes of one phrase that
    overlap by more than `overlap` (intersection over union) are one, the better. Upstream's own
    reading joins the tokens above `text` into a label ("hair face"), and such a label is no phrase
    that was asked.
    """

    processor: Any
    model: Any
    box: float = BOX
    text: float = TEXT
    overlap: float = OVERLAP

    def detect(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Box]]:
        """Boxes in the order of the phrases, a phrase's best first.

        BackendUnusable where a phrase has no token the model knows, or too many.
        """
        # One by one: pictures keep their aspect, and padding would change what is seen.
        return [
            self._look(picture, picture_phrases)
            for picture, picture_phrases in zip(pictures, phrases, strict=True)
        ]

    @torch.inference_mode()
    def _look(self, picture: RgbPicture, phrases: Sequence[str]) -> list[Box]:
        high, wide, _ = picture.shape
        texts = pack_phrases(self.processor.tokenizer, phrases, self.model.config.max_text_len)
        if not texts:
            return []
        inputs = self.processor.image_processor(
            Image.fromarray(picture.numpy()), return_tensors="pt"
        ).to(self.model.device)
        results: list[Box] = []
        for text in texts:
            answer = self.model(
                pixel_values=inputs["pixel_values"].to(self.model.dtype),
                pixel_mask=inputs["pixel_mask"],
                input_ids=torch.tensor([text.tokens], device=self.model.device),
            )
            logits, rectangles = answer.logits[0].float().cpu(), answer.pred_boxes[0].float().cpu()
            for phrase, span in text.spans.items():
                scores = logits[:, span.start : span.stop].sigmoid().amax(1)
                boxes = _list_boxes(
                    scores, rectangles, max(self.box, self.text), phrase, high, wide
                )
                results += _suppress(boxes, self.overlap)
        return results


def pack_phrases(tokenizer: Any, phrases: Sequence[str], longest: int) -> list[TextTokens]:
    """Phrases in as few texts "[CLS] a . b . [SEP]" of at most `longest` tokens as hold them.

    BackendUnusable names a phrase with no token the model knows, or with too many.
    """
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    stop = tokenizer.convert_tokens_to_ids(".")
    tokens, spans, texts = [start], dict[str, range](), list[TextTokens]()
    for phrase in dict.fromkeys(phrases):
        phrase_tokens = _tokenise(tokenizer, phrase)
        if len(phrase_tokens) + 3 > longest:
            raise BackendUnusable(
                f"GroundingDINO reads {longest - 3} tokens of a phrase at most, and {phrase[:40]!r}"
                f"... has {len(phrase_tokens)}; ask for one thing by a few words"
            )
        if len(tokens) + len(phrase_tokens) + 2 > longest:
            texts.append(TextTokens([*tokens, end], spans))
            tokens, spans = [start], {}
        spans[phrase] = range(len(tokens), len(tokens) + len(phrase_tokens))
        tokens += [*phrase_tokens, stop]
    return [*texts, TextTokens([*tokens, end], spans)] if spans else texts


def _tokenise(tokenizer: Any, phrase: str) -> list[int]:
    # "." and "?" end a phrase for this model, wherever they stand.
    words = phrase.lower().replace(".", " ").replace("?", " ")
    ids: list[int] = tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
    if not set(ids) - {tokenizer.unk_token_id}:
        raise BackendUnusable(
            f"GroundingDINO knows no part of the phrase {phrase!r}; ask for it in English words"
        )
    return ids


def _list_boxes(
    scores: Float[Tensor, " q"],
    rectangles: Float[Tensor, "q 4"],
    threshold: float,
    phrase: str,
    high: int,
    wide: int,
) -> list[Box]:
    """Queries above the threshold, best first; rectangles are x, y, width, height in [0, 1]."""
    x, y, w, h = (rectangles * torch.tensor([wide, high, wide, high])).unbind(1)
    corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).tolist()
    boxes = []
    for at in scores.argsort(descending=True, stable=True).tolist():
        left, top, right, bottom = corners[at]
        box = Box(left, top, right, bottom, float(scores[at]), phrase)
        if scores[at] > threshold and (cropped := box.within(high, wide)):
            boxes.append(cropped)
    return boxes


def _suppress(boxes: Sequence[Box], overlap: float) -> list[Box]:
    """Non-maximum suppression of boxes that come best first."""
    best: list[Box] = []
    for box in boxes:
        if all(box.overlap(better) <= overlap for better in best):
            best.append(box)
    return best


def load(source: ModelSource) -> GroundingDino:
    """The model of a folder or hub id; MaskWeightsNotFound names what lacks."""
    import transformers  # noqa: PLC0415 - slow, and only where this backend is used

    folder = loading.folder_of(source, BACKEND.repo)
    loading.config_of(folder, *KINDS)
    processor = loading.load_processor(transformers.GroundingDinoProcessor, folder)
    kind = transformers.AutoModelForZeroShotObjectDetection
    return GroundingDino(processor, loading.load_model(kind, folder, source))


BACKEND = Backend(
    summary="phrases to scored boxes: GroundingDINO, or MM-GroundingDINO by --source",
    roles=frozenset({"detector"}),
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    load=load,
    repo="IDEA-Research/grounding-dino-base",
    weights=True,
    thresholds={"box": BOX, "text": TEXT, "overlap": OVERLAP},
)

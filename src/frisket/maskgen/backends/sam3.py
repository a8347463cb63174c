"""SAM 3 on pictures: short noun phrases to the masks and boxes of everything they name."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Box,
    ClickPoint,
    Licence,
    ModelSource,
    RgbPicture,
    Segment,
)
from frisket.maskgen.text.tokens import tokenise
from frisket.maskgen.vision import pointing
from frisket.maskgen.vision.loading import config_of, folder_of, load_model, run_halving
from frisket.maskgen.vision.preprocess import Preprocessing, pixels, read

REPO = "facebook/sam3"
HALF = (0.5, 0.5, 0.5)
THRESHOLD = 0.5  # what the original's image processor keeps; transformers' own default is 0.3
PHRASES = 256  # phrases whose embeddings are kept, the last ones used

_PhraseMatches = tuple[str, Float[Tensor, " n"], list[Box | None], Float[Tensor, "n h w"]]


class Sam3:
    """A loaded Sam3Model, a Grounder, a Detector and, with its tracker, a PointSegmenter.

    One phrase a forward; a picture is encoded once for all of its phrases, a phrase once for all
    pictures. A score is that of the query times that the phrase is present at all; instances come
    in the model's order, phrase by phrase.
    """

    def __init__(
        self,
        model: Any,
        how: Preprocessing,
        tokenizer: Any,
        load_tracker: Callable[[], Any] | None = None,
    ) -> None:
        """Take a model, and the preprocessing and tokenizer of its checkpoint.

        `load_tracker` gives the part that is asked with points, which is loaded when first asked.
        """
        self.model, self.how, self.tokenizer = model, how, tokenizer
        self._load_tracker, self._tracker = load_tracker, None
        self.score = THRESHOLD
        # Bound to the model, not to self: a cycle would keep its memory until it is collected.
        self._embed = lru_cache(PHRASES)(partial(_embed, model, tokenizer))

    def ground(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Segment]]:
        """One segment an instance; its mask is the probability, resized.

        Raises BackendUnusable for a phrase that cannot be read.
        """
        return list(run_halving(self._ground, list(zip(pictures, phrases, strict=True)), 1))

    def detect(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Box]]:
        """One box an instance; raises BackendUnusable for a phrase that cannot be read."""
        return list(run_halving(self._detect, list(zip(pictures, phrases, strict=True)), 1))

    def encode_picture(self, picture: RgbPicture) -> pointing.PictureEmbedding:
        """What the tracker makes of a picture; BackendUnusable where there is none."""
        return pointing.encode_picture(self._get_tracker(), self.how, picture)

    def segment_points(
        self,
        embedding: pointing.PictureEmbedding,
        picture: RgbPicture,
        points: Sequence[ClickPoint],
        box: Box | None = None,
    ) -> list[Segment]:
        """Up to three candidates (see `pointing.segment_points`)."""
        return pointing.segment_points(
            self._get_tracker(), self.how, embedding, picture, points, box
        )

    def _get_tracker(self) -> Any:
        if self._tracker is None:
            if self._load_tracker is None:
                raise BackendUnusable(
                    "this SAM 3 holds no tracker, so it takes phrases and no clicks; give the"
                    " folder of the whole facebook/sam3, or of a SAM 2"
                )
            self._tracker = self._load_tracker()
        return self._tracker

    def _ground(self, requests: Sequence[tuple[RgbPicture, Sequence[str]]]) -> list[list[Segment]]:
        return [
            [
                Segment(mask, score, box=box, phrase=phrase)
                for phrase, scores, boxes, small in self._find_matches(picture, phrases)
                for mask, score, box in zip(
                    _resize(small, picture), scores.tolist(), boxes, strict=True
                )
            ]
            for picture, phrases in requests
        ]

    def _detect(self, requests: Sequence[tuple[RgbPicture, Sequence[str]]]) -> list[list[Box]]:
        return [
            [box for _, _, boxes, _ in self._find_matches(picture, phrases) for box in boxes if box]
            for picture, phrases in requests
        ]

    @torch.no_grad()
    def _find_matches(
        self, picture: RgbPicture, phrases: Sequence[str]
    ) -> Iterator[_PhraseMatches]:
        high, wide, _ = picture.shape
        texts = {phrase: self._embed(phrase) for phrase in phrases}
        if not texts:
            return
        features = self.model.get_vision_features(
            pixels(picture, self.how).to(self.model.device, self.model.dtype)
        )
        for phrase in phrases:
            embedding, attention_mask = texts[phrase]
            output = self.model(
                vision_embeds=features, text_embeds=embedding, attention_mask=attention_mask
            )
            present = output.presence_logits[0].float().sigmoid()
            scores = output.pred_logits[0].float().sigmoid() * present
            keep = scores > self.score
            size = torch.tensor([wide, high, wide, high], device=keep.device)
            boxes = [
                Box(left, top, right, bottom, score=score, phrase=phrase).within(high, wide)
                for (left, top, right, bottom), score in zip(
                    (output.pred_boxes[0][keep].float() * size).tolist(),
                    scores[keep].tolist(),
                    strict=True,
                )
            ]
            yield phrase, scores[keep], boxes, output.pred_masks[0][keep].float().sigmoid()


@torch.no_grad()
def _embed(model: Any, tokenizer: Any, phrase: str) -> tuple[Any, Tensor]:
    room = model.config.text_config.max_position_embeddings
    read_as = tokenise(tokenizer, phrase, room).to(model.device)
    return model.get_text_features(**read_as), read_as["attention_mask"]


def _resize(masks: Float[Tensor, "n h w"], picture: RgbPicture) -> Float[Tensor, "n H W"]:
    """Probabilities at the picture's size: the stock processor, too, resizes after the sigmoid."""
    if not len(masks):
        return masks.new_zeros((0, *picture.shape[:2]))
    size = picture.shape[:2]
    return F.interpolate(masks[:, None], size, mode="bilinear", align_corners=False)[:, 0].cpu()


def load(source: ModelSource) -> Sam3:
    """Sam3Model and its tokenizer from a folder or hub id; also reads a Sam3VideoModel's."""
    from transformers import CLIPTokenizer, Sam3Model  # noqa: PLC0415 - slow, listing needs none

    folder = folder_of(source, REPO, needs=("config.json", "tokenizer.json"))
    kind = config_of(folder, "sam3", "sam3_video").get("model_type")
    how = read(folder, Preprocessing(1008, 1008, HALF, HALF))
    model = load_model(Sam3Model, folder, source)
    tracker = partial(pointing.load_tracker, folder, source)
    return Sam3(
        model,
        how,
        CLIPTokenizer.from_pretrained(folder),
        tracker if kind == "sam3_video" else None,
    )


BACKEND = Backend(
    summary="SAM 3: phrases to the masks of everything they name",
    roles=frozenset({"grounder", "detector", "pointer"}),
    licence=Licence(
        code="Apache-2.0",
        weights="SAM License",
        warning="SAM 3's weights are gated and under Meta's own SAM License: read and accept its"
        " terms at https://huggingface.co/facebook/sam3 before you use them",
    ),
    load=load,
    repo=REPO,
    weights=True,
    thresholds={"score": THRESHOLD},
)

"""CLIPSeg: phrases to soft masks, light enough for a CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from frisket.maskgen.base import Backend, Licence, ModelSource, RgbPicture, Segment
from frisket.maskgen.text.tokens import tokenise
from frisket.maskgen.vision import loading
from frisket.maskgen.vision.preprocess import enlarge

THRESHOLD = 0.4


@dataclass(slots=True)
class ClipSeg:
    """Grounder that knows no instances: one soft mask a phrase, of all that is so called.

    A phrase that no pixel passes the threshold of is not in the picture. CLIPSeg is rarely sure:
    its logits are shifted so that the threshold becomes one half in the mask, where others cut.
    """

    processor: Any
    model: Any
    threshold: float = THRESHOLD

    @torch.no_grad()
    def ground(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Segment]]:
        """Segments in the order of the phrases; their score is CLIPSeg's mean probability inside.

        BackendUnusable where a phrase is empty or has too many tokens.
        """
        unique_phrases = list(
            dict.fromkeys(phrase for picture_phrases in phrases for phrase in picture_phrases)
        )
        if not unique_phrases:
            return [[] for _ in pictures]
        meanings = dict(zip(unique_phrases, self._read(unique_phrases), strict=True))
        layers = self._see(pictures)
        return [
            self._decode(
                picture, [layer[at : at + 1] for layer in layers], picture_phrases, meanings
            )
            for at, (picture, picture_phrases) in enumerate(zip(pictures, phrases, strict=True))
        ]

    def _read(self, phrases: Sequence[str]) -> Float[Tensor, "n d"]:
        longest = self.model.config.text_config.max_position_embeddings
        encodings = [tokenise(self.processor.tokenizer, phrase, longest) for phrase in phrases]
        read: Tensor = self.model.get_conditional_embeddings(
            len(phrases),
            *(
                torch.cat([encoding[key] for encoding in encodings]).to(self.model.device)
                for key in ("input_ids", "attention_mask")
            ),
        )
        return read

    def _see(self, pictures: Sequence[RgbPicture]) -> list[Float[Tensor, "b n c"]]:
        """What the decoder reads of each picture, computed once for all phrases."""
        images = [Image.fromarray(picture.numpy()) for picture in pictures]
        pixels = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        features = self.model.clip.get_image_features(
            pixels.to(self.model.device, self.model.dtype), output_hidden_states=True
        )
        return [features.hidden_states[at + 1] for at in self.model.extract_layers]

    def _decode(
        self,
        picture: RgbPicture,
        features: Sequence[Float[Tensor, "1 n c"]],
        phrases: Sequence[str],
        meanings: dict[str, Float[Tensor, " d"]],
    ) -> list[Segment]:
        if not phrases:
            return []
        embeddings = torch.stack([meanings[phrase] for phrase in phrases])
        layers = tuple(layer.expand(len(phrases), -1, -1) for layer in features)
        logits = self.model.decoder(layers, embeddings).logits.float().cpu()
        # Some releases of transformers drop the batch axis of a single phrase.
        logits = logits.reshape(len(phrases), *logits.shape[-2:])
        segments = []
        for phrase, plane in zip(phrases, enlarge(logits, *picture.shape[:2]), strict=True):
            inside = plane.sigmoid()[plane > self._cut]
            if len(inside):
                mask = (plane - self._cut).sigmoid()
                segments.append(Segment(mask, score=float(inside.mean()), phrase=phrase))
        return segments

    @property
    def _cut(self) -> float:
        return math.log(self.threshold / (1 - self.threshold))


def load(source: ModelSource) -> ClipSeg:
    """The model of a folder or hub id; MaskWeightsNotFound names what lacks."""
    import transformers  # noqa: PLC0415 - slow, and only where this backend is used

    folder = loading.folder_of(source, BACKEND.repo)
    loading.config_of(folder, "clipseg")
    processor = loading.load_processor(transformers.CLIPSegProcessor, folder)
    kind = transformers.CLIPSegForImageSegmentation
    return ClipSeg(processor, loading.load_model(kind, folder, source))


BACKEND = Backend(
    summary="phrases to soft masks without boxes; small, coarse at borders",
    roles=frozenset({"grounder"}),
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    load=load,
    repo="CIDAS/clipseg-rd64-refined",
    weights=True,
    thresholds={"threshold": THRESHOLD},
)

"""Prompts of CLIP models: which layer is read, how long they may be, and that a cut is said."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frisket.attention.tokens import Spans
from frisket.families.base import TOKENS, Conditioning, Source
from frisket.families.defaults import TextBundle
from frisket.families.shared.prompt_spans import check_agreement, read_prompts

logger = logging.getLogger(__name__)
LONGEST = 225  # tokens: three pieces


class ClipText(TextBundle):
    """The text bundle of Stable Diffusion, and how its prompts are to be read."""

    def __init__(self, source: Source, **parts: Any) -> None:
        """Take `clip_skip` and `max_tokens` of the source."""
        super().__init__(**parts)
        self.clip_skip, self.max_tokens = source.clip_skip, source.max_tokens
        self.reads_otherwise = bool(source.reading)


def warn_cut(tokenizer: Any, prompts: Sequence[str], length: int, fix: str = "") -> None:
    """Warn of every prompt that has more than `length` tokens, specials counted."""
    for prompt, ids in zip(prompts, tokenizer(list(prompts)).input_ids, strict=True):
        if len(ids) > length:
            logger.warning("%d tokens cut to %d%s: %.60s...", len(ids), length, fix, prompt)


def tell_cut(text: ClipText, prompts: Sequence[str]) -> None:
    """Warn of every prompt longer than is read, begin and end counted, and of what reads more."""
    tokenizer: Any = text.tokenizer
    pieces = text.max_tokens // TOKENS
    length = pieces * (tokenizer.model_max_length - 2) + 2
    fix = "" if text.max_tokens >= LONGEST else f" (model.max_tokens = {LONGEST} reads more)"
    warn_cut(tokenizer, prompts, length, fix)


def embed_chunks(text: ClipText, prompts: Sequence[str]) -> Conditioning:
    """Prompts in pieces of 75 tokens and from the asked layer, as kohya's sd-scripts trains.

    `text` b (75 n + 2) d for n pieces: begin of the first piece, 75 tokens of each, end of the
    last. Every piece goes through the encoder alone, with a begin and an end of its own. SD 1.5
    reads hidden state -`clip_skip`, through the final norm; SDXL the last but one of both its
    encoders, without, and `pooled` b d is that of the first piece.
    (kohya-ss/sd-scripts at 48d368f: library/strategy_base.py, strategy_sd.py, strategy_sdxl.py.)
    """
    pieces = text.max_tokens // TOKENS
    if "text_encoder_2" not in text.names:
        encoder: Any = text.text_encoder
        states = _run(encoder, token_pieces(text.tokenizer, prompts, pieces)).hidden_states
        inner = getattr(encoder, "text_model", encoder)  # transformers 5 has no such level
        return {
            "text": _join_pieces(inner.final_layer_norm(states[-max(1, text.clip_skip)]), pieces)
        }
    first = _run(text.text_encoder, token_pieces(text.tokenizer, prompts, pieces))
    second = _run(text.text_encoder_2, token_pieces(text.tokenizer_2, prompts, pieces))
    both = [_join_pieces(output.hidden_states[-2], pieces) for output in (first, second)]
    return {"text": torch.cat(both, dim=-1), "pooled": second.text_embeds[::pieces]}


def token_pieces(tokenizer: Any, prompts: Sequence[str], pieces: int) -> Tensor:
    """Token ids b n 77: n pieces of a prompt, each with a begin and an end.

    Where the tokenizer pads with another token than its end (SDXL's second), a full piece ends
    with an end, and a piece that is padding alone begins with one.
    """
    width = tokenizer.model_max_length - 2
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=pieces * width + 2,
        return_tensors="pt",
    ).input_ids
    begin, end = (ids[:, [at]].expand(-1, pieces)[..., None] for at in (0, -1))
    whole = torch.cat([begin, ids[:, 1:-1].unflatten(1, (pieces, width)), end], dim=2)
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if pieces > 1 and stop != pad:
        full = (whole[..., -2] != stop) & (whole[..., -2] != pad)
        whole[..., -1] = whole[..., -1].where(~full, stop)
        whole[..., 1] = whole[..., 1].where(whole[..., 1] != pad, stop)
    return whole


def find_clip_spans(text: ClipText, prompts: Sequence[str]) -> list[Spans]:
    """Spans on the axis of `text`: begin, 75 positions for every piece that is read, end.

    SDXL's two encoders stand side by side on it: ValueError where their tokenizers differ.
    """
    names = [name for name in text.names if name.startswith("tokenizer")]
    tokenizers: list[Any] = [getattr(text, name) for name in names]
    pieces = text.max_tokens // TOKENS
    lengths = [pieces * (tokenizer.model_max_length - 2) + 2 for tokenizer in tokenizers]
    rows = [
        read_prompts(tokenizer, prompts, length)
        for tokenizer, length in zip(tokenizers, lengths, strict=True)
    ]
    return check_agreement(rows[0], rows[1], model_name="SDXL") if len(rows) > 1 else rows[0]


def _run(encoder: Any, ids: Tensor) -> Any:
    """Every piece through the encoder by itself: outputs b*n 77 d."""
    module: nn.Module = encoder
    device = next(module.parameters()).device
    return encoder(ids.flatten(0, 1).to(device), output_hidden_states=True, return_dict=True)


def _join_pieces(states: Tensor, pieces: int) -> Tensor:
    """Pieces b*n 77 d as one b (75 n + 2) d: the first begin, what is between, the last end."""
    apart = states.unflatten(0, (-1, pieces))
    inside = apart[:, :, 1:-1].flatten(1, 2)
    return torch.cat([apart[:, 0, :1], inside, apart[:, -1, -1:]], dim=1)

"""How long a text encoder's output is for names of people: what UniID's words are brought to.

As the authors measure it: the mean input embedding of the names' first, second, ... tokens, between
begin and end through the encoder, and the norms of its last hidden state but one there. A token
reads what is before it alone, so nothing but the begin and the means goes through here.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters import metadata
from frisket.disk.atomic import replacing
from frisket.inference.methods.plugin import MethodUnusable

FILE = "name_norms.json"


@torch.no_grad()
def measure_name_norms(
    text: nn.Module, names: Sequence[str], count: int = 3
) -> list[Float[Tensor, "t"]]:
    """Norms at the first `count` places of a name, for each of the family's CLIP encoders.

    `text` is what `Family.load_text` gave. Theirs counts the tokens of a name by the first
    tokenizer alone; so is it here. ValueError where no name is that long.
    """
    parts: Any = text
    suffixes = [name.removeprefix("tokenizer") for name in parts.names if "tokenizer" in name]
    tokenizers = [getattr(parts, f"tokenizer{suffix}") for suffix in suffixes]
    encoders = [getattr(parts, f"text_encoder{suffix}") for suffix in suffixes]
    rows = [[_read_ids(tokenizer, name) for name in names] for tokenizer in tokenizers]
    lengths = [len(ids) - 2 for ids in rows[0]]
    if max(lengths, default=0) < count:
        raise ValueError(
            f"none of {len(names)} names has {count} tokens (the longest has"
            f" {max(lengths, default=0)}); give longer ones"
        )
    return [
        _measure_encoder(encoder, ids, lengths, count)
        for encoder, ids in zip(encoders, rows, strict=True)
    ]


def _read_ids(tokenizer: Any, name: str) -> list[int]:
    ids: list[int] = tokenizer(
        name, padding="do_not_pad", truncation=True, max_length=tokenizer.model_max_length
    ).input_ids
    return ids


def _measure_encoder(
    encoder: Any, rows: Sequence[Sequence[int]], lengths: Sequence[int], count: int
) -> Float[Tensor, "t"]:
    embedding: nn.Module = encoder.get_input_embeddings()
    device = next(embedding.parameters()).device
    means = []
    for place in range(1, count + 1):
        ids = [row[place] for row, length in zip(rows, lengths, strict=True) if length >= place]
        means.append(embedding(torch.tensor(ids, device=device)).mean(0))

    def lay(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], torch.stack(means)[None].to(output)], 1)

    handle = embedding.register_forward_hook(lay)
    try:
        begin = torch.tensor([[rows[0][0]] * (count + 1)], device=device)
        states = encoder(begin, output_hidden_states=True).hidden_states[-2]
    finally:
        handle.remove()
    return torch.linalg.vector_norm(states[0, 1:].float(), dim=-1).cpu()


def write_name_norms(folder: Path, norms: Sequence[Float[Tensor, "t"]]) -> Path:
    """Put measured norms beside a checkpoint's branches, for the option `norms = "names"`."""
    place = folder / FILE
    with replacing(place) as draft, draft.open("w", encoding="utf8") as stream:
        json.dump({"norms": [values.tolist() for values in norms]}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return place


def read_name_norms(folder: Path, tokens: int, encoders: int) -> list[Float[Tensor, "t"]]:
    """The norms that lie beside a checkpoint; MethodUnusable where there are none, or others."""
    place = folder / FILE
    if not place.is_file():
        raise MethodUnusable(
            f'norms = "names" reads {place}, which is not there: `frisket name-norms CONFIG --names'
            f" FILE --source {folder}` makes it from a list of names and the model's text encoders;"
            ' or set norms = "prompt", which needs no file'
        )
    try:
        rows = [torch.tensor(values).float() for values in metadata.config(place)["norms"]]
    except (metadata.UnreadableMetadata, KeyError, TypeError, ValueError) as error:
        raise MethodUnusable(f"{place} is no table of norms: {error}") from error
    if [values.shape for values in rows] != [(tokens,)] * encoders:
        sizes = [list(values.shape) for values in rows]
        raise MethodUnusable(
            f"{place} has norms of the sizes {sizes}; this branch has {tokens} tokens for each of"
            f" {encoders} text encoders: measure them again with count = {tokens}"
        )
    return rows

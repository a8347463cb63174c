"""Tokenizers that cut words as the released ones do, on the ids of the tiny encoders."""

import json
from copy import deepcopy
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

# " fox", " hub" and " wall" are a token with their space, whatever else is letters: no template of
# a family has any of these pairs where its tokens are counted.
MERGES = (("Ġ", "f"), ("o", "x"), ("Ġf", "ox"), ("Ġ", "h"), ("u", "b"), ("Ġh", "ub"))
MERGES += (("a", "l"), ("al", "l"), ("Ġ", "w"), ("Ġw", "all"))
CLOSE = 1e-5  # the same row of two samples, which one product may round differently
OUT = (".o", ".o_proj", ".out_proj")  # what attention hands on, in every text encoder here


def merged(tokenizer: Any) -> Any:
    """The tiny byte tokenizer with a few words in its vocabulary."""
    copy = deepcopy(tokenizer)
    table = json.loads(copy.backend_tokenizer.to_str())
    vocabulary = table["model"]["vocab"]
    for pair in MERGES:
        vocabulary.setdefault("".join(pair), len(vocabulary))
    table["model"]["merges"] = [list(pair) for pair in MERGES]
    copy._tokenizer = Tokenizer.from_str(json.dumps(table))
    return copy


def with_words(text: nn.Module) -> nn.Module:
    """A text bundle whose tokenizers (those with bytes for tokens) are `merged`."""
    bundle: Any = deepcopy(text)
    for name in getattr(bundle, "names", ()):
        part = getattr(bundle, name)
        if getattr(part, "is_fast", False):
            setattr(bundle, name, merged(part))
        elif hasattr(part, "tokenizer"):
            part.tokenizer = merged(part.tokenizer)
    return bundle


def apart(text: nn.Module) -> nn.Module:
    """A text bundle in which no token sees another: what it makes of each is of that one alone."""
    bundle = deepcopy(text)
    with torch.no_grad():
        for name, module in bundle.named_modules():
            if isinstance(module, nn.Linear) and name.endswith(OUT):
                module.weight.zero_()
                if module.bias is not None:
                    module.bias.zero_()
    return bundle


def text_of(conditioning: Any) -> torch.Tensor:
    """The conditioning's text, b n d, by whichever name."""
    return conditioning["tokens"] if "tokens" in conditioning else conditioning["text"]


def length_of(conditioning: Any, row: int) -> int:
    """How long a prompt's own text is, without the padding to the longest of its batch."""
    mask = conditioning.get("mask", conditioning.get("text_mask"))
    return text_of(conditioning).shape[1] if mask is None else max(1, int(mask[row].sum()))


def changed(conditioning: Any) -> tuple[int, ...]:
    """Positions at which the first two texts of a batch differ."""
    first, second = text_of(conditioning)[:2]
    return tuple(((first - second).abs() > CLOSE).any(1).nonzero()[:, 0].tolist())

"""Tokenizers that cut words as the released ones do, on the ids of the tiny encoders."""

import json
from copy import deepcopy
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer, T5Tokenizer

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


def t5() -> T5Tokenizer:
    """T5's own class: words begun by a mark, pieces of them, `<unk>` for what it does not know."""
    pieces = [(piece, float(len(piece)) - 5) for piece in map(chr, range(33, 127))]
    pieces += [("\u2581the", 0.0), ("\u2581fox", 0.0), ("\u2581a", 0.0), ("es", 0.0)]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -4.0)]
    return T5Tokenizer(vocab=[*specials, *pieces], extra_ids=0)


def umt5() -> PreTrainedTokenizerFast:
    """As UMT5's: compatibility characters made plain, bytes for what it does not know."""
    pieces = [*map(chr, range(33, 127)), "\u2581", "\u2581the", "\u2581fox", "\u2581a", "es"]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    scores += [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    scores += [(piece, float(len(piece)) - 5) for piece in pieces]
    backend = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=True))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def qwen() -> Qwen2Tokenizer:
    """Qwen's own class: accents joined to their letters, bytes, a space before the word."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", *alphabet, *("".join(pair) for pair in MERGES)]
    ids = {token: index for index, token in enumerate(tokens)}
    return Qwen2Tokenizer(vocab=ids, merges=list(MERGES))


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

"""CLIP's tokenizer from its letters and merges: all of them, or those a few prompts need."""

from typing import Any

from transformers import CLIPTokenizer


def build_tokenizer(table: Any, padding: str) -> CLIPTokenizer:
    """77 tokens at once; ids count the tokens of `table`, not those of the released vocabulary."""
    letters, merges = list(table["letters"]), [tuple(pair.split()) for pair in table["merges"]]
    ends = [f"{letter}</w>" for letter in letters]
    tokens = [*letters, *ends, *("".join(pair) for pair in merges)]
    vocabulary = dict.fromkeys((*tokens, "<|startoftext|>", "<|endoftext|>"))
    ids = {token: index for index, token in enumerate(vocabulary)}
    return CLIPTokenizer(vocab=ids, merges=merges, pad_token=padding, model_max_length=77)

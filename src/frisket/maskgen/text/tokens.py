"""Phrases to token ids, with a plain word where a model cannot read one."""

from typing import Any

from frisket.maskgen.base import BackendUnusable


def tokenise(tokenizer: Any, phrase: str, room: int) -> Any:
    """`phrase` as the tokenizer's batch of one, padded to `room` tokens (ids and attention mask).

    Raises BackendUnusable for a phrase of no tokens, or of more than there is room for: cutting it
    would look for something else than was asked.
    """
    ids = tokenizer(phrase, add_special_tokens=False)["input_ids"]
    left = room - tokenizer.num_special_tokens_to_add()
    if not phrase.strip() or not ids:
        raise BackendUnusable(
            f"phrase {phrase!r} has nothing to look for; write a noun, or drop it"
        )
    if len(ids) > left:
        raise BackendUnusable(
            f"phrase {phrase!r} is {len(ids)} tokens long and the model reads {left};"
            " shorten it to a noun and its adjectives"
        )
    return tokenizer(phrase, return_tensors="pt", padding="max_length", max_length=room)

"""Records where TARA's and TokenCompose's own code finds words, for tests/attention/test_peers.py.

    python scripts/record_peer_phrases.py tara=CHECKOUT tokencompose=CHECKOUT \
        vocabulary=bpe_simple_vocab_16e6.txt.gz

A checkout is a clone, bare or not, with or without @COMMIT; the vocabulary is CLIP's own, as the
MIT-licensed packages clip and open_clip_torch hold it. Their functions are taken out of the commit
and run with that vocabulary's tokenizer, as Stable Diffusion has it and as SDXL's second (padded
with "!"); none of their text is kept. `tests/attention/peers/phrases.json` gets the tokens and
merges that the prompts below need (a few hundred of 49408), and for every prompt and word the
positions each of them gives, or what it raises.
"""

import gzip
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit  # noqa: E402
from tests.attention.clip_vocabulary import build_tokenizer  # noqa: E402

TO = ROOT / "tests/attention/peers/phrases.json"
CASES = (
    ("a photo of sks dog", "sks"),
    ("a photo of a sks dog, next to sks cat", "sks"),
    ("a photo of ohwx man on the beach", "ohwx"),
    ("a photo of ohwx man on the beach", "ohwx man"),
    ("OHWX Man, smiling", "ohwx man"),
    ("a portrait of zxqwv person's hat", "zxqwv"),
    ("two foxes and a fox", "fox"),
    ("the dogfox", "fox"),
    ("the xqzxqwv", "zxqwv"),
    ("a cat; a dog. (a bird)", "dog"),
    ("a red-haired woman in a t-shirt", "t-shirt"),
    ("a woman's hat", "woman's hat"),
    ("a caf\u00e9 terrace at night", "caf\u00e9"),
    ("7up and 77up", "77up"),
    ("no such word", "sks"),
    ("one, two, three, four, " * 9 + "sks dog", "sks"),
    ("one, two, three, four, " * 9 + "one, zxqwv", "zxqwv"),
)


def read_merges(path: str) -> list[tuple[str, str]]:
    """CLIP's merges, as its own tokenizer reads them out of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as opened:
        lines = opened.read().split("\n")
    return [(first, last) for first, last in (line.split() for line in lines[1 : 49152 - 256 - 1])]


def needed(word: str, ranks: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """The merges that byte-pair encoding makes in one word."""
    parts, used = [*word[:-1], f"{word[-1]}</w>"], set()
    while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        used.add(best)
        merged: list[str] = []
        for part in parts:
            if merged and (merged[-1], part) == best:
                merged[-1] += part
            else:
                merged.append(part)
        parts = merged
    return used


def cut_down(merges: list[tuple[str, str]], full: CLIPTokenizer) -> dict[str, Any]:
    """Tokens and merges, in their order, that the cases' words are made of."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    used: set[tuple[str, str]] = set()
    for text in {text for case in CASES for text in case}:
        small = full.backend_tokenizer.normalizer.normalize_str(text)
        for word, _ in full.backend_tokenizer.pre_tokenizer.pre_tokenize_str(small):
            used |= needed(word, ranks)
    kept = sorted(used, key=ranks.__getitem__)
    letters = {letter for pair in kept for letter in "".join(pair).replace("</w>", "")}
    letters |= {x for t, w in CASES for x in (t + w).lower() if x.isascii() and not x.isspace()}
    letters |= {"\u00c3", "\u00a9"}  # the bytes of e with an acute accent
    return {"letters": "".join(sorted(letters)), "merges": [" ".join(pair) for pair in kept]}


def tara(peer: Commit, tokenizers: list[CLIPTokenizer], prompt: str, word: str) -> list[int]:
    """As inference_tara.py: one tokenizer, or the positions of both together."""
    find = peer.function("utils.py", "build_token_masks", List=list)
    masks = [find(tokenizer, [prompt], word, "cpu")[0] for tokenizer in tokenizers]
    union = masks[0] if len(masks) == 1 else masks[0] | masks[1]
    return union.nonzero()[:, 0].tolist()


def token_compose(peer: Commit, tokenizer: CLIPTokenizer, prompt: str, word: str) -> Any:
    find = peer.function("train/src/loss_utils.py", "get_word_idx")
    try:
        return find(prompt, word, tokenizer)
    except (AssertionError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    peers = {name: Commit(given[name]) for name in ("tara", "tokencompose")}
    merges = read_merges(given["vocabulary"])
    table = {"letters": sorted(ByteLevel.alphabet()), "merges": [" ".join(pair) for pair in merges]}
    tokenizers = [build_tokenizer(table, padding) for padding in ("<|endoftext|>", "!")]
    small = cut_down(merges, tokenizers[0])
    cases = []
    for prompt, word in CASES:
        tokens = tokenizers[0].tokenize(prompt)
        assert tokens == build_tokenizer(small, "!").tokenize(prompt), prompt
        case = {"prompt": prompt, "word": word, "tokens": tokens}
        case["tara"] = tara(peers["tara"], tokenizers[:1], prompt, word)
        case["tara_xl"] = tara(peers["tara"], tokenizers, prompt, word)
        case["tokencompose"] = token_compose(peers["tokencompose"], tokenizers[0], prompt, word)
        cases.append(case)
    commits = {name: {"commit": peer.name, "files": peer.files} for name, peer in peers.items()}
    TO.parent.mkdir(exist_ok=True)
    TO.write_text(json.dumps({"peers": commits, "vocabulary": small, "cases": cases}, indent=1))
    print(f"{len(cases)} cases, {len(small['merges'])} merges -> {TO.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

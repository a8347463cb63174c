# ruff: noqa: D102
"""Records what kohya's sd-scripts make of prompts (clip skip, long ones), for test_sd_prompts.py.

    python scripts/record_peer_prompts.py CHECKOUT[@COMMIT]

As record_peer_losses.py: nothing of its text is kept, only what its functions give for the
encoders and prompts of tests/families/clip_words.py.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace as Stub
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.peers.text import Commit  # noqa: E402
from tests.families import clip_words  # noqa: E402

TO = ROOT / "tests/families/peer_prompts.json"
LENGTHS = (None, 150, 225)
SINGLE = (
    *(("<end>", length, skip) for length in LENGTHS for skip in (None, 2, 3)),
    ("!", 225, 2),
)  # of SD 1.5: what is padded with, max_token_length, clip_skip


class Peer:
    """An encoder as transformers 4 had it: what is inside is one level down."""

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, torch.device("cpu")
        self.text_model = getattr(model, "text_model", model)
        self.text_projection = getattr(model, "text_projection", None)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.model(*given, **named)


def record(commit: Commit) -> list[dict[str, Any]]:
    cut = commit.function("library/strategy_base.py", "_get_input_ids")
    encode = commit.function("library/strategy_sd.py", "encode_tokens")
    file = "library/strategy_sdxl.py"
    pool = commit.function(file, "_pool_workaround")
    both = commit.function(file, "_get_hidden_states_sdxl")
    me = Stub(_pool_workaround=lambda *given: pool(None, *given))
    rows: list[dict[str, Any]] = []

    def ids(tokenizer: Any, length: int | None) -> torch.Tensor:
        # As SdTokenizeStrategy and SdxlTokenizeStrategy take it.
        longest = tokenizer.model_max_length if length is None else length + 2
        return torch.stack([cut(None, tokenizer, each, longest) for each in clip_words.PROMPTS])

    with torch.no_grad():
        for padding, length, skip in SINGLE:
            tokenizer = clip_words.tokenizer(padding=padding)
            told = [ids(tokenizer, length)]
            model = [Peer(clip_words.encoder(1))]
            made = encode(Stub(clip_skip=skip), Stub(tokenizer=tokenizer), model, told)[0]
            rows.append(
                {
                    "model": "sd15", "padding": padding, "max_tokens": length,
                    "clip_skip": skip, "text": clip_words.summed(made),
                }
            )  # fmt: skip
        one, two = (clip_words.tokenizer(padding=padding) for padding in ("<end>", "!"))
        models = (
            Peer(clip_words.encoder(1)),
            Peer(clip_words.encoder(2, layers=4, projection=True)),
        )
        for length in LENGTHS:
            first, second, pooled = both(me, ids(one, length), ids(two, length), one, two, *models)
            rows.append(
                {
                    "model": "sdxl", "padding": "!", "max_tokens": length, "clip_skip": None,
                    "text": clip_words.summed(torch.cat([first, second], dim=-1)),
                    "pooled": [round(value, 6) for value in pooled.flatten().tolist()],
                }
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    commit = Commit(sys.argv[1])
    rows = record(commit)
    lines = ",\n".join(json.dumps(row) for row in rows)
    source = {"repository": "kohya-ss/sd-scripts", "commit": commit.name, "files": commit.files}
    TO.write_text(f'{{"source": {json.dumps(source)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(rows)} rows to {TO}")

"""A CLIP tokenizer and encoders as small as may be, their weights written out: for peers' numbers.

As in the released ones the end has the highest id, and padding is the end or the token 0 ("!").
"""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
)

from frisket.families.shared.sd_files import CLIP

WIDTH = 16
PROMPTS = (
    "",
    "a red fox, snow",
    "x" * 75,  # just full
    "a long caption, " * 5 + "!!!!!!",  # token 76 is padding's
    "one, two, three, " * 20,  # longer than any piece
)


def tokenizer(*, padding: str) -> PreTrainedTokenizerFast:
    """A token a byte; 77 at once."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: index for index, token in enumerate([*alphabet, "<begin>", "<end>"])}
    made = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [("<begin>", ids["<begin>"]), ("<end>", ids["<end>"])]
    made.post_processor = processors.TemplateProcessing(
        single="<begin> $A <end>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<begin>",
        eos_token="<end>",
        unk_token="<end>",
        pad_token=padding,
        model_max_length=77,
    )


def encoder(seed: int, *, layers: int = 12, projection: bool = False):
    """Frozen, float32; its weights are numpy's draws, which no version of torch moves."""
    config = CLIPTextConfig(
        **CLIP | {"vocab_size": 258},
        hidden_size=WIDTH,
        intermediate_size=24,
        num_attention_heads=4,
        num_hidden_layers=layers,
        projection_dim=WIDTH,
    )
    made = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    draws = np.random.RandomState(seed)
    with torch.no_grad():
        for name, value in sorted(made.named_parameters()):
            about = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            drawn = about + draws.uniform(-0.3, 0.3, tuple(value.shape))
            value.copy_(torch.from_numpy(drawn))
    return made.requires_grad_(False).eval()


def summed(states: torch.Tensor) -> list[float]:
    """Of b n d, each prompt's mean over n, and the mean weighted by where a token stands."""
    at = torch.cos(torch.arange(states.shape[1], dtype=torch.float64))[:, None]
    both = torch.cat([states.double().mean(1), (states.double() * at).mean(1)], dim=1)
    return [round(value, 6) for value in both.flatten().tolist()]

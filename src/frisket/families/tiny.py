"""Small random encoders and a byte tokenizer that need no download: the families' `tiny` parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 280  # of every tiny encoder: the specials, 256 bytes and some to spare
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{{ c.get('text', '') }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@contextmanager
def seed_torch(seed: int = 0) -> Iterator[None]:
    """Inside, torch draws from `seed`; after, from where it was (CUDA is never touched)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA as well
        yield


def quiet(*modules: Any) -> tuple[Any, ...]:
    """Frozen, in eval mode."""
    return tuple(module.requires_grad_(False).eval() for module in modules)


def tokenizer(
    length: int, *, begin: bool = False, extra: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """One token a byte; `begin` frames a text as <s> ... </s> (CLIP), else it ends with </s> (T5).

    `extra` are further special tokens; the chat template is that of Qwen's models in short.
    """
    special = (*SPECIAL, *extra)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*special, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if begin else "$A </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    whole = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[*SPECIAL[4:], *extra],
        model_max_length=length,
    )
    whole.chat_template = CHAT
    return whole


def t5(width: int = 32) -> T5EncoderModel:
    """A T5 encoder of two layers with gated feed-forward, `width` channels wide."""
    return T5EncoderModel(_t5(T5Config, width, feed_forward_proj="gated-gelu"))


def umt5(width: int = 32) -> UMT5EncoderModel:
    """A UMT5 encoder of two layers, `width` channels wide."""
    return UMT5EncoderModel(_t5(UMT5Config, width))


def _t5(kind: Callable[..., Any], width: int, **options: Any) -> Any:
    return kind(
        vocab_size=VOCABULARY,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        **options,
    )


def clip_text(width: int = 32, *, projection: int = 0) -> nn.Module:
    """Three layers; with `projection` the model whose pooled output is projected to that width."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        projection_dim=projection or width,
    )
    encoder: nn.Module = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return encoder


def kl_vae(kind: Any, channels: int, **options: Any) -> Any:
    """A picture VAE of 8 channels and stride 8 (`kind` is AutoencoderKL or one built like it)."""
    return kind(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        **options,
    )

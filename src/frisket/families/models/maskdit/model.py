"""The denoiser: an encoder that sees the kept tokens alone, a small decoder that sees all.

After Zheng et al. 2023 (arXiv 2306.09305, sections 3.2 and 3.3), written from the equations.
"""

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from frisket.families.models.maskdit.tokens import (
    cut_patches,
    embed_level,
    embed_places,
    join_patches,
    restore_tokens,
    take_tokens,
)
from frisket.shapes import Latents, PerSample

EPSILON = 1e-6  # of the layer norms
LEVEL_WIDTH = 256  # of a noise level's waves
HIGHEST = 80.0  # sigma that higher ones are told as (Karras et al. 2022 sample from there)


class TokenAttention(nn.Module):
    """Multi-head attention of tokens to themselves, or to a text; diffusers' names of layers."""

    def __init__(self, width: int, heads: int, text_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(text_width or width, width)
        self.to_v = nn.Linear(text_width or width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(
        self, hidden_states: Float[Tensor, "b n d"], text: Float[Tensor, "b s e"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """What each token takes from all, or from the text."""
        source = hidden_states if text is None else text
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, tokens in (
                (self.to_q, hidden_states),
                (self.to_k, source),
                (self.to_v, source),
            )
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(2))
        return output


class Modulation(nn.Module):
    """Shifts, scales and gates from the condition: `count` vectors, 0 before training."""

    def __init__(self, condition_width: int, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(condition_width, count * width)

    def forward(self, condition: Float[Tensor, "b c"]) -> tuple[Tensor, ...]:
        """Each b 1 d."""
        return self.linear(functional.silu(condition))[:, None].chunk(self.count, dim=-1)


class MaskDiTBlock(nn.Module):
    """A DiT block with adaLN-zero (Peebles & Xie 2023); between its two parts it may read text."""

    def __init__(
        self,
        width: int,
        condition_width: int,
        heads: int,
        mlp_ratio: float,
        text_width: int | None = None,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(condition_width, width, 6)
        self.attn1 = TokenAttention(width, heads)
        self.attn2 = TokenAttention(width, heads, text_width) if text_width else None
        inner = int(width * mlp_ratio)
        self.ff = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, width)
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "b n d"],
        condition: Float[Tensor, "b c"],
        text: Float[Tensor, "b s e"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attend to all, read the text where there is one, and think, each behind its gate."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition)
        states = hidden_states
        states = states + gate * self.attn1(_shift_and_scale(states, shift, scale))
        if self.attn2 is not None:
            states = states + self.attn2(_normalise(states), text)
        return states + mlp_gate * self.ff(_shift_and_scale(states, mlp_shift, mlp_scale))


class ModulatedLinear(nn.Module):
    """Layer norm, shifted and scaled by the condition, then a linear layer to another width."""

    def __init__(self, width: int, condition_width: int, out_width: int) -> None:
        super().__init__()
        self.modulation = Modulation(condition_width, width, 2)
        self.proj = nn.Linear(width, out_width)

    def forward(
        self, hidden_states: Float[Tensor, "b n d"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b n e"]:
        """Every token by itself."""
        shift, scale = self.modulation(condition)
        output: Tensor = self.proj(_shift_and_scale(hidden_states, shift, scale))
        return output


class MaskDiTModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """F of EDM's preconditioning, for latents b c f h w of any size in whole patches.

    `kept_tokens` are those that the encoder sees (one row a sample, or one for all; all where it is
    None): the others are left out before the first block, and stand in the decoder as
    `mask_token` at their places. The text comes in twice: all its positions side by side through
    one linear layer into the condition of every block (the paper's class label; texts here have
    `text_slots` positions that mean something by their place), and, with `text_attention`, by
    cross-attention in the encoder's blocks. `frames`: tokens know their frame.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["MaskDiTBlock"]  # noqa: RUF012, as diffusers has it
    _repeated_blocks = ["MaskDiTBlock"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        patch_size: int = 2,
        width: int = 1152,
        depth: int = 28,
        heads: int = 16,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        mlp_ratio: float = 4.0,
        text_slots: int = 12,
        text_width: int = 64,
        text_attention: bool = True,
        frames: bool = False,
    ) -> None:
        super().__init__()
        values = in_channels * patch_size**2
        self.patch_embed = nn.Linear(values, width)
        self.time_embed = nn.Sequential(
            nn.Linear(LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.text_embed = nn.Linear(text_slots * text_width, width, bias=False)
        reads = text_width if text_attention else None
        self.blocks = nn.ModuleList(
            MaskDiTBlock(width, width, heads, mlp_ratio, reads) for _ in range(depth)
        )
        self.decoder_in = ModulatedLinear(width, width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_blocks = nn.ModuleList(
            MaskDiTBlock(decoder_width, width, decoder_heads, mlp_ratio)
            for _ in range(decoder_depth)
        )
        self.decoder_out = ModulatedLinear(decoder_width, width, values)
        self.gradient_checkpointing = False
        self.draw_weights()

    def draw_weights(self) -> None:
        """Draw fresh weights: Xavier, zero gates and a zero output (adaLN-zero), N(0, 0.02)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        embeds: Any = (self.text_embed, self.time_embed[0], self.time_embed[2])
        for layer in embeds:
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        silent: list[Any] = [
            module.linear for module in self.modules() if isinstance(module, Modulation)
        ]
        silent += [
            module.to_out[0]
            for name, module in self.named_modules()
            if name.endswith("attn2") and isinstance(module, TokenAttention)
        ]
        for layer in (*silent, self.decoder_out.proj):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        hidden_states: Latents,
        timestep: PerSample,
        encoder_hidden_states: Float[Tensor, "b s e"],
        kept_tokens: Int[Tensor, "_ k"] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """F of latents that are scaled to unit variance; `timestep` is t * 1000.

        ValueError for latents that do not cut into whole patches.
        """
        grid = self.find_grid(hidden_states)
        config: Any = self.config
        text = encoder_hidden_states
        condition = self._embed_condition(timestep, text)
        states = self.patch_embed(
            take_tokens(cut_patches(hidden_states, config.patch_size), kept_tokens)
        )
        places = embed_places(grid, config.width, frames=config.frames).to(states)
        states = states + take_tokens(places, kept_tokens)
        for block in self.blocks:
            states = self._run_block(block, states, condition, text)
        states = self.decoder_in(states, condition)
        count = grid[0] * grid[1] * grid[2]
        states = restore_tokens(states, kept_tokens, self.mask_token, count)
        states = states + embed_places(grid, config.decoder_width, frames=config.frames).to(states)
        for block in self.decoder_blocks:
            states = self._run_block(block, states, condition, None)
        states = self.decoder_out(states, condition)
        output = join_patches(states, grid, config.patch_size)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def find_grid(self, latents: Latents) -> tuple[int, int, int]:
        """The token grid f h w of latents; ValueError where they do not cut into whole patches."""
        config: Any = self.config
        patch, (frames, height, width) = config.patch_size, latents.shape[2:]
        if height % patch or width % patch:
            raise ValueError(
                f"latents of {height} x {width} cells do not cut into patches of {patch} x {patch}"
            )
        return frames, height // patch, width // patch

    def _embed_condition(self, timestep: Tensor, text: Tensor) -> Tensor:
        """The noise level, told as ln(sigma) / 4 (Karras et al. 2022, table 1), and the text."""
        t = (timestep.float() / 1000).clamp(max=HIGHEST / (1 + HIGHEST))
        level = (t / (1 - t)).log() / 4
        waves = embed_level(level, LEVEL_WIDTH).to(text.dtype)
        embedded: Tensor = self.time_embed(waves) + self.text_embed(text.flatten(1))
        return embedded

    def _run_block(
        self, block: nn.Module, states: Tensor, condition: Tensor, text: Tensor | None
    ) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            again: Any = self._gradient_checkpointing_func
            output: Tensor = again(block, states, condition, text)
        else:
            output = block(states, condition, text)
        return output


def _normalise(states: Tensor) -> Tensor:
    return functional.layer_norm(states, states.shape[-1:], eps=EPSILON)


def _shift_and_scale(states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return _normalise(states) * (1 + scale) + shift

"""`[lora]`: the adapter, its form, size and place, and when and where it acts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from frisket.config.data import Count, Fraction, Positive, Section


class Lora(Section):
    """The adapter: its form, its size and the layers it goes on."""

    kind: Literal["lora", "dora", "loha", "lokr"] = "lora"
    """Which low-rank form (peft)."""
    rank: Count = 16
    """Rank of the update."""
    alpha: Positive | None = None
    """Scale numerator (update times alpha / rank); empty is the rank."""
    conv_rank: Annotated[int, Field(ge=0)] = 0
    """Rank on the 3 x 3 convolutions (Stable Diffusion); 0 leaves them alone."""
    conv_alpha: Positive | None = None
    """Scale numerator there; empty is conv_rank."""
    factor: int = -1
    """LoKr: the size of the smaller factor at most; -1 takes the two nearest to each other."""
    full_matrix: bool = False
    """LoKr: the larger factor is whole, not of a rank."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input (loha, lokr: on the rows of the update)."""
    rank_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """lora: share of the ranks left out, drawn for each sample anew; loha, lokr: as dropout."""
    module_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Chance that a layer goes without its adapter in a step."""
    max_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest norm of a layer's update: what is beyond is scaled down after each step; 0 is off."""
    rank_schedule: Literal["", "t-lora"] = ""
    """How many ranks act at which noise level, in training and sampling: `t-lora` lets more of them
    act the less noise there is (docs/t-lora); empty is all of them always."""
    rank_min: Count | None = None
    """t-lora: the ranks that act at pure noise; empty is half of the rank."""
    rank_power: Positive = 1.0
    """t-lora: exponent of (1 - t); above 1, ranks come in later."""
    rank_by: Literal["t", "quantile"] = "t"
    """t-lora: go by t, or by the share of training below it. The latter for models that train and
    sample at high noise most of the time, where by t hardly a rank beyond rank_min would act."""
    orthogonal: bool = False
    """Start from orthonormal factors less a frozen copy (T-LoRA's Ortho-LoRA), not from B = 0. The
    file is a LoRA of twice the rank."""
    confine: Annotated[int, Field(ge=0)] | None = None
    """Confine the adapter to the masks while training, grown by as many latent cells: outside it
    does nothing (docs/regional-lora). Empty is everywhere. Regions of weight 0 are outside."""
    focus: str = ""
    """Rare word (or phrase) of the captions: on the text the adapter acts on its tokens alone, so
    that adapters of several words do not meet there (TARA, docs/tara). Empty is all tokens."""
    align: str = ""
    """Class word of the captions that the key of `focus` is held near to; empty is no alignment."""
    align_strength: Positive = 1.0
    """What that counts for in the loss."""
    preset: str = ""
    """Which layers, by name: attn, attn-mlp, full, ... (docs/training); empty is the family's own
    choice. `targets` are instead of it."""
    targets: tuple[str, ...] = ()
    """Module name endings (or one regular expression in slashes); empty takes the family's own."""
    exclude: tuple[str, ...] = ()
    """Module name endings to leave alone."""
    source: Path | None = None
    """LoRA file to continue from, in any of the formats."""
    format: Literal["comfyui", "diffusers", "kohya"] = "comfyui"
    """Key names of the saved file; `frisket convert` changes them later."""

    @model_validator(mode="after")
    def _kind_fits(self) -> "Lora":
        for name in () if self.kind == "lokr" else ("factor", "full_matrix"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f'`lora.{name}` is for kind = "lokr" only, this is {self.kind!r}')
        for name in ("rank_dropout", "module_dropout") if self.kind == "dora" else ():
            if getattr(self, name):
                raise ValueError(f"`lora.{name}` is not for a dora; use `lora.dropout`")
        if self.kind in ("loha", "lokr") and self.dropout and self.rank_dropout:
            raise ValueError(
                f"`lora.dropout` and `lora.rank_dropout` are the same for a {self.kind}: give one"
            )
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Lora":
        if self.full_matrix and (self.alpha is not None or self.conv_alpha is not None):
            raise ValueError("`lora.alpha` has no meaning with full_matrix (scale 1): leave it out")
        if self.factor == 0 or self.factor < -1:
            raise ValueError(f"`lora.factor` should be -1, or 1 or more, got {self.factor}")
        if self.conv_alpha is not None and not self.conv_rank:
            raise ValueError("`lora.conv_alpha` is of `lora.conv_rank`: give that too")
        if self.preset and self.targets:
            raise ValueError("`lora.preset` and `lora.targets` both say which layers: give one")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Lora":
        acting = {
            "rank_schedule": bool(self.rank_schedule),
            "orthogonal": self.orthogonal,
            "confine": self.confine is not None,
            "focus": bool(self.focus),
        }
        name = next((name for name, is_set in acting.items() if is_set), "")
        if name and self.kind != "lora":
            raise ValueError(
                f'`lora.{name}` is for kind = "lora" only, this is {self.kind!r}: nothing can be'
                " put between its factors"
            )
        if not self.rank_schedule:
            for option in ("rank_min", "rank_power", "rank_by"):
                if getattr(self, option) != type(self).model_fields[option].default:
                    raise ValueError(f'`lora.{option}` needs `lora.rank_schedule = "t-lora"`')
        if self.rank_min is not None and self.rank_min > self.rank:
            raise ValueError(
                f"`lora.rank_min` should be at most `lora.rank` ({self.rank}), got {self.rank_min}"
            )
        return self

    @model_validator(mode="after")
    def _words_fit(self) -> "Lora":
        if self.align and not self.focus:
            raise ValueError("`lora.align` is the class of `lora.focus`: give the rare word too")
        if self.focus and self.focus == self.align:
            raise ValueError(f"`lora.focus` and `lora.align` are both {self.focus!r}")
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> "Lora":
        if self.conv_rank and (self.rank_schedule or self.orthogonal):
            raise ValueError(
                "`lora.conv_rank` gives convolutions a rank of their own, which no schedule and no"
                " orthogonal start is for: leave it out, or name the convolutions in `lora.targets`"
            )
        for name in ("rank_dropout", "module_dropout", "max_norm") if self.orthogonal else ():
            if getattr(self, name):
                raise ValueError(
                    f"`lora.{name}` knows one half of an orthogonal adapter only: leave it out"
                )
        return self

    @property
    def words(self) -> dict[str, str]:
        """The words of the captions that the adapter goes by, by option."""
        words = {"focus": self.focus, "align": self.align}
        return {option: word for option, word in words.items() if word}

    @property
    def least_rank(self) -> int:
        """The ranks that act at pure noise."""
        return max(1, self.rank // 2) if self.rank_min is None else self.rank_min

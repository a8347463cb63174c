"""Several LoRAs in one picture: from options to a method, and its masks to files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from frisket.adapters.routed.factors import Factors
from frisket.attention.base import Positions
from frisket.attention.tokens import locate
from frisket.config.calls import Fuse
from frisket.config.load import ConfigError
from frisket.families.base import Family, Parts, Source
from frisket.inference.grids import save
from frisket.inference.methods.freefuse.bias import Bias, check_apart
from frisket.inference.methods.freefuse.method import FreeFuse, FuseOptions, check_steps
from frisket.inference.methods.tara import Tara
from frisket.inference.sample_specs import SampleSpec, references
from frisket.runs.methods.focusing import read_focus


@dataclass(frozen=True, slots=True)
class FusePlan:
    """What is fused: names of the LoRAs, the words each is about, where these are by prompt."""

    names: tuple[str, ...]
    triggers: tuple[str, ...]
    phrases: Mapping[str, tuple[Positions, ...]]
    background: Mapping[str, Positions] | None
    options: FuseOptions | None  # of FreeFuse; None is TARA

    def build(self, family: Family, parts: Parts, adapters: Sequence[Factors]) -> FreeFuse | Tara:
        """The method, for LoRAs that are on the denoiser, in the order of `names`."""
        if self.options is None:
            return Tara(adapters, self.phrases)
        assert parts.denoiser is not None
        return FreeFuse(
            family,
            parts.denoiser,
            adapters,
            self.names,
            self.phrases,
            self.background,
            self.options,
        )

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        triggers = dict(zip(self.names, self.triggers, strict=True))
        if self.options is None:
            return {"method": "tara", "triggers": triggers}
        return {
            "method": "freefuse",
            "triggers": triggers,
            "step": self.options.step,
            "layers": list(self.options.layers),
            "looked_at": "base" if self.options.base else "loras",
            "bias": self.options.bias is not None,
        }


def plan_fusion(
    fuse: Fuse,
    family: Family,
    source: Source,
    lora: Sequence[tuple[Path, float]],
    specs: Sequence[SampleSpec],
    masks: Sequence[str] = (),
) -> FusePlan | None:
    """Where each LoRA's words are in every prompt; None where nothing is fused.

    `masks` are those that the user gives LoRAs, which a fused one has no use for.

    Reads tokenizers, no weights. ConfigError for options that do not fit together, for a LoRA
    without a trigger, for words that a prompt has not, or not where the model reads it.
    """
    _check_options(fuse, masks)
    if not fuse.method:
        return None
    names = name_loras([path for path, _ in lora])
    words = fuse.triggers
    if fuse.method == "tara" and not words:
        words = tuple(
            f"{name}={read_focus(path)}" for name, (path, _) in zip(names, lora, strict=True)
        )
    triggers = pair_triggers(names, words)
    if fuse.method == "tara":
        phrases, _ = _locate_words(family, source, specs, triggers)
        return FusePlan(names, triggers, phrases, None, None)
    bias = Bias() if fuse.bias else None
    layers = fuse.layers or family.suggestions.fuse_layers
    options = FuseOptions(step=fuse.step, layers=layers, base=not fuse.loras, bias=bias)
    try:
        check_steps(options, specs)
    except ValueError as error:
        raise ConfigError(f"generate: {error} (--fuse-step, --steps)") from error
    phrases, background = _locate_words(family, source, specs, triggers, fuse.background)
    return FusePlan(names, triggers, phrases, background, options)


def _check_options(fuse: Fuse, masks: Sequence[str]) -> None:
    """ConfigError for options that do not fit together."""
    if not fuse.method and (fuse.triggers or fuse.background):
        raise ConfigError(
            "generate: --trigger and --fuse-background say what is fused: add --fuse freefuse"
        )
    if fuse.method and masks:
        raise ConfigError(
            "generate: --fuse finds each LoRA's mask by itself; leave --lora-mask out, or --fuse"
        )
    if fuse.method == "tara" and (fuse.background or fuse.bias):
        raise ConfigError(
            "generate: TARA looks at no picture: leave --fuse-background and --fuse-bias out"
        )


def name_loras(paths: Sequence[Path]) -> tuple[str, ...]:
    """What LoRA files are called: the name without its ending; files of one name get a number."""
    if not paths:
        raise ConfigError("generate: --fuse needs a --lora; --base has none")
    counts, numbers = Counter(path.stem for path in paths), Counter[str]()
    names = []
    for path in paths:
        numbers[path.stem] += 1
        shares_name = counts[path.stem] > 1
        names.append(f"{path.stem}-{numbers[path.stem]}" if shares_name else path.stem)
    return tuple(names)


def pair_triggers(names: Sequence[str], triggers: Sequence[str]) -> tuple[str, ...]:
    """The phrase of each LoRA, from `NAME=PHRASE` or from phrases in turn; ConfigError: which."""
    pairs = [trigger.partition("=") for trigger in triggers]
    named = {name.strip(): phrase for name, equals, phrase in pairs if equals}
    in_turn = [phrase for phrase, equals, _ in pairs if not equals]
    _check_names(names, triggers, named, in_turn)
    phrases = named or dict(zip(names, in_turn, strict=False))
    lacking = [name for name in names if not phrases.get(name, "").strip()]
    if lacking:
        raise ConfigError(
            f'generate: {lacking[0]} has no trigger: give --trigger {lacking[0]}="..." with the'
            " words of the prompt that it is about"
        )
    return tuple(phrases[name].strip() for name in names)


def _check_names(
    names: Sequence[str],
    triggers: Sequence[str],
    named: Mapping[str, str],
    in_turn: Sequence[str],
) -> None:
    """ConfigError where triggers with and without a name do not fit the LoRAs."""
    if named and in_turn:
        raise ConfigError(
            f"generate: name every --trigger (NAME=PHRASE) or none; {in_turn[0]!r} has no name"
        )
    unknown = [name for name in named if name not in names]
    if unknown or len(named) + len(in_turn) != len(triggers):
        name = unknown[0] if unknown else "a LoRA"
        raise ConfigError(
            f"generate: --trigger {name}=... names no --lora, or one twice; there are"
            f" {', '.join(names)}"
        )
    if len(in_turn) > len(names):
        raise ConfigError(f"generate: {len(in_turn)} --trigger for {len(names)} --lora")


def _locate_words(
    family: Family,
    source: Source,
    specs: Sequence[SampleSpec],
    triggers: Sequence[str],
    background: str = "",
) -> tuple[dict[str, tuple[Positions, ...]], dict[str, Positions] | None]:
    tokenizer = family.load_tokenizer(source)
    card = family.variants[source.variant]
    phrases: dict[str, tuple[Positions, ...]] = {}
    behind: dict[str, Positions] = {}
    for spec in specs:
        if spec.prompt in phrases:
            continue
        pictures = references(card, spec)
        spans = family.read_spans(tokenizer, [spec.prompt], [pictures] if pictures else ())[0]
        try:
            phrases[spec.prompt] = tuple(locate(spans, spec.prompt, word) for word in triggers)
            if background:
                behind[spec.prompt] = locate(spans, spec.prompt, background)
        except ValueError as error:
            raise ConfigError(f"generate: {error}") from error
    word_positions = [
        (*row, *([behind[prompt]] if background else [])) for prompt, row in phrases.items()
    ]
    try:
        check_apart(word_positions, (*triggers, background))
    except ValueError as error:
        raise ConfigError(f"generate: {error}") from error
    return phrases, behind if background else None


def save_masks(
    masks: Tensor, names: Sequence[str], spec: SampleSpec, path: Path, fps: float
) -> list[Path]:
    """Write each LoRA's mask (T f h w, 0 or 1) as `path`-NAME, white where it acts.

    As large as the sample, a square a cell; of a clip a frame for each of the latent frames.
    """
    down, across = spec.height // masks.shape[2], spec.width // masks.shape[3]
    files = []
    for name, mask in zip(names, masks, strict=True):
        cells = mask.mul(255).byte().repeat_interleave(down, 1).repeat_interleave(across, 2)
        frames = cells[..., None].expand(-1, -1, -1, 3).contiguous()
        files.append(save(frames, path.with_name(f"{path.name}-{name}"), fps))
    return files

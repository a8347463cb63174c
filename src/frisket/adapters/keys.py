"""Keys of adapter files: taken apart into a layer's name and a tensor's, and what is left out."""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from frisket.adapters.layers import MAGNITUDE, A, B
from frisket.adapters.spec import AdapterMismatch
from frisket.families.key_map import Names

MID = "lora_mid.weight"  # Tucker's core between A and B
TEXT = re.compile(
    r"(lora_(?:prior_)?te\d*(?=_)|text_encoders?(?:_\d)?(?=\.)|(?:base_model\.)?cond_stage_model)"
)
# What a tensor is called at the end of its key, by peft's name of it.
ENDINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(.+)\.lora_A(?:(?:\.[\w-]+)?\.weight)?"), A),  # peft's name of the adapter
    (re.compile(r"(.+)\.lora_B(?:(?:\.[\w-]+)?\.weight)?"), B),
    (re.compile(r"(.+)\.lora_(?:down|linear_layer\.down)\.weight"), A),
    (re.compile(r"(.+)\.lora_(?:up|linear_layer\.up)\.weight"), B),
    (re.compile(r"(.+)[._]lora\.down\.weight"), A),
    (re.compile(r"(.+)[._]lora\.up\.weight"), B),
    (re.compile(r"(.+)\.lora_mid\.weight"), MID),
    (re.compile(r"(.+)\.lora_magnitude_vector(?:\.default)?(?:\.weight)?"), MAGNITUDE),
    (re.compile(r"(.+)\.dora_scale"), "dora_scale"),
    (re.compile(r"(.+)\.alpha"), "alpha"),
)
# LyCORIS' names; Tucker's cores of LoHa and LoKr are known so that they are refused by name.
LYCORIS = re.compile(r"(.+)\.(hada_w[12]_[ab]|lokr_w[12](?:_[ab])?|hada_t[12]|lokr_t2)")
# diffusers' first attention adapters had them in a processor, and no number after to_out.
PROCESSOR = re.compile(r"(.+)\.processor\.(.+)")
STARTS = (
    *(("kohya", start) for start in ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_")),
    *(("comfyui", start) for start in ("diffusion_model.", "model.diffusion_model.")),
    *(
        ("peft", f"{outer}base_model.model.{inner}")
        for outer in ("", "transformer.", "unet.")
        for inner in ("", "transformer.", "unet.", "diffusion_model.")
    ),
)
WAY_OUT = " (frisket convert FILE -o OUT --leave-out PATTERN leaves such keys out)"


def part(key: str) -> tuple[str, str]:
    """The layer's name in a key and peft's name of the tensor; two empty ones for another key."""
    if match := LYCORIS.fullmatch(key):
        return match[1], match[2]
    hits = ((pattern.fullmatch(key), end) for pattern, end in ENDINGS)
    base, end = next(((match[1], end) for match, end in hits if match), ("", ""))
    if old := PROCESSOR.fullmatch(base):
        base = f"{old[1]}.{old[2]}"
        base += ".0" if base.endswith(".to_out") else ""
    return base, end


def group_tensors(values: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the layer's name in the file, then by peft's name of the tensor."""
    layers: dict[str, dict[str, Tensor]] = {}
    strange = []
    for key, value in values.items():
        base, end = part(key)
        if not base:
            strange.append(key)
        elif end in layers.setdefault(base, {}):
            raise AdapterMismatch(f"{base} has its {end} twice, under two names")
        else:
            layers[base][end] = value
    if strange:
        raise AdapterMismatch(
            f"{len(strange)} of {len(values)} keys are not adapter keys that Frisket knows, the"
            f" first is {min(strange)}{WAY_OUT}"
        )
    if not layers:
        raise AdapterMismatch("it is empty: no adapter of a denoiser is in it")
    return layers


def form_of(bases: Sequence[str], names: Names | None, prefix: str) -> tuple[str, str]:
    """The format of the keys, and what they all begin with."""
    known = names or Names()
    starts = {start: form for form, start in STARTS}
    starts |= {f"{known.kohya}_": "kohya", f"{known.dotted}.": "comfyui"}
    starts[f"{prefix}."] = "diffusers"
    counts = {start: sum(base.startswith(start) for base in bases) for start in starts}
    start = max(starts, key=lambda beginning: (counts[beginning], len(beginning)))
    form, start = (starts[start], start) if counts[start] else ("bare", "")
    if names is None and form != "diffusers":
        if form == "bare":
            raise strangers(bases, prefix, bases)
        raise AdapterMismatch(
            f"is not an adapter in diffusers' key names (it has {bases[0]}, which is {form}'s);"
            " convert it first (frisket convert)"
        )
    strange = [base for base in bases if not base.startswith(start)]
    if strange:
        raise strangers(strange, start.rstrip("._"), bases)
    return form, start


def strangers(strange: Sequence[str], prefix: str, bases: Sequence[str]) -> AdapterMismatch:
    """The refusal of layers that are not where the others are."""
    return AdapterMismatch(
        f"{len(strange)} of {len(bases)} layers are not adapter keys under {prefix!r}, the first is"
        f" {min(strange)}{WAY_OUT}"
    )


def leave_out(
    values: Mapping[str, Tensor], metadata: Mapping[str, str], patterns: Iterable[str]
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """A file without the tensors and entries of metadata that the patterns name, and what went.

    A pattern is a name with wildcards (`*`, `?`, `[0-9]`) for a whole key or the layer in it, or a
    piece of either where it has none. AdapterMismatch where one names nothing, and where it would
    leave half of a layer, which is another layer.
    """
    kept, entries, lines = dict(values), dict(metadata), []
    for pattern in patterns:
        gone = [key for key in kept if _names(pattern, key) or _names(pattern, part(key)[0])]
        dropped = [key for key in entries if _names(pattern, key)]
        names = [*gone, *(f"metadata {key}" for key in dropped)]
        if not names:
            raise AdapterMismatch(f"nothing in it is called {pattern!r} (--leave-out)")
        for key in gone:
            del kept[key]
        for key in dropped:
            del entries[key]
        lines.append(f"left out by {pattern!r}: {len(names)}, {_count_names(names)}")
    _check_halves(values, kept)
    return kept, entries, lines


def _check_halves(values: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """AdapterMismatch where a layer of `values` is in `kept` in part only."""
    lost = {part(key)[0] for key in values.keys() - kept.keys()} - {""}
    half = sorted(lost & {part(key)[0] for key in kept})
    if half:
        raise AdapterMismatch(
            f"--leave-out would leave a part of {half[0]} and drop another; name the whole layer"
        )


def _names(pattern: str, name: str) -> bool:
    if not name:
        return False
    wild = any(letter in pattern for letter in "*?[")
    return fnmatch.fnmatchcase(name, pattern) if wild else pattern in name


def _count_names(names: Iterable[str]) -> str:
    """Names with their block's number as `*`, each once with how many there are."""
    counts = Counter(re.sub(r"(?<=[._])\d+(?=[._])", "*", name, count=1) for name in names)
    return ", ".join(name if times == 1 else f"{name} ({times})" for name, times in counts.items())

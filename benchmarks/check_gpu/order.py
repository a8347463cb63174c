"""The checks in the order they are run: what everything stands on first, measurements last."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One check: a function `module:name` of this folder and what it is given.

    `limit` is the time after which it is taken for hung, in seconds; `expects` what must be left
    for it to be begun at all.
    """

    name: str
    call: str
    limit: int = 60
    expects: int = 5
    given: tuple[str, ...] = ()


FAMILIES = (
    "wan",
    "flux",
    "qwen_image",
    "stable_diffusion",
    "sd3",
    "z_image",
    "flux2",
    "qwen_image_21",
    "hunyuan_video",
    "pocket",
)
KINDS = ("nf4", "int8", "fp8")
# Models of the predictor's check: real architectures, small enough for any card.
FORETOLD = (
    "Wan 2.1 1.3B",
    "Wan 2.1 1.3B, swap",
    "SD3.5 medium",
    "SDXL",
)
ROWS = ("Wan 2.2 5B", "Wan 2.1 14B, nf4", "Qwen-Image 20B, nf4", "FLUX.1 12B")

ENTRIES = (
    *(Entry(f"contract: {name}", "contracts:family", 90, 5, (name,)) for name in FAMILIES),
    Entry("block swap, plain", "swapping:plain", 120),
    Entry("block swap, checkpointing", "swapping:checkpointing", 120),
    Entry("block swap, the CPU far ahead", "swapping:ahead"),
    Entry("block swap, float8 storage", "swapping:float8"),
    *(Entry(f"block swap, {kind}", "swapping:quantised", 60, 5, (kind,)) for kind in KINDS),
    Entry("experts take turns", "swapping:experts"),
    Entry("experts take turns, block swap", "swapping:swapped_experts"),
    Entry("experts take turns, nf4", "swapping:quantised_experts"),
    *(Entry(f"quantise {kind}", "narrow:quantised", 60, 5, (kind,)) for kind in KINDS),
    Entry("quantise nf4, from card to CPU", "narrow:moved"),
    Entry("float8 storage", "narrow:float8"),
    Entry("bfloat16 autocast", "precision:autocast"),
    Entry("attention backends", "precision:attention", 90),
    Entry("compile, block by block", "precision:compiled", 150, 40),
    Entry("train, float32 against the CPU", "runs:like_the_cpu", 90, 15),
    Entry("resume, bit for bit", "runs:resumed", 120, 25),
    Entry("float16 scaler", "runs:scaled", 90, 10),
    Entry("EMA teacher under autocast", "runs:averaged_teacher", 90, 10),
    Entry("memory after prepare and train", "runs:let_go", 90, 10),
    *(Entry(f"predicted memory: {name}", "rows:foretold", 90, 15, (name,)) for name in FORETOLD),
    *(Entry(f"speed: {name}", "rows:speed", 200, 45, (name,)) for name in ROWS),
)

"""Names of what can be chosen about noise levels, and which choices cannot be: without torch."""

from typing import Literal, Protocol, runtime_checkable

Density = Literal["uniform", "logit_normal", "mode", "cosmap", "beta", "histogram", "levels"]
Bounds = Literal["squeeze", "cut", "squeeze_before_shift"]
Emphasis = Literal["balanced", "content", "style"]
ShiftLaw = Literal[
    "auto", "flux_shift", "flux2_shift", "qwen_shift", "krea2_shift", "flux_shift_video"
]
LevelWeighting = Literal[
    "none",
    "sigma_sqrt",
    "cosmap",
    "sigma",
    "bell",
    "half_bell",
    "flex",
    "debiased",
    "noise_like",
]
LogitNormalPart = tuple[
    float, float, float
]  # share of the draws, mean and std of their logit-normal
STEEPEST = 1.75  # of mode: 2 / (pi - 2), above which its formula leaves (0, 1)


@runtime_checkable
class LevelChoice(Protocol):
    """What a sampler and a section of a configuration have in common."""

    @property
    def density(self) -> Density | None: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def bounds(self) -> Bounds: ...  # noqa: D102
    @property
    def alpha(self) -> float: ...  # noqa: D102
    @property
    def beta(self) -> float: ...  # noqa: D102
    @property
    def histogram(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def levels(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def parts(self) -> tuple[LogitNormalPart, ...]: ...  # noqa: D102


def find_fault(chosen: LevelChoice) -> str:
    """Why no draw could be made of it; empty where one can."""
    if not 0 <= chosen.low < chosen.high <= 1:
        return f"need 0 <= low < high <= 1, got low={chosen.low} high={chosen.high}"
    if chosen.alpha <= 0 or chosen.beta <= 0:
        return f"alpha and beta must be > 0, got {chosen.alpha:g} and {chosen.beta:g}"
    return _find_density_fault(chosen) or _find_parts_fault(chosen.parts)


def _find_density_fault(chosen: LevelChoice) -> str:
    weights, levels, density = chosen.histogram, chosen.levels, chosen.density
    if density == "mode" and chosen.bounds == "cut" and not -1 <= chosen.scale <= STEEPEST:
        return f'bounds = "cut" needs a scale of -1 to {STEEPEST} for mode, got {chosen.scale:g}'
    if density == "histogram" and (not weights or min(weights) < 0 or not sum(weights)):
        return "histogram needs a list of weights, none below 0 and one at least above"
    if density == "levels" and (not levels or min(levels) <= 0 or max(levels) > 1):
        return "levels needs a list of noise levels above 0 and up to 1"
    return _find_list_fault(chosen)


def _find_list_fault(chosen: LevelChoice) -> str:
    """Why a list would be without effect."""
    for name, numbers in (("histogram", chosen.histogram), ("levels", chosen.levels)):
        if numbers and chosen.density != name:
            return f'{name} is for density = "{name}"; set that, or take {name} out'
    return ""


def _find_parts_fault(parts: tuple[LogitNormalPart, ...]) -> str:
    if any(share < 0 or std <= 0 for share, _, std in parts) or sum(p[0] for p in parts) > 1:
        return (
            "each of parts is [share, mean, std], std above 0, and the shares sum up to 1 at most"
        )
    return ""

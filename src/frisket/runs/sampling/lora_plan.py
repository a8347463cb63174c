"""The LoRAs of one call of sampling: where each acts, and on which words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.adapters.routed.factors import Factors
from frisket.config.calls import Fuse
from frisket.families.base import Family, Parts, Source
from frisket.inference.generate import Picture
from frisket.inference.methods.base import Method
from frisket.inference.methods.freefuse.method import FreeFuse
from frisket.inference.sample_specs import SampleSpec
from frisket.runs.methods.focusing import focus_words, locate_focus, read_focus
from frisket.runs.methods.fusing import FusePlan, plan_fusion, save_masks
from frisket.runs.methods.regional import LoraPlace, read_places
from frisket.runs.sampling.sampler import check_loras, tell_reading


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """LoRA files with their strengths, before they are on a denoiser.

    `words` are the rare word that each was trained on ("" for none), `positions` where those are by
    prompt. With a `fusion` they are what that says instead.
    """

    files: Sequence[tuple[Path, float]]
    places: Sequence[LoraPlace | None]
    fusion: FusePlan | None
    words: Sequence[str]
    positions: Mapping[str, Sequence[Sequence[int]]]

    @property
    def focus(self) -> list[str]:
        """The words that LoRAs act on alone."""
        return [word for word in self.words if word]

    @property
    def is_routed(self) -> bool:
        """Whether what each update is multiplied by must be kept."""
        return self.fusion is not None or bool(self.positions)

    def build(self, family: Family, parts: Parts, factors: Sequence[Factors]) -> Method | None:
        """The method that they are sampled by, once they are on the denoiser; None is plainly."""
        if self.fusion is not None:
            return self.fusion.build(family, parts, factors)
        return focus_words(self.words, factors, self.positions) if self.positions else None

    def save_masks(self, method: Method | None, picture: Picture, path: Path, fps: float) -> None:
        """Write the masks that FreeFuse found, beside the sample they were found for."""
        if self.fusion is not None and isinstance(method, FreeFuse):
            save_masks(method.masks[picture.spec], self.fusion.names, picture.spec, path, fps)


def plan_loras(
    family: Family,
    source: Source,
    files: Sequence[tuple[Path, float]],
    specs: Sequence[SampleSpec],
    *,
    fuse: Fuse,
    masks: Sequence[str] = (),
) -> LoraPlan:
    """Look at LoRA files before any weights are loaded, and warn of prompts read otherwise.

    Raises FileNotFoundError and AdapterMismatch for files of another base, ConfigError for masks,
    words and options that do not fit them (see `plan_fusion`, `read_places`).
    """
    variant = family.variants[source.variant]
    check_loras(family, source.variant, files)
    fusion = plan_fusion(fuse, family, source, files, specs, masks)
    words = [] if fusion else [read_focus(path) for path, _ in files]
    focus = [word for word in words if word]
    positions = locate_focus(family, source, focus, specs) if focus else {}
    tell_reading(variant, source, files)
    places = read_places(masks, files, specs, variant.grid, confine_all=fusion is not None)
    return LoraPlan(files, places, fusion, words, positions)

"""Sample grids while a run trains: prompts are embedded before it begins."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from frisket.adapters.routed.peft_variant import find_factors
from frisket.config.load import ConfigError
from frisket.config.tree import Config, Preview
from frisket.families.base import Family, Parts, Source
from frisket.families.experts import Experts
from frisket.inference.generate import PromptEmbeddings
from frisket.inference.methods.base import Method
from frisket.inference.methods.composed import ComposedMethod
from frisket.inference.methods.tara import Tara
from frisket.inference.methods.words import PromptPhrases
from frisket.inference.sample_specs import SampleSpec, check
from frisket.runs.methods.focusing import locate_focus
from frisket.runs.sampling.preview_faces import PreviewFaces, open_preview_faces
from frisket.runs.sampling.sampler import embed_prompts, load_waiting, plan_of
from frisket.runs.sampling.samples import build_preview_specs, write_grid
from frisket.training.memory import plan as memory_plan


@dataclass(slots=True)
class Previews:
    """The grid of a `[preview]`, to be drawn whenever training asks for it."""

    family: Family
    variant: str
    preview: Preview
    embeddings: PromptEmbeddings  # its prompts, embedded; on the CPU
    vae: nn.Module  # on the CPU: it visits the device to decode
    vision: nn.Module | None
    folder: Path
    device: torch.device
    tile: bool
    others: Experts | None = None  # that are not trained, but sampling takes all
    swapped: bool = False  # their blocks come and go by themselves
    whole: Experts | None = None
    focus: PromptPhrases | None = None  # where lora.focus is in the prompts
    faces: PreviewFaces | None = None  # whose faces are looked for
    # Of what is trained and is no LoRA: how it acts in sampling, by the denoiser as it is.
    make_method: Callable[[nn.Module], Method] | None = None
    plain_label: str = ""  # what the same pictures without it are called, in columns of their own

    def list_specs(self) -> tuple[SampleSpec, ...]:
        """Every sample of the grid, prompt by prompt."""
        return tuple(build_preview_specs(self.family.variants[self.variant], self.preview))

    def __call__(self, step: int, denoiser: nn.Module) -> Path:
        """Write step-N.png (or .mp4) with the denoiser as it is; returns its path.

        Weights, modes, gradients and torch's generators stay as they are, so that training goes on
        as though nothing had been drawn.
        """
        denoiser = self._whole(denoiser)
        parts = Parts(self.variant, self.vae, None, denoiser, self.vision)
        path = write_grid(
            self.family,
            parts,
            self.preview,
            self.folder / f"step-{step:06d}",
            self.embeddings,
            device=self.device,
            tile=self.tile,
            method=self._choose_method(denoiser),
            plain_label=self.plain_label,
            plain_method=self._make_focus(denoiser),
            look=self.faces.look if self.faces is not None else lambda _: None,
        )
        if self.whole is not None and self.others is not None:
            self.whole.use(
                next(name for name in self.whole.ranges if name not in self.others.ranges)
            )
        return path

    def _choose_method(self, denoiser: nn.Module) -> Method | None:
        """What a LoRA's word and what stands beside it make of sampling; None for neither."""
        focus = self._make_focus(denoiser)
        if self.make_method is None:
            return focus
        method = self.make_method(denoiser)
        return method if focus is None else ComposedMethod([focus, method])

    def _make_focus(self, denoiser: nn.Module) -> Tara | None:
        """What lets the adapter act on its own word alone, as it does in training."""
        factors = find_factors(denoiser) if self.focus is not None else None
        return None if factors is None or self.focus is None else Tara([factors], self.focus)

    def _whole(self, denoiser: nn.Module) -> nn.Module:
        """The denoiser, with the experts that the run leaves as they are."""
        if self.others is None:
            return denoiser
        if self.whole is None:  # once: it puts a hook on every expert
            assert isinstance(denoiser, Experts)
            experts = {**denoiser.experts, **self.others.experts}
            ranges = {**denoiser.ranges, **self.others.ranges}
            self.whole = Experts(experts, ranges)
            if not self.swapped:
                self.whole.on(self.device)
        return self.whole


def prepare_previews(config: Config, family: Family, source: Source) -> Previews | None:
    """Embed the prompts of `[preview]`, to be called before the denoiser is loaded.

    Face models and the pictures they are compared with are read first of all. The text encoder has
    come and gone when this returns: it never shares the device with the
    denoiser. None where no preview is asked for. Raises ConfigError for previews that the model
    cannot make, and as open_preview_faces.
    """
    preview = config.preview
    if not (preview.every or preview.every_epochs) or not preview.prompts:
        return None
    variant = family.variants[source.variant]
    specs = build_preview_specs(variant, preview)
    try:
        check(family, source.variant, specs)
    except ValueError as error:
        raise ConfigError(
            f"preview: {error}. Change [preview], or set preview.every = 0"
        ) from error
    lost = [name for name in variant.experts if config.model.experts not in ("both", name)]
    local = source.local
    if lost and local is not None and local.is_file():
        raise ConfigError(
            f"preview: {local} holds one expert and sampling takes all. Give the folder that has"
            " them as model.source, or set preview.every = 0"
        )
    faces = open_preview_faces(preview.identity)
    embeddings = embed_prompts(family, source, specs)
    word = config.lora.focus
    vae, vision = load_waiting(family, source)
    others, plan = None, plan_of(config)
    if lost:
        loaded = family.load_denoiser(replace(source, experts=tuple(lost), device="cpu"))
        assert isinstance(loaded, Experts)
        if plan.swap_blocks:
            memory_plan.apply(loaded, plan, device=source.device)
        others = loaded
    return Previews(
        family=family,
        variant=source.variant,
        preview=preview,
        embeddings=embeddings,
        vae=vae,
        vision=vision,
        folder=config.run.output / "previews",
        device=torch.device(source.device),
        tile=config.memory.tile_vae,
        others=others,
        swapped=plan.swap_blocks > 0,
        focus=locate_focus(family, source, [word], specs) if word else None,
        faces=faces,
    )

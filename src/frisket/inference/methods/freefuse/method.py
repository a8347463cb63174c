"""FreeFuse put on a pipeline: masks from a few steps of the base, then each LoRA on its own mask.

arXiv 2510.23515v2 (TMLR 2026). Nothing is trained. See docs/freefuse.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.attach import frozen, unwrap_model
from frisket.adapters.routed.factors import Factors
from frisket.attention.base import AttentionLayer, Projections, mark_positions
from frisket.attention.capture import choose_layers, find_prompt, match_prompts
from frisket.attention.maps import lay_on_grid
from frisket.families.base import Family
from frisket.families.experts import experts_of
from frisket.families.streams import DenoiserCall
from frisket.inference.methods.freefuse.bias import Bias, check_apart
from frisket.inference.methods.freefuse.biasing import (
    LayerShape,
    bias_layers,
    refuse_unbiased,
    watch_shapes,
)
from frisket.inference.methods.freefuse.collecting import (
    Sight,
    SimilarityMaps,
    average_maps,
    measure_layer,
    run_until,
    watch_layers,
)
from frisket.inference.methods.freefuse.masks import MaskRule, build_masks
from frisket.inference.methods.words import (
    PromptPhrases,
    PromptPositions,
    find_rows,
    lay_tokens,
    multiply,
    read_prompts,
)
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """How FreeFuse runs; the defaults are the paper's but for what their modules name.

    `step` is the sampling step whose attention is read (1 is the first). With `base` the LoRAs are
    off until then, as in the paper; where the base knows nothing of a trigger word, its maps are
    those of a stranger's word, and LoRAs that are on show more. `bias` pushes attention as well.
    """

    step: int = 5
    layers: tuple[str, ...] = ("middle",)
    base: bool = True
    sight: Sight = field(default_factory=Sight)
    rule: MaskRule = field(default_factory=MaskRule)
    bias: Bias | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.step < 1 or not self.layers:
            raise ValueError(f"step counts from 1 and layers are named, got {self}")


@dataclass(eq=False, slots=True)
class FreeFuse:
    """Fuses LoRAs that sit on one denoiser, each with the words that are about it.

    `adapters` are what each LoRA's update is multiplied by, `names` what people call them,
    `phrases` their positions by prompt, `background` those of the background's words by prompt
    (None: the cells that answer least to any concept). `masks` has what was found for each sample,
    T f h w of 0 and 1, T in the order of `names`.
    """

    family: Family
    denoiser: nn.Module
    adapters: Sequence[Factors]
    names: tuple[str, ...]
    phrases: PromptPhrases
    background: Mapping[str, Sequence[int]] | None = None
    options: FuseOptions = field(default_factory=FuseOptions)
    masks: dict[SampleSpec, Float[Tensor, "T f h w"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse before any work what cannot be fused."""
        if len(self.adapters) != len(self.names):
            raise ValueError(f"{len(self.adapters)} LoRAs, but names of {len(self.names)}")
        check_apart(list(self.phrases.values()), self.names)
        list_layers(self.family, self.denoiser, self.options.layers)
        if self.options.bias is not None:
            refuse_unbiased(list_layers(self.family, self.denoiser))

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Find the masks of these samples; inside, every LoRA acts on its own."""
        check_steps(self.options, specs)
        phrases = find_rows(self.phrases, specs)
        text = read_prompts(call())
        masks, shapes = self._find_masks(pipeline, call, specs, text)
        for spec, mask in zip(specs, masks, strict=True):
            self.masks[spec] = mask.cpu()
        with ExitStack() as stack:
            if self.options.bias is not None:
                layers = list_layers(self.family, self.denoiser)
                owners = stack.enter_context(follow_owners(self.family, self.denoiser, text))
                stack.enter_context(
                    bias_layers(
                        layers, shapes, masks, phrases, self.options.bias, lambda: owners[0]
                    )
                )
            for index, factors in enumerate(self.adapters):
                space = partial(lay_mask, masks[:, index : index + 1])
                tokens = partial(lay_tokens, silence_others(phrases, index), text, other=1.0)
                stack.enter_context(multiply(factors, space=space, tokens=tokens))
            yield

    def _find_masks(
        self,
        pipeline: Any,
        call: Callable[[], dict[str, Any]],
        specs: Sequence[SampleSpec],
        text: Float[Tensor, "b s c"],
    ) -> tuple[Float[Tensor, "b T f h w"], dict[str, LayerShape]]:
        """The first phase: masks, and the shapes of the layers that are biased afterwards."""
        phrases = [self.phrases[spec.prompt] for spec in specs]
        behind = None
        if self.background is not None:
            behind = [[self.background[spec.prompt]] for spec in specs]
        layers = list_layers(self.family, self.denoiser, self.options.layers)
        maps: dict[str, SimilarityMaps] = {}
        shapes: dict[str, LayerShape] = {}

        def measure(layer: AttentionLayer, projections: Projections, features: Tensor) -> None:
            maps[layer.name] = measure_layer(
                projections, features, phrases, behind, self.options.sight
            )

        with ExitStack() as stack:
            stack.enter_context(frozen(self.denoiser) if self.options.base else nullcontext())

            def begin() -> None:
                rows = match_prompts(text)
                watching = watch_layers(self.denoiser, layers, rows, len(specs), measure)
                stack.enter_context(watching)
                if self.options.bias is not None:
                    every_layer = list_layers(self.family, self.denoiser)
                    stack.enter_context(watch_shapes(every_layer, shapes))

            run_until(pipeline, call, self.options.step, begin)
        if not maps:
            raise ValueError(
                f"no row of {', '.join(layer.name for layer in layers)} had one of the prompts"
            )
        mean = average_maps(list(maps.values()))
        masks = build_masks(mean.concepts, mean.background, mean.cells, self.options.rule)
        return masks, shapes


def list_layers(
    family: Family, denoiser: nn.Module, names: Sequence[str] = ("all",)
) -> list[AttentionLayer]:
    """The layers that `names` choose in every expert of a denoiser; their names say whose."""
    layers = []
    for name, expert in experts_of(denoiser).items():
        expert_layers = choose_layers(family.list_attention_layers(unwrap_model(expert)), names)
        layers += [
            replace(layer, name=f"{name}.{layer.name}") if name else layer
            for layer in expert_layers
        ]
    return layers


def check_steps(options: FuseOptions, specs: Sequence[SampleSpec]) -> None:
    """ValueError where a sample takes fewer steps than the masks are read at."""
    for spec in specs:
        if spec.steps < options.step:
            raise ValueError(
                f"masks are read at step {options.step}, but {spec.prompt!r} is sampled in"
                f" {spec.steps}: lower the step of the masks, or sample in more"
            )


def silence_others(rows: Sequence[PromptPositions], index: int) -> Float[Tensor, "b s"]:
    """0 at the positions of every phrase but one, else 1."""
    other_positions = [
        [place for other, positions in enumerate(row) if other != index for place in positions]
        for row in rows
    ]
    return 1 - mark_positions(other_positions)


def lay_mask(mask: Float[Tensor, "b 1 f h w"], call: DenoiserCall) -> Float[Tensor, "b 1 F H W"]:
    """A mask on the latent grid of a call."""
    return lay_on_grid(mask, call.cells)


@contextmanager
def follow_owners(
    family: Family, denoiser: nn.Module, text: Float[Tensor, "b s c"]
) -> Iterator[list[list[int | None]]]:
    """Inside, the first entry says whose prompt each row of the present call has."""
    owners: list[list[int | None]] = [[]]

    def read(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        call = family.streams.read(model, args, kwargs)
        owners[0] = [find_prompt(prompt, text) for prompt in call.text]

    with ExitStack() as stack:
        for expert in experts_of(denoiser).values():
            handle = unwrap_model(expert).register_forward_pre_hook(read, with_kwargs=True)
            stack.callback(handle.remove)
        yield owners

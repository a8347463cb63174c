"""All that can be refused of a training run before any work: what `train` and `doctor` both ask."""

from collections.abc import Callable, Iterator

from frisket.adapters.targets import LAYERS, resolve
from frisket.config.provenance import ConfigError
from frisket.config.run_config import check_paths
from frisket.config.tree import Config
from frisket.config.variant_checks import targets_of
from frisket.families.base import FAMILIES, Source, WeightsNotFound
from frisket.families.experts import experts_of
from frisket.runs.card import variant_of
from frisket.runs.concepts.refusals import check_attention, check_concepts
from frisket.runs.concepts.terms import terms_of
from frisket.runs.control.setup import check_control
from frisket.runs.faces.asking import check_faces
from frisket.runs.image_adapters.setup import check_image_adapter
from frisket.runs.methods.token_routing import check_routing
from frisket.runs.prepare import check_device
from frisket.runs.sampling.preview_faces import check_preview_faces
from frisket.runs.structure.asking import check_structure
from frisket.training import optim, optim_probe
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.offload import check_depth
from frisket.training.metrics_log import check_trackers

__all__ = ["memory_of", "optimizer_of", "refusals", "stop_if_refused", "terms_of"]

ConfigCheck = Callable[[Config], None]


def refusals(config: Config, *, but: tuple[ConfigCheck, ...] = ()) -> Iterator[Exception]:
    """What stands in the way of a checked configuration, in the words of the room that says it.

    Nothing is written, no weight is read and no network asked. ValueError and ImportError only; a
    model whose shape is not known here is not looked into. `but` are looks that were made already.
    """
    messages: set[str] = set()  # several checks may stumble over one thing
    for check in (candidate for candidate in CHECKS if candidate not in but):
        try:
            check(config)
        except (ValueError, ImportError) as error:
            if str(error) not in messages:
                messages.add(str(error))
                yield error


def stop_if_refused(config: Config) -> None:
    """Raise what stands in the way: the one error, or all of them as one ConfigError."""
    errors = list(refusals(config))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError("\n".join(str(error) for error in errors))


def memory_of(config: Config) -> memory_plan.MemoryPlan:
    """The `[memory]` table in plain values."""
    return memory_plan.MemoryPlan(**config.memory.model_dump())


def optimizer_of(config: Config) -> optim.OptimizerSpec:
    """The `[optimizer]` table in plain values."""
    chosen = config.optimizer
    return optim.OptimizerSpec(
        chosen.name, chosen.lr, chosen.weight_decay, chosen.options, chosen.lora_plus
    )


def _terms(config: Config) -> None:
    terms_of(config)


def _check_concepts(config: Config) -> None:
    check_concepts(config)


def _check_attention(config: Config) -> None:
    check_attention(config, {name: term for name, (term, _) in terms_of(config).items()})


def _memory(config: Config) -> None:
    memory_plan.check(memory_of(config), adapter=config.lora.kind)


def _shape(config: Config) -> None:
    """What is asked of layers and blocks that the model may not have; looked at where asked for."""
    deep, chosen = config.memory.swap_blocks, config.lora
    if not (deep or chosen.targets or chosen.exclude):
        return
    family = FAMILIES.load(config.model.family)
    model = config.model
    source = Source(variant_of(config), model.source, revision=model.revision, device="meta")
    try:
        shapes = family.load_denoiser(source)
    except WeightsNotFound:
        return
    targets, dead = targets_of(config, family, source.variant)
    layers = LAYERS[:3] if chosen.kind in ("loha", "lokr") else LAYERS
    for expert in experts_of(shapes).values():
        if deep:
            check_depth(expert, deep)
        resolve(expert, targets, chosen.exclude, layers, dead=dead)


def _optimizer(config: Config) -> None:
    optim_probe.probe(optimizer_of(config), ema=config.optimizer.ema, max_norm=config.lora.max_norm)


def _trackers(config: Config) -> None:
    check_trackers(config.run.trackers)


def _check_preview_faces(config: Config) -> None:
    check_preview_faces(config.preview.identity)


CHECKS: tuple[ConfigCheck, ...] = (
    check_device,
    _terms,
    _check_concepts,
    _check_attention,
    check_faces,
    check_structure,
    check_paths,
    _memory,
    _shape,
    check_routing,
    check_image_adapter,
    check_control,
    _optimizer,
    _trackers,
    _check_preview_faces,
)

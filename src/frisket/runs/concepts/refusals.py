"""What can be refused of phrases, concepts and attention terms before any work."""

from collections import Counter
from collections.abc import Sequence

from frisket.adapters.targets import LAYERS, resolve
from frisket.attention.base import AttentionLayer
from frisket.attention.capture import choose_layers
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.config.variant_checks import targets_of
from frisket.families.base import FAMILIES, Source, WeightsNotFound
from frisket.families.experts import experts_of
from frisket.losses.base import ATTENTION, AttentionTerm, LossTerm
from frisket.runs.card import variant_of

# Ends of the names of what makes queries and keys, in all families.
PROJECTING = ("to_q", "to_k", "add_q_proj", "add_k_proj", "to_qkv", "to_added_qkv")


def check_concepts(config: Config) -> None:
    """ConfigError where phrases, subsets or the balance of concepts have nothing to work with."""
    phrases, weights = config.phrases, config.region_weights
    if phrases and all(data.masks.source == "none" for data in config.data) and config.data:
        raise ConfigError(
            f"regions: {', '.join(phrases)} has a phrase, but no [[data]] has masks; give masks, or"
            " take the phrase out"
        )
    concepts = [name for name in phrases if weights[name] > 0]
    if config.losses.balance != "none" and len(concepts) < 2:
        raise ConfigError(
            f'losses.balance = "{config.losses.balance}" balances regions that have a phrase and a'
            f" weight above 0, and there are {len(concepts)}: name two or more in [regions]"
        )
    for number, data in enumerate(config.data):
        if data.subset_caption:
            _check_subsets(config, f"data.{number}.subset_caption", data.mask_role)


def _check_subsets(config: Config, key: str, mask_role: str) -> None:
    if len(config.phrases) < 2:
        raise ConfigError(
            f"{key} draws some of the regions that have a phrase, and there are"
            f" {len(config.phrases)}: name two or more in [regions]"
        )
    if mask_role == "condition":
        raise ConfigError(
            f'{key} leaves regions out of the loss, and mask_role = "condition" weighs it nowhere;'
            " leave one of the two out"
        )
    if config.curve.unmasked_probability:
        raise ConfigError(
            f"{key} names what is taught, and curve.unmasked_probability teaches the rest under the"
            " same words; leave one of the two out"
        )


def check_attention(config: Config, terms: dict[str, LossTerm]) -> None:
    """ConfigError or ValueError where a term reads attention that there is not, or none can move.

    A model whose shape is not known here is not looked into.
    """
    asking = {name: term for name, term in terms.items() if ATTENTION in term.needs}
    if not asking:
        return
    _check_words(config, next(iter(asking)), asking)
    family = FAMILIES.load(config.model.family)
    source = Source(
        variant_of(config), config.model.source, revision=config.model.revision, device="meta"
    )
    try:
        shapes = family.load_denoiser(source)
    except WeightsNotFound:
        return
    targets, dead = targets_of(config, family, source.variant)
    kinds = LAYERS[:3] if config.lora.kind in ("loha", "lokr") else LAYERS
    for expert in experts_of(shapes).values():
        layers = family.list_attention_layers(expert)
        adapted = resolve(expert, targets, config.lora.exclude, kinds, dead=dead)
        for name, term in asking.items():
            if not isinstance(term, AttentionTerm):
                continue  # the trainer says so
            try:
                watched = choose_layers(layers, term.attention.layers)
            except ValueError as error:
                raise ConfigError(f"losses.{name}: {error}") from error
            check_path(name, layers, watched, adapted)


def _check_words(config: Config, name: str, asking: dict[str, LossTerm]) -> None:
    phrases = config.phrases
    if not phrases:
        raise ConfigError(
            f"losses.{name} reads the attention to the regions' phrases, and no region has one;"
            ' write e.g. [regions.face] weight = 1.0, phrase = "sks"'
        )
    repeated = [words for words, count in Counter(phrases.values()).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"regions: {repeated[0]!r} is the phrase of several regions, and losses.{name} cannot"
            " lay one word on several masks; give each its own"
        )
    for other, term in asking.items():
        if getattr(term, "form", "") == "overlap" and len(phrases) < 2:
            raise ConfigError(
                f'losses.{other}: form = "overlap" tells phrases apart, and only'
                f" {next(iter(phrases))} has one; name two or more in [regions]"
            )
    if config.memory.compile:
        raise ConfigError(
            f"losses.{name} reads what attention layers multiply, and memory.compile fuses them;"
            " leave one of the two out"
        )


def check_path(
    term: str,
    layers: Sequence[AttentionLayer],
    watched: Sequence[AttentionLayer],
    adapted: Sequence[str],
) -> None:
    """ConfigError where no adapted layer can move the attention of one that is watched.

    What can: a query or key projection in it, or anything that comes before it. Only layers that
    lie in attention layers are ordered (those of `layers`, as the forward pass meets them); one
    that lies elsewhere counts as before.
    """
    order = {layer.name: number for number, layer in enumerate(layers)}

    def find_owner(name: str) -> str:
        owners = [owner for owner in order if name.startswith(f"{owner}.")]
        return max(owners, key=len, default="")

    owners = {name: find_owner(name) for name in adapted}
    for layer in watched:
        moves = any(
            not owner
            or order[owner] < order[layer.name]
            or (owner == layer.name and name.rsplit(".", 1)[-1] in PROJECTING)
            for name, owner in owners.items()
        )
        if not moves:
            raise ConfigError(
                f"losses.{term}: nothing that is trained moves the attention of {layer.name}; add"
                " to_q and to_k to lora.targets, or choose other layers"
            )

"""What of structure a configuration asks for, and all that can be refused of it before any work."""

from collections.abc import Iterator

from frisket.config.checks.control import has_control
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.losses.base import CONTROL, CONTROLLED, STRUCTURE
from frisket.losses.comparing import StructureRequest, StructureTerm
from frisket.runs.card import variant_of
from frisket.runs.concepts.terms import terms_of
from frisket.runs.faces.asking import check_decoding
from frisket.runs.structure.extractors import open_extractor


def find_structure_request(config: Config) -> StructureRequest | None:
    """The structure that a loss term asks for; None where none does.

    ConfigError where two terms ask for different ones, or one does not say which.
    """
    structures: dict[str, StructureRequest] = {}
    for name, (term, _) in terms_of(config).items():
        if STRUCTURE not in term.needs:
            continue
        if not isinstance(term, StructureTerm):
            raise ConfigError(
                f'losses.{name}: needs "structure" but has no `structure`, the StructureRequest'
                " that says which (frisket.losses.comparing.StructureTerm)"
            )
        structures[name] = term.structure
    if len(set(structures.values())) > 1:
        raise ConfigError(
            f"losses.{' and losses.'.join(structures)} ask for different structure, and a run"
            " extracts one: give them the same, or leave one out"
        )
    return next(iter(structures.values()), None)


def has_frozen_net(config: Config) -> bool:
    """Whether what is trained has a frozen ControlNet beside it."""
    return has_control(config) and config.model.train != "controlnet"


def check_structure(config: Config) -> None:
    """ConfigError where a term that compares structure, or a teacher's, has nothing to work with.

    Weights of a model that extracts are looked for and their shapes read.
    """
    problems = [
        f"losses.{name}: {problem}"
        for name, (term, _) in terms_of(config).items()
        for problem in _list_problems(config, term.needs)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    request = find_structure_request(config)
    if request is None:
        return
    open_extractor(request, "cpu")
    name = next(name for name, (term, _) in terms_of(config).items() if STRUCTURE in term.needs)
    check_decoding(name, FAMILIES.load(config.model.family), variant_of(config))


def _list_problems(config: Config, needs: frozenset[str]) -> Iterator[str]:
    if CONTROLLED in needs and not has_frozen_net(config):
        reason = (
            "the ControlNet is what is trained, and without it the base is the base"
            if has_control(config)
            else "there is none"
        )
        yield (
            f"stays with the base beside a frozen ControlNet, and {reason}; take losses.prior, or"
            " set control.source to a ControlNet's folder"
        )
    if CONTROL in needs and all(data.control is None for data in config.data):
        yield (
            "compares with control pictures, and no [[data]] has any; set `control` to their"
            ' folder (`frisket control make` makes them), or target = "clip"'
        )
    if STRUCTURE in needs:
        yield from _list_method_problems(config)


def _list_method_problems(config: Config) -> Iterator[str]:
    """Tokens that are not predicted would stand in the picture as holes."""
    if config.patch_masking.ratio:
        yield (
            "with patch_masking.ratio above 0 the model does not predict the tokens it leaves out,"
            " and a picture full of holes has edges of its own; set patch_masking.ratio = 0"
        )
    if config.routing.background < 1:
        yield (
            f"with routing.background = {config.routing.background:g} tokens pass by the blocks"
            " that would predict them, and their cells are looked at too; set it to 1"
        )

"""What of faces a configuration asks for, and all that can be refused of it before any work."""

import math
from collections.abc import Iterator

import torch

from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.faces.base import EMBEDDERS
from frisket.faces.detect import DETECTORS
from frisket.families.base import FAMILIES, Family
from frisket.losses.base import FACES
from frisket.losses.faces import FaceRequest, FaceTerm
from frisket.runs.card import variant_of
from frisket.runs.concepts.terms import terms_of


def request_of(config: Config) -> FaceRequest | None:
    """The faces that loss terms ask for; None where none does.

    ConfigError where two terms ask for different ones, or one does not say which.
    """
    face_requests = list_requests(config)
    if len(set(face_requests.values())) > 1:
        raise ConfigError(
            f"losses.{' and losses.'.join(face_requests)} ask for different faces or embedders, and"
            " a run reads one: give them the same, or leave one out"
        )
    return next(iter(face_requests.values()), None)


def list_requests(config: Config) -> dict[str, FaceRequest]:
    """What each term that compares faces asks for; ConfigError for one that does not say."""
    face_requests: dict[str, FaceRequest] = {}
    for name, (term, _) in terms_of(config).items():
        if FACES not in term.needs:
            continue
        if not isinstance(term, FaceTerm):
            raise ConfigError(
                f'losses.{name}: needs "faces" but has no `faces`, the FaceRequest that says which'
                " (frisket.losses.faces.FaceTerm)"
            )
        face_requests[name] = term.faces
    return face_requests


def check_faces(config: Config) -> None:
    """ConfigError where a term that compares faces has nothing to work with; reads no weights."""
    request = request_of(config)
    if request is None:
        return
    name = next(iter(list_requests(config)))
    problems = [
        *_list_region_problems(config, request),
        *_list_model_problems(request),
        *_list_method_problems(config),
    ]
    if problems:
        raise ConfigError("\n".join(f"losses.{name}: {problem}" for problem in problems))
    check_decoding(name, FAMILIES.load(config.model.family), variant_of(config))


def _list_region_problems(config: Config, request: FaceRequest) -> Iterator[str]:
    """What is wrong with the region whose face is meant."""
    weights = {name: w for name, w in config.region_weights.items() if name != "background"}
    if request.region not in weights:
        listed_regions = f"it has: {', '.join(weights)}" if weights else "it has none"
        yield (
            f"region = {request.region!r} is not in [regions] ({listed_regions}); set region to the"
            f" one that the face lies in, or add it: [regions] {request.region} = 1.0"
        )
    elif not weights[request.region] > 0:
        yield (
            f"the region {request.region!r} weighs 0, so nothing in it is taught; give it a weight"
            " above 0 in [regions]"
        )
    if config.data and all(data.masks.source == "none" for data in config.data):
        yield "no [[data]] has masks, and a mask says which face is meant; give masks"


def _list_model_problems(request: FaceRequest) -> Iterator[str]:
    """What is wrong with the names of embedder and detector."""
    embedders = {name: EMBEDDERS.load(name) for name in EMBEDDERS.names()}
    able = [name for name, plugin in embedders.items() if plugin.trainable_through]
    if request.embedder not in embedders:
        yield f"embedder = {request.embedder!r} is not known; there are: {', '.join(able)}"
    elif request.embedder not in able:
        yield (
            f"embedder = {request.embedder!r} lets no gradient through (it measures, and cannot"
            f" teach); take one of: {', '.join(able)}"
        )
    elif (plugin := embedders[request.embedder]).files and not request.source:
        yield (
            f"embedder = {request.embedder!r} needs its weights: set embedder_source to"
            f" {plugin.files} ({plugin.published})"
        )
    if request.detector and request.detector not in DETECTORS.names():
        yield (
            f"detector = {request.detector!r} is not known; there are:"
            f" {', '.join(DETECTORS.names())}"
        )


def _list_method_problems(config: Config) -> Iterator[str]:
    if config.patch_masking.ratio:
        yield (
            "with patch_masking.ratio above 0 the model does not predict the tokens it leaves out,"
            " and a face full of holes is nobody's; set patch_masking.ratio = 0"
        )


def check_decoding(name: str, family: Family, variant: str) -> None:
    """ConfigError where no gradient comes back through a decoder; tried on the tiny one."""
    grid = family.variants[variant].grid
    side = 2 * grid.spatial
    vae = family.tiny(family.variants[variant].like or variant).vae
    reason = "it has no VAE"
    if vae is not None:
        vae.eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        shape = (1, grid.channels, *grid.cells(1, side, side))
        latents = torch.randn(shape, generator=generator).requires_grad_()
        try:
            total = family.decode(vae, latents).square().sum()
            (gradient,) = torch.autograd.grad(total, latents)
            if math.isfinite(float(gradient.abs().sum())) and gradient.any():
                return
            reason = "its gradient is zero or not finite"
        except RuntimeError as error:
            reason = str(error)
    raise ConfigError(
        f"losses.{name}: looks at decoded pictures, and {family.name} {variant} cannot be taught"
        f" through its decoder ({reason}); set losses.{name} = 0"
    )

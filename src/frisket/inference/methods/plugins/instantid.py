"""InstantID: a face by its embedding, placed by its key points (arXiv 2401.07519)."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from frisket.adapters.image.instantid import NET, PUBLISHED
from frisket.faces.base import check_width
from frisket.families.base import Family
from frisket.inference.methods.identity.instantid.loading import share_modules
from frisket.inference.methods.identity.instantid.method import (
    InstantIdStrength,
    ReadInstantId,
    average_faces,
    project_face,
    scale_strength,
)
from frisket.inference.methods.identity.unets import has_unet
from frisket.inference.methods.plugin import (
    MethodPlugin,
    MethodRequest,
    MethodUnusable,
    ReferencePicture,
)
from frisket.licence import Licence

LICENCE = Licence(
    code="Apache-2.0 (Frisket's own)",
    weights="Apache-2.0",
    warning=(
        "InstantID's weights were trained on embeddings of InsightFace's antelopev2, whose models"
        " are for non-commercial research; they read no other embedder's"
    ),
)


def refuse(family: Family, variant: str) -> str:
    """Why it cannot run on a variant: no UNet; the public files are SDXL's, which `build` tells."""
    if has_unet(family, variant):
        return ""
    return (
        f"{family.name} {variant} has no UNet, whose skip connections InstantID's IdentityNet adds"
        " to; it runs on SDXL (and, with files trained for them, on SD 1.5 and pocket's UNets)"
    )


def read(request: MethodRequest, family: Family, variant: str) -> ReadInstantId:
    """Read the folder and project the face; raises as `MethodPlugin.read`."""
    if reason := refuse(family, variant):
        raise MethodUnusable(reason)
    strength = check_strength(request.options)
    faces = []
    for reference in request.references:
        if reference.face is None:
            raise MethodUnusable(f"{reference.path}: InstantID needs the face in it, none was read")
        faces.append(reference.face)
    if not faces:
        raise MethodUnusable("InstantID needs a picture of the face: give one")
    posed = request.pose or request.references[0]
    keypoints, size = find_keypoints(posed), posed.frame.shape[:2]
    modules = share_modules(request.source)
    projection: Any = modules.adapter.image_proj
    width = projection.proj_in.in_features
    for reference, face in zip(request.references, faces, strict=True):
        check_width(face.width, width, str(reference.path), f"InstantID ({request.source})")
    return ReadInstantId(
        modules,
        project_face(modules, average_faces(faces), keypoints, (size[0], size[1])),
        scale_strength(strength, request.scale),
        request.masks,
        strict=request.strict,
    )


def check_strength(options: object) -> InstantIdStrength:
    """The options, or their defaults for None; MethodUnusable names what cannot be."""
    strength = InstantIdStrength() if options is None else options
    if not isinstance(strength, InstantIdStrength):
        raise MethodUnusable(f"InstantID's options are no {type(options).__name__}")
    if not 0 <= strength.start < strength.end <= 1:
        raise MethodUnusable(
            f"InstantID: start {strength.start} and end {strength.end} are shares of the steps,"
            " 0 <= start < end <= 1"
        )
    if strength.strokes not in ("fixed", "scaled"):
        raise MethodUnusable(f"InstantID: strokes are fixed or scaled, not {strength.strokes!r}")
    return strength


def find_keypoints(posed: ReferencePicture) -> Float[Tensor, "5 2"]:
    """Those of the picture that gives the pose; MethodUnusable where it has none."""
    if posed.keypoints is None:
        raise MethodUnusable(
            f"{posed.path}: InstantID needs the face's five key points, and its detector gave none;"
            " choose one that does"
        )
    return posed.keypoints


METHOD = MethodPlugin(
    summary="a face from one picture, with the place and turn of its key points",
    reads="face and key points",
    files=f"a folder with ip-adapter.bin and {NET}/",
    published=PUBLISHED,
    licence=LICENCE,
    refuse=refuse,
    read=read,
    options=InstantIdStrength,
    trains="projection, keys and values, IdentityNet, with the masked loss",
)

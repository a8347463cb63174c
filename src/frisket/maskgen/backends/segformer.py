"""People by SegFormer (Xie et al., NeurIPS 2021): clothes and limbs, or the parts of a face."""

from pathlib import Path

from frisket.maskgen.base import Backend, BackendUnusable, Licence, MaskWeightsNotFound, ModelSource
from frisket.maskgen.vision.classes import BadGrouping, get_grouping
from frisket.maskgen.vision.loading import config_of, folder_of, load_model
from frisket.maskgen.vision.parsing import LogitParser
from frisket.maskgen.vision.preprocess import Preprocessing, read

REPO = "mattmdjaga/segformer_b2_clothes"
SIDE = 512  # pixels: what a checkpoint without a size of its own is read at


class Segformer(LogitParser):
    """A parser of whole pictures; the classes are those its checkpoint names (id2label)."""

    kind = "the weights that belong to this config.json"


def load(source: ModelSource) -> Segformer:
    """A folder or hub id of transformers' SegformerForSemanticSegmentation.

    Raises MaskWeightsNotFound where it is another model, and BackendUnusable, which names the
    class, where the checkpoint tells things apart that are no parts of people (a street, a room).
    """
    from transformers import SegformerForSemanticSegmentation  # noqa: PLC0415 - slow

    folder = folder_of(source, REPO)
    config_of(folder, "segformer")
    how = read(folder, Preprocessing(SIDE, SIDE))
    model = load_model(SegformerForSemanticSegmentation, folder, source)
    names = model.config.id2label
    classes = tuple(str(names[number]) for number in range(model.config.num_labels))
    _check(classes, folder)
    return Segformer(
        lambda batch: model(pixel_values=batch).logits,
        classes,
        how,
        device=source.device,
        dtype=source.dtype,
    )


def _check(classes: tuple[str, ...], folder: Path) -> None:
    if all(name == f"LABEL_{number}" for number, name in enumerate(classes)):
        raise MaskWeightsNotFound(
            f"{folder}/config.json names none of its {len(classes)} classes in id2label; copy the"
            " config.json of the model's page"
        )
    try:
        get_grouping().table(classes)
    except BadGrouping as error:
        raise BackendUnusable(
            f"{folder} is a SegFormer for something else than people ({error}); take {REPO} or"
            " jonathandinu/face-parsing"
        ) from error


BACKEND = Backend(
    summary="people and clothes (18 classes), or the parts of a face (19), by SegFormer; small",
    roles=frozenset({"parser"}),
    licence=Licence(
        code="Apache-2.0 (transformers)",
        weights="MIT on the page of the checkpoint; fine-tuned from NVIDIA's mit-b2 / mit-b5",
        warning=(
            "NVIDIA gives the backbone under its Source Code License for SegFormer, for research"
            " and evaluation that are not commercial; jonathandinu/face-parsing also saw"
            " CelebAMask-HQ, which is for non-commercial research. Read them before selling what"
            " comes of it."
        ),
    ),
    load=load,
    repo=REPO,
    weights=True,
)

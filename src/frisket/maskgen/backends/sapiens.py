"""Human parts by Sapiens: version 2 from a transformers folder, version 1 from TorchScript."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Licence,
    MaskWeightsNotFound,
    ModelSource,
)
from frisket.maskgen.vision.loading import folder_of, load_model
from frisket.maskgen.vision.parsing import LogitParser
from frisket.maskgen.vision.preprocess import Preprocessing, read

log = logging.getLogger(__name__)

REPO = "facebook/sapiens2-seg-1b"

# facebookresearch/sapiens, lite/demo/classes_and_palettes.py; sapiens2, docs/SEG.md
V1 = (
    *("Background", "Apparel", "Face_Neck", "Hair", "Left_Foot", "Left_Hand", "Left_Lower_Arm"),
    *("Left_Lower_Leg", "Left_Shoe", "Left_Sock", "Left_Upper_Arm", "Left_Upper_Leg"),
    *("Lower_Clothing", "Right_Foot", "Right_Hand", "Right_Lower_Arm", "Right_Lower_Leg"),
    *("Right_Shoe", "Right_Sock", "Right_Upper_Arm", "Right_Upper_Leg", "Torso"),
    *("Upper_Clothing", "Lower_Lip", "Upper_Lip", "Lower_Teeth", "Upper_Teeth", "Tongue"),
)
V2 = (*V1[:2], "Eyeglass", *V1[2:])
CLASSES = {len(names): names for names in (V1, V2)}

V1_INPUT = Preprocessing(
    height=1024,
    width=768,
    mean=(123.5 / 255, 116.5 / 255, 103.5 / 255),
    std=(58.5 / 255, 57.0 / 255, 57.5 / 255),
)


class Sapiens(LogitParser):
    """A parser of single people; in group photos give it crops (`vision.person_crops`).

    `model` maps b 3 h w of `dtype` to b k h' w' logits of `classes`.
    """

    kind = "a Sapiens segmentation model, not one for pose, depth or normals"


def load(source: ModelSource) -> Sapiens:
    """A folder or hub id: Sapiens2. A file: version 1 as TorchScript, which runs code of that file.

    TorchScript is a program, not only weights; so it is only ever read from a file the user named.
    """
    file = Path(source.path).expanduser()
    return (
        _load_torchscript(file, source)
        if source.path and file.is_file()
        else _load_transformers(source)
    )


def _load_transformers(source: ModelSource) -> Sapiens:
    try:
        from transformers import Sapiens2ForSemanticSegmentation  # noqa: PLC0415 - slow
    except ImportError as error:
        raise BackendUnusable(
            "the installed transformers does not know Sapiens2; pip install -U 'transformers>=5.23'"
        ) from error
    folder = folder_of(source, REPO)
    how = read(folder, Preprocessing(height=1024, width=768))
    model = load_model(Sapiens2ForSemanticSegmentation, folder, source)
    return Sapiens(
        lambda batch: model(pixel_values=batch).logits,
        _list_names(model.config, folder),
        how,
        device=source.device,
        dtype=source.dtype,
    )


def _list_names(config: Any, folder: Path) -> tuple[str, ...]:
    names = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    if not all(name == f"LABEL_{number}" for number, name in enumerate(names)):
        return names
    if len(names) not in CLASSES:
        raise MaskWeightsNotFound(
            f"{folder}/config.json names none of its {len(names)} classes in id2label, and Sapiens"
            f" has {len(V1)} (version 1) or {len(V2)} (version 2): it is another model"
        )
    return CLASSES[len(names)]


def _load_torchscript(file: Path, source: ModelSource) -> Sapiens:
    log.warning("%s is TorchScript: loading it runs the code in it; use files you trust", file)
    try:
        with warnings.catch_warnings():
            # Deprecated, and yet the only format v1 was published in that plain torch reads.
            warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
            model = torch.jit.load(file, map_location=source.device)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise MaskWeightsNotFound(
            f"{file} is not TorchScript or is damaged; take the file that ends in _torchscript.pt2"
            f" (the _bfloat16.pt2 of the same model is another format): {error}"
        ) from error
    # Traced in float32 with casts inside: another dtype would not reach every layer.
    return Sapiens(model.eval(), V1, V1_INPUT, device=source.device)


BACKEND = Backend(
    summary="28 or 29 parts of the human body, from Sapiens and Sapiens2 (Meta)",
    roles=frozenset({"parser"}),
    licence=Licence(
        code="Sapiens2 License (its model files in transformers)",
        weights="Sapiens2 License (facebook/sapiens2-*); CC-BY-NC-4.0 (version 1)",
        warning=(
            "The Sapiens2 License forbids, among other uses, surveillance, biometric processing,"
            " pornography and deepfakes that impersonate a person, and lets Meta audit its use."
            " Version 1 is for non-commercial use only. A LoRA of somebody's likeness may fall"
            " under these terms: read them first"
            " (https://github.com/facebookresearch/sapiens2/blob/main/LICENSE.md)."
        ),
    ),
    load=load,
    repo=REPO,
    weights=True,
)

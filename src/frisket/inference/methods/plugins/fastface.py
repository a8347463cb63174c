"""FastFace (arXiv 2505.21144): FaceID on few-step models, by guidance and attention alone."""

from frisket.inference.methods.identity.fastface.reading import (
    FastFaceOptions,
    check_samples,
    read_fastface,
    refuse_single_side,
)
from frisket.inference.methods.plugin import MethodPlugin
from frisket.licence import Licence

METHOD = MethodPlugin(
    summary="a face on few-step models: identity and text are guided apart; nothing is trained",
    reads="face and key points",
    files=(
        "a file of IP-Adapter-FaceID: the paper's is ip-adapter-faceid-plusv2_sdxl beside a"
        " distilled SDXL (Hyper, Lightning, LCM, Turbo); or one that Frisket trained, for any"
        " family with a negative prompt"
    ),
    published="h94/IP-Adapter-FaceID",
    licence=Licence(
        code="Apache-2.0 (Frisket's own; the authors' is MIT)",
        weights="h94/IP-Adapter-FaceID: non-commercial, by InsightFace's models",
        warning=(
            "the published FaceID files were trained with InsightFace's models, which are for"
            " non-commercial research alone"
        ),
    ),
    refuse=refuse_single_side,
    check=check_samples,
    read=read_fastface,
    options=FastFaceOptions,
    guides=True,
    encoder="for the plus files: the folder of CLIP ViT-H (h94/IP-Adapter models/image_encoder)",
)

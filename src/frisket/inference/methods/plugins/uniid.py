"""UniID (arXiv 2512.03964): a face as words and as image tokens, on SDXL, without training."""

from frisket.inference.methods.identity.uniid.reading import (
    UniIdOptions,
    read_uniid,
    refuse_others,
)
from frisket.inference.methods.plugin import MethodPlugin
from frisket.licence import Licence

METHOD = MethodPlugin(
    summary="a face in the prompt and beside the attention, rescaled: likeness that obeys the text",
    reads="face",
    files="a folder with text_branch/ and adapter_branch/ (or one of them), pytorch_model.bin each",
    published="pangly/UniID on Hugging Face",
    licence=Licence(
        code="Apache-2.0 (Frisket's own; the authors' is MIT)",
        weights="MIT by its repository; the recognition network's are its own",
        warning=(
            "UniID's published branches read a network of InsightFace's, whose public weights are"
            " for non-commercial research only."
        ),
    ),
    refuse=refuse_others,
    read=read_uniid,
    options=UniIdOptions,
    changes_text=True,
    encoder="an iResNet-100 of arcface_torch (backbone.pth), the one the branches were trained on",
    trains="either branch, by itself, with the masked loss",
)

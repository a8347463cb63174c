"""Tiny random builds of the human parsers and face models, written without a download."""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

FACE_SIDE = 64  # pixels the tiny face detector reads


def sapiens2(folder: Path, classes: Sequence[str] = ()) -> Path:
    """A Sapiens2 folder of 59 thousand random weights that reads 64 x 48 pixels.

    Without `classes` its 29 outputs are called LABEL_0 to LABEL_28, as an unnamed checkpoint's are.
    """
    from transformers import (
        Sapiens2Config,
        Sapiens2ForSemanticSegmentation,
        Sapiens2HeadConfig,
    )

    torch.manual_seed(0)
    named = {"id2label": dict(enumerate(classes))} if classes else {"num_labels": 29}
    config = Sapiens2Config(
        patch_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        num_register_tokens=2,
        image_size=[64, 48],
        head_config=Sapiens2HeadConfig(upsample_out_channels=[16, 16], conv_out_channels=[16]),
        **named,
    )
    Sapiens2ForSemanticSegmentation(config).save_pretrained(folder)
    told = {"size": {"height": 64, "width": 48}}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


ATR = (
    *("Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress"),
    *("Belt", "Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm"),
    *("Right-arm", "Bag", "Scarf"),
)  # as segformer_b2_clothes names them


def segformer(folder: Path, classes: Sequence[str] = ATR) -> Path:
    """A SegFormer folder of a few thousand random weights that reads 64 x 64 pixels."""
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
    )

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    told = {"size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def sapiens_torchscript(folder: Path, model: nn.Module | None = None) -> Path:
    """A v1 TorchScript file under its public name: a random convolution, or a `model` of yours."""
    torch.manual_seed(0)
    model = model or nn.Conv2d(3, 28, 4, 4)
    file = folder / "sapiens_0.3b_goliath_best_goliath_mIoU_7673_epoch_194_torchscript.pt2"
    with warnings.catch_warnings():
        # Deprecated, and yet the only format v1 was published in that plain torch reads.
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        torch.jit.trace(model.eval(), torch.zeros(1, 3, 1024, 768)).save(file)  # type: ignore[no-untyped-call]
    return file


def faces(folder: Path, found: Sequence[tuple[float, Sequence[tuple[float, float]]]] = ()) -> Path:
    """A model pack as InsightFace lays it out: a detector that always finds the same faces.

    `found`: score and five keypoints, in pixels of the 64 x 64 the detector reads (without any, one
    upright face); a box spans its keypoints, 8 pixels wider on each side. The embedding is a random
    projection of a 4 x 4 thumbnail of the aligned face. Needs the package `onnx`.
    """
    upright = [(24.0, 24.0), (40.0, 24.0), (32.0, 32.0), (26.0, 40.0), (38.0, 40.0)]
    folder.mkdir(parents=True, exist_ok=True)
    _detector(folder / "det_10g.onnx", found or [(0.9, upright)])
    _recogniser(folder / "w600k_r50.onnx")
    return folder


def _detector(file: Path, found: Sequence[tuple[float, Sequence[tuple[float, float]]]]) -> None:
    kinds: dict[str, list[torch.Tensor]] = {"score": [], "box": [], "points": []}
    for stride in (8, 16, 32):
        anchors = 2 * (FACE_SIDE // stride) ** 2
        for kind, width in (("score", 1), ("box", 4), ("points", 10)):
            kinds[kind].append(torch.zeros(anchors, width))
    for score, points in found:
        # Told by the second anchor of the middle stride that lies nearest to the face's centre.
        at = torch.tensor(points)
        cell = (at.mean(0) / 16).round().clamp(max=FACE_SIDE // 16 - 1)
        row, centre = int(2 * (cell[1] * (FACE_SIDE // 16) + cell[0]) + 1), cell * 16
        kinds["score"][1][row] = score
        edges = torch.cat([centre - at.amin(0) + 8, at.amax(0) + 8 - centre])
        kinds["box"][1][row] = edges / 16
        kinds["points"][1][row] = ((at - centre) / 16).flatten()
    values = {f"{kind}_{n}": value for kind, all_ in kinds.items() for n, value in enumerate(all_)}
    node = import_module("onnx").helper.make_node
    nodes = [node("Identity", [f"{name}_"], [name]) for name in values]
    constants = {f"{name}_": value for name, value in values.items()}
    _save(file, FACE_SIDE, nodes, constants, {name: [*all_.shape] for name, all_ in values.items()})


def _recogniser(file: Path) -> None:
    node = import_module("onnx").helper.make_node
    torch.manual_seed(0)
    nodes = [
        node("AveragePool", ["pixels"], ["thumbnail"], kernel_shape=[28, 28], strides=[28, 28]),
        node("Flatten", ["thumbnail"], ["flat"]),
        node("MatMul", ["flat", "projection"], ["embedding"]),
    ]
    _save(file, 112, nodes, {"projection": torch.randn(48, 512)}, {"embedding": [1, 512]})


def _save(
    file: Path,
    side: int,
    nodes: Sequence[Any],
    constants: Mapping[str, torch.Tensor],
    outputs: Mapping[str, Sequence[int]],
) -> None:
    onnx = import_module("onnx")
    floats, value = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        file.stem,
        [value("pixels", floats, [1, 3, side, side])],
        [value(name, floats, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(each.numpy(), name) for name, each in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[opset]), file)

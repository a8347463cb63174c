"""Tiny builds of OpenCV's face models, written without a download; they need the package onnx."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

# Five points of the face that the tiny YuNet finds, in cells of 32 pixels from its cell's corner.
UPRIGHT = ((0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75))
HEIGHTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # numbers an anchor


def write_yunet(folder: Path) -> Path:
    """A YuNet that sees a face of 32 pixels in every red cell of 32 pixels, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    node = import_module("onnx").helper.make_node
    nodes, constants, outputs = [], {}, {}
    for stride in (8, 16, 32):
        pooled = f"pooled_{stride}"
        window = [stride, stride]
        nodes.append(node("AveragePool", ["input"], [pooled], kernel_shape=window, strides=window))
        for kind, height in HEIGHTS.items():
            name = f"{kind}_{stride}"
            weight, bias = np.zeros((height, 3, 1, 1), np.float32), np.zeros(height, np.float32)
            if stride == 32 and height == 1:
                weight[0] = np.array([-1, -1, 1], np.float32).reshape(3, 1, 1) / 255  # BGR
            elif kind == "bbox":
                bias[:2] = 0.5  # the box's middle from the corner; log 1 is its size in strides
            elif kind == "kps":
                bias = np.array(UPRIGHT, np.float32).flatten()
            constants |= {f"{name}_w": weight, f"{name}_b": bias}
            constants[f"{name}_s"] = np.array([1, -1, height], np.int64)
            nodes += [
                node("Conv", [pooled, f"{name}_w", f"{name}_b"], [f"{name}_map"]),
                node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                node("Reshape", [f"{name}_last", f"{name}_s"], [name]),
            ]
            outputs[name] = [1, None, height]
    file = folder / "face_detection_yunet_2023mar.onnx"
    save_graph(file, ("input", [1, 3, None, None]), nodes, constants, outputs)
    return folder


def write_sface(folder: Path, width: int = 128) -> Path:
    """An SFace whose embedding is a random projection of an 8 x 8 thumbnail of the face."""
    folder.mkdir(parents=True, exist_ok=True)
    node = import_module("onnx").helper.make_node
    rng = np.random.default_rng(0)
    nodes = [
        node("Sub", ["data", "middle"], ["centred"]),
        node("AveragePool", ["centred"], ["small"], kernel_shape=[14, 14], strides=[14, 14]),
        node("Flatten", ["small"], ["flat"]),
        node("MatMul", ["flat", "projection"], ["fc1"]),
    ]
    constants = {
        "middle": np.full((1, 3, 1, 1), 127.5, np.float32),
        "projection": (rng.standard_normal((192, width)) / 100).astype(np.float32),
    }
    file = folder / "face_recognition_sface_2021dec.onnx"
    save_graph(file, ("data", [1, 3, 112, 112]), nodes, constants, {"fc1": [1, width]})
    return folder


def save_graph(
    file: Path,
    entrance: tuple[str, Sequence[int | None]],
    nodes: Sequence[Any],
    constants: Mapping[str, Any],
    outputs: Mapping[str, Sequence[int | None]],
) -> None:
    """Write a graph of one input of floats."""
    onnx = import_module("onnx")
    floats, value = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        file.stem,
        [value(entrance[0], floats, entrance[1])],
        [value(name, floats, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, ir_version=7, opset_imports=[opset]), file)

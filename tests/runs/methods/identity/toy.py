"""Plugins that tests install as a stranger's package would: a method, one that it cannot stand
beside, and a detector that knows the faces of drawn pictures exactly."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frisket.faces.base import check_width
from frisket.faces.detect import DetectedFace, DetectorPlugin, FaceBox
from frisket.families.base import Family, Parts
from frisket.inference.methods.base import Method
from frisket.inference.methods.identity.image_attention import ImageAdapter, ImageAttention
from frisket.inference.methods.identity.strict import StrictConfinement
from frisket.inference.methods.plugin import (
    ClipSize,
    MethodPlugin,
    MethodRequest,
    MethodUnusable,
)
from frisket.inference.sample_specs import SampleSpec
from frisket.licence import Licence
from frisket.pocket.portraits import draw_person, sample_person, sample_view

WIDTH, TOKENS, PEOPLE = 8, 2, 64
NAMES = {
    "frisket.methods": {
        "toy": "METHOD",
        "toy_guiding": "GUIDING",
        "toy_pixels": "PIXELS",
        "toy_words": "WORDS",
    },
    "frisket.face_detectors": {"toy_faces": "DETECTOR"},
}
FREE = Licence("Apache-2.0", "none")
LICENCE = Licence("Apache-2.0", "none", warning="the toy is for tests")


def install(folder: Path) -> None:
    """Write what pip writes of a package with entry points."""
    place = folder / "frisket_toy-1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: frisket-toy\nVersion: 1\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {__name__}:{value}\n" for name, value in names.items())
        for group, names in NAMES.items()
    )
    (place / "entry_points.txt").write_text("\n".join(groups))


@dataclass(frozen=True, slots=True)
class ToyOptions:
    """What is the toy's own."""

    tint: float = 1.0
    where: Literal["all", "middle"] = "all"


@dataclass(frozen=True, slots=True)
class ToyMethod:
    """Tokens of the reference for the image attention of every layer that has a place."""

    family: Family
    denoiser: nn.Module
    tokens: Tensor
    request: MethodRequest

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        size: ClipSize = (specs[0].frames, specs[0].height, specs[0].width)
        mask = self.request.masks[size][0] if self.request.masks else None
        layers = [
            layer
            for layer in self.family.list_attention_layers(self.denoiser)
            if layer.add_branch is not None
        ]
        keys, values = (
            {layer.name: project(layer.module, seed) for layer in layers} for seed in (1, 2)
        )
        adapter = ImageAdapter(
            keys, values, self.tokens, torch.zeros(1, TOKENS, WIDTH), self.request.scale, mask
        )
        method: Method = ImageAttention(layers, [adapter])
        if self.request.strict:
            assert mask is not None
            method = StrictConfinement(self.denoiser, ImageAttention(layers, [adapter]), mask)
        with method.attach(pipeline, call, specs):
            yield


def project(module: Any, seed: int) -> nn.Linear:
    """To the width of a layer's query."""
    wide = next(value.shape[0] for name, value in module.named_parameters() if "to_q" in name)
    layer = nn.Linear(WIDTH, wide, bias=False)
    draws = np.random.RandomState(seed).standard_normal((wide, WIDTH))
    layer.weight.data = torch.from_numpy(draws).float()
    return layer


@dataclass(frozen=True, slots=True)
class ToyReading:
    tokens: Tensor
    request: MethodRequest

    def build(self, family: Family, parts: Parts) -> ToyMethod:
        assert parts.denoiser is not None
        return ToyMethod(family, parts.denoiser, self.tokens, self.request)


def read(request: MethodRequest, family: Family, variant: str) -> ToyReading:
    """`tokens.safetensors` projects what the references are embedded as."""
    del family, variant
    weight = load_file(request.source / "tokens.safetensors")["weight"]
    rows = []
    for picture in request.references:
        if picture.face is None:
            raise MethodUnusable(f"{picture.path}: the toy reads faces; name an --embedder")
        check_width(picture.face.width, weight.shape[1], str(picture.path), "the toy")
        rows.append(picture.face.unit)
    tokens = torch.stack(rows).mean(0) @ weight.mT * request.options.tint
    return ToyReading(tokens.view(1, TOKENS, WIDTH), request)


def refuse(family: Family, variant: str) -> str:
    return "" if family.name == "pocket" and variant == "image" else "it was drawn for pocket alone"


METHOD = MethodPlugin(
    summary="a toy for tests",
    reads="face",
    files="a folder with tokens.safetensors",
    published="example.org/toy",
    licence=LICENCE,
    refuse=refuse,
    read=read,
    options=ToyOptions,
)
GUIDING = replace(METHOD, guides=True)
WORDS = replace(METHOD, changes_text=True)
PIXELS = replace(METHOD, reads="picture")


@dataclass(slots=True)
class DrawnFaces:
    """Knows the faces of pictures by their pixels, from faces.json."""

    faces: dict[str, list[dict[str, Any]]]
    name: str = "toy_faces"
    licence: Licence = FREE

    def detect(self, frame: Tensor) -> list[DetectedFace]:
        return [
            DetectedFace(FaceBox(*face["box"]), torch.tensor(face["keypoints"]), 1.0)
            for face in self.faces.get(digest(frame), [])
        ]


def digest(frame: Tensor) -> str:
    return hashlib.sha256(frame.numpy().tobytes()).hexdigest()


def load_faces(source: str, device: str) -> DrawnFaces:
    del device
    return DrawnFaces(json.loads((Path(source) / "faces.json").read_text()))


DETECTOR = DetectorPlugin("drawn faces", FREE, load_faces, True, "a folder with faces.json")


class Album:
    """A folder of drawn pictures, what the detector knows of them, and weights of the toy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faces: dict[str, list[dict[str, Any]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        weight = np.random.RandomState(3).standard_normal((TOKENS * WIDTH, PEOPLE))
        save_file(
            {"weight": torch.from_numpy(weight).float()}, self.add_folder() / "tokens.safetensors"
        )

    def add_folder(self) -> Path:
        place = self.folder / "toy"
        place.mkdir(exist_ok=True)
        return place

    def draw(self, name: str, *people: int, side: int = 96, views: int = 0) -> Path:
        """People side by side, the later ones smaller; none is a grey wall."""
        pictures, faces, left = [], [], 0
        for index, person in enumerate(people):
            rng = np.random.RandomState(100 + views)
            view = sample_view(rng, spread=0.2)
            if index:
                view = replace(view, size=view.size * 0.7)
            portrait = draw_person(sample_person(np.random.RandomState(person)), view, side)
            half, (x, y) = view.size * side, (view.x * side + left, view.y * side)
            points = portrait.keypoints + np.array([left, 0], np.float32)
            box = [x - 0.8 * half, y - half, x + 0.8 * half, y + half]
            faces.append({"box": box, "keypoints": points.tolist()})
            pictures.append(portrait.picture)
            left += side
        picture = np.concatenate(pictures, 1) if pictures else np.full((side, side, 3), 99, "uint8")
        path = self.folder / f"{name}.png"
        Image.fromarray(picture).save(path)
        self.faces[digest(torch.from_numpy(picture))] = faces
        (self.folder / "faces.json").write_text(json.dumps(self.faces))
        return path

    def table(self, *faces: Path, **keys: Any) -> dict[str, Any]:
        """An `[[identity]]` table with the toy on these pictures."""
        return {
            "method": "toy",
            "source": self.folder / "toy",
            "faces": faces,
            "embedder": "tiny",
            "detector": "toy_faces",
            "detector_source": self.folder,
            **keys,
        }

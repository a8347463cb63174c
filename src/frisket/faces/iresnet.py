"""The residual network most face recognisers are, with the key names of its public checkpoints."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

FaceMaps = list[Float[Tensor, "b _ _ _"]]  # of the four stages, the finest first

DEPTHS: Mapping[str, tuple[int, int, int, int]] = {
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "200": (6, 26, 60, 6),
}
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.")
_COUNTER = "num_batches_tracked"  # older files have none, and nothing reads it here


@dataclass(frozen=True, slots=True)
class IResNetShape:
    """All that tells one iResNet from another; the defaults are those of the public ones."""

    depths: tuple[int, ...] = DEPTHS["100"]  # blocks of each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage; the stem has the first
    embedding: int = 512
    cells: int = 49  # of the last stage: 7 x 7 of a face of 112 pixels


class WrongFaceWeights(ValueError):
    """Weights that are not those of an iResNet; the message names keys."""


class IResNetBlock(nn.Module):
    """BN, 3x3, BN, PReLU, 3x3 (which strides), BN; added to the input, strided alike."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, cells: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        """Half the side where the block strides, rounded up."""
        hidden = self.prelu(self.bn2(self.conv1(self.bn1(cells))))
        hidden = self.bn3(self.conv2(hidden))
        skip = cells if self.downsample is None else self.downsample(cells)
        added: Tensor = hidden + skip
        return added


class IResNet(nn.Module):
    """The improved ResNet of face recognition (ArcFace, arXiv:1801.07698, section 3.1).

    Its keys are those of insightface's arcface_torch, so that a public backbone.pth loads as it is.
    Every stage halves the side in its first block; the embedding is a linear map of all cells.
    """

    def __init__(self, shape: IResNetShape) -> None:
        super().__init__()
        self.shape = shape
        stem, last = shape.widths[0], shape.widths[-1]
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.prelu = nn.PReLU(stem)
        inputs = stem
        for number, (depth, width) in enumerate(zip(shape.depths, shape.widths, strict=True), 1):
            blocks = [IResNetBlock(inputs, width, 2)]
            blocks += [IResNetBlock(width, width, 1) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last * shape.cells, shape.embedding)
        self.features = nn.BatchNorm1d(shape.embedding)
        self.features.weight.requires_grad = False  # stays 1: the embedding's scale is not learnt

    def forward(self, faces: Float[Tensor, "b 3 _ _"]) -> Float[Tensor, "b d"]:
        """Raw embeddings of aligned faces in [-1, 1]."""
        return self.forward_maps(faces)[0]

    def forward_maps(
        self, faces: Float[Tensor, "b 3 _ _"]
    ) -> tuple[Float[Tensor, "b d"], FaceMaps]:
        """Raw embeddings, and what each of the four stages made of the face.

        Of 112 pixels and the public widths: 64 x 56 x 56, 128 x 28 x 28, 256 x 14 x 14 and
        512 x 7 x 7, before the last normalisation (what UniID, arXiv:2512.03964, reads).
        """
        cells = self.prelu(self.bn1(self.conv1(faces)))
        maps: FaceMaps = []
        for number in range(1, len(self.shape.depths) + 1):
            cells = self.get_submodule(f"layer{number}")(cells)
            maps.append(cells)
        embeddings: Tensor = self.features(self.fc(self.bn2(cells).flatten(1)))
        return embeddings, maps


def read_shape(weights: Mapping[str, Tensor]) -> IResNetShape:
    """The shape of the iResNet that has these weights; WrongFaceWeights where none has."""
    blocks: dict[int, set[int]] = {}
    for key in weights:
        if match := _BLOCK.match(key):
            blocks.setdefault(int(match[1]), set()).add(int(match[2]))
    telling_keys = [f"layer{number}.0.conv2.weight" for number in range(1, 5)]
    telling_keys += ["conv1.weight", "fc.weight"]
    missing_keys = [key for key in telling_keys if key not in weights]
    if missing_keys:
        raise WrongFaceWeights(
            f"it has no {_list_keys(missing_keys)}, so it is no iResNet (keys of arcface_torch);"
            f" its own keys begin with {_list_keys(sorted(weights)) or 'nothing: it is empty'}"
        )
    last = weights["layer4.0.conv2.weight"].shape[0]
    embedding, inputs = weights["fc.weight"].shape
    return IResNetShape(
        depths=tuple(max(blocks[number]) + 1 for number in range(1, 5)),
        widths=tuple(weights[f"layer{n}.0.conv2.weight"].shape[0] for n in range(1, 5)),
        embedding=embedding,
        cells=inputs // last,
    )


def build_iresnet(weights: Mapping[str, Tensor]) -> IResNet:
    """The iResNet of these weights, of any depth and width, in float32 and ready to embed.

    Half-precision files are widened. WrongFaceWeights names keys that are missing, of another
    shape, or too many.
    """
    model = IResNet(read_shape(weights))
    state = model.state_dict()
    faults = {
        "misses": [key for key in state if key not in weights and not key.endswith(_COUNTER)],
        "has unexpected": [key for key in weights if key not in state],
        "has of another shape": [
            key for key, value in weights.items() if value.shape != state.get(key, value).shape
        ],
    }
    sentences = [f"it {verb} {_list_keys(keys)}" for verb, keys in faults.items() if keys]
    if sentences:
        raise WrongFaceWeights("; ".join(sentences))
    model.load_state_dict({k: v.to(state[k].dtype) for k, v in weights.items()}, strict=False)
    return model.eval().requires_grad_(False)


def _list_keys(keys: Sequence[str], most: int = 4) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more

"""Class names of human parsers to regions: by name, since numbers shift between versions."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from frisket.maskgen.base import SoftMask
from frisket.registry import suggest

log = logging.getLogger(__name__)

REGIONS = ("face", "hair", "hands", "clothes", "body", "background")
NECK, LIPS = "face_neck", ("lower_lip", "upper_lip")
CHIN = 0.35  # lips to chin, as a share of forehead to lips, in an upright face
INSIDE = 0.5  # a pixel of at least this is seen as part of a face, where its chin is looked for
BAND = 1 << 24  # values of all classes held at once at the picture's size: 64 MiB

# Sapiens (v1 and 2) first, then what parsers trained on ATR (segformer_b2_clothes) and on
# CelebAMask-HQ (face-parsing: skin is the face's, neck_l a necklace, ear_r a ring) call theirs.
_PARTS: Mapping[str, Sequence[str]] = {
    "background": ("background",),
    "face": (
        *(NECK, *LIPS, "lower_teeth", "upper_teeth", "tongue", "eyeglass", "face", "sunglasses"),
        *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
        *("ear_r", "mouth", "u_lip", "l_lip"),
    ),
    "hair": ("hair",),
    "hands": ("hand",),
    "clothes": (
        *("apparel", "lower_clothing", "upper_clothing", "shoe", "sock"),
        *("hat", "upper_clothes", "skirt", "pants", "dress", "belt", "bag", "scarf"),
        *("neck_l", "cloth"),
    ),
    "body": (
        *("torso", "lower_arm", "upper_arm", "lower_leg", "upper_leg", "foot", "arm", "leg"),
        "neck",
    ),
}
_COARSER = {"hands": "body", "clothes": "body"}
GROUPINGS: Mapping[str, Mapping[str, str]] = {
    "parts": {name: part for part, names in _PARTS.items() for name in names},
    "person": {name: _COARSER.get(part, part) for part, names in _PARTS.items() for name in names},
}


class BadGrouping(ValueError):
    """A class or region that is not there; the message names the nearest one that is."""


@dataclass(frozen=True, slots=True)
class ClassTable:
    """A grouping for the classes of one parser: which of them to sum, and what to make of it.

    `weights` holds a row of zeros and ones a region; where the neck is to be cut, two rows follow:
    the face with its neck (then in no region's own row), and the lips.
    """

    regions: tuple[str, ...]
    weights: Float[Tensor, "r k"]
    face: str = ""  # region of the face above the chin; empty where nothing is cut
    neck: str = ""  # region of what lies below it

    def regions_of(self, sums: Float[Tensor, "r H W"]) -> dict[str, SoftMask]:
        """Sums of classes (a row of `weights` each) to one mask a region; they still sum to 1."""
        planes = dict(zip(self.regions, sums.clamp(0, 1), strict=False))
        if self.face:
            with_neck, lips = sums[-2:]
            above = cut_neck(with_neck, lips)
            planes[self.face] = (planes[self.face] + above).clamp(max=1)
            planes[self.neck] = (planes[self.neck] + with_neck - above).clamp(max=1)
        return planes


@dataclass(frozen=True, slots=True)
class Grouping:
    """Class name to region. Names are compared without case, and "-" is "_".

    A name without its side ("hand") stands for both ("Left_Hand", "Right_Hand"). `overrides` go
    before `known`. `neck`: where a class is face and neck in one, the region of what lies below the
    chin; the region of the face leaves it whole, and so does a parser that tells no lips.
    """

    known: Mapping[str, str]
    overrides: Mapping[str, str] = field(default_factory=dict)
    neck: str = "body"

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region it may give, background too, in the order of REGIONS."""
        return _sort_regions({**self.known, **self.overrides}.values())

    def region(self, name: str) -> str:
        """The region of a class. BadGrouping where the grouping does not know its name."""
        plain_name, sideless = _normalise_name(name), _strip_side(name)
        if plain_name == "neck" and plain_name not in self.overrides:
            return self.neck
        for table in (self.overrides, self.known):
            for key in (plain_name, sideless):
                if key in table:
                    return table[key]
        raise BadGrouping(
            f"the parser's class {name!r} has no region; give it one: {plain_name} = 'background'"
        )

    def table(self, classes: Sequence[str]) -> ClassTable:
        """This grouping for a parser of these classes.

        BadGrouping for a class without region, and for an override of a class it does not have.
        """
        plain_names = [_normalise_name(name) for name in classes]
        known_names = {*plain_names, *(_strip_side(name) for name in classes)}
        self._check_overrides(known_names)
        regions = [self.region(name) for name in classes]
        cuts = NECK in plain_names and {*LIPS} <= known_names
        face = regions[plain_names.index(NECK)] if cuts else self.neck
        if face == self.neck:
            names = _sort_regions(regions)
            return ClassTable(names, _sum_rows(names, regions))
        names = _sort_regions({*regions, self.neck})
        # What is face and neck in one is in no region's row: it is cut first.
        pairs = zip(plain_names, regions, strict=True)
        uncut = ["" if name == NECK else region for name, region in pairs]
        cut_rows = [[name == NECK for name in plain_names], [name in LIPS for name in plain_names]]
        weights = torch.cat([_sum_rows(names, uncut), torch.tensor(cut_rows).float()])
        return ClassTable(names, weights, face, self.neck)

    def _check_overrides(self, known_names: Collection[str]) -> None:
        for name in self.overrides:
            if name not in known_names:
                hint = suggest(name, sorted(known_names))
                raise BadGrouping(f"the parser has no class {name!r}{hint}")


def get_grouping(
    name: str = "person",
    overrides: Mapping[str, str] | None = None,
    *,
    neck: str = "body",
    regions: Collection[str] = REGIONS,
) -> Grouping:
    """The built-in grouping "person" (face, hair, body) or "parts" (hands and clothes too).

    `overrides` maps a class to another of `regions`; `neck` is one of them, "face" leaves it there.
    BadGrouping for an unknown name.
    """
    if name not in GROUPINGS:
        raise BadGrouping(f"no grouping is named {name!r}{suggest(name, list(GROUPINGS))}")
    class_regions = {_normalise_name(key): region for key, region in (overrides or {}).items()}
    for region in (*class_regions.values(), neck):
        if region not in regions:
            raise BadGrouping(f"no region is named {region!r}{suggest(region, list(regions))}")
    return Grouping(GROUPINGS[name], class_regions, neck)


def sum_softmax(
    logits: Float[Tensor, "k h w"], weights: Float[Tensor, "r k"], height: int, width: int
) -> Float[Tensor, "r H W"]:
    """Weighted sums over the softmax of logits resized to height x width (bilinear), float32.

    What `weights @ softmax(interpolate(logits))` gives, a band of rows at a time: 29 classes of a
    3840 x 2160 picture would take 0.9 GiB. Logits are resized, not label ids or probabilities, as
    Sapiens and transformers do, so that the largest class of a pixel is theirs.
    """
    classes, low, _ = logits.shape
    rows = ((torch.arange(height, device=logits.device) + 0.5) * (low / height) - 0.5).clamp(min=0)
    above = rows.floor().long().clamp(max=low - 1)
    next_row = (above + 1).clamp(max=low - 1)
    share = (rows - above)[:, None]
    sums = logits.new_empty((len(weights), height, width), dtype=torch.float32)
    step = max(BAND // (classes * width), 1)
    for start in range(0, height, step):
        band = slice(start, start + step)
        upper, lower = logits[:, above[band]].float(), logits[:, next_row[band]].float()
        tall = torch.lerp(upper, lower, share[band])
        wide = F.interpolate(
            tall[None], (tall.shape[1], width), mode="bilinear", align_corners=False
        )
        sums[:, band] = torch.einsum("rk,khw->rhw", weights, wide[0].softmax(0))
    return sums


def cut_neck(face_neck: SoftMask, lips: SoftMask) -> SoftMask:
    """`face_neck` with zeros below the chin of each face whose lips are seen.

    The chin lies at the lips' lowest row + 0.35 x (their mean row - the face's top row): right for
    a head held upright. Faces apart from one another are cut each at its own chin. Where no lips
    are seen (a head turned away, a hand before the mouth) nothing is cut, and the log says so.
    """
    face, mouth = (face_neck + lips >= INSIDE).numpy(), (lips >= INSIDE).numpy()
    if face.any() and not mouth.any():
        log.info("no lips are seen, so the chin is not known: the neck stays part of the face")
    if not mouth.any():
        return face_neck
    # Each pixel, the soft rim of a face too, belongs to the face nearest to it.
    _, owner = cv2.distanceTransformWithLabels(
        (~face).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP
    )
    above = face_neck.clone()
    for number in np.unique(owner[mouth]):
        own_pixels = owner == number
        top = np.flatnonzero((face & own_pixels).any(1))[0]
        at = np.nonzero(mouth & own_pixels)[0]
        chin = int(at.max() + CHIN * (at.mean() - top))
        above[chin + 1 :][torch.from_numpy(own_pixels[chin + 1 :])] = 0
    return above


def _sum_rows(names: Sequence[str], regions: Sequence[str]) -> Float[Tensor, "r k"]:
    """A row a name: 1 for each class of that region, else 0."""
    return torch.tensor([[region == name for region in regions] for name in names]).float()


def _sort_regions(regions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(regions), key=lambda name: ((*REGIONS, name).index(name), name)))


def _normalise_name(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _strip_side(name: str) -> str:
    return _normalise_name(name).removeprefix("left_").removeprefix("right_")

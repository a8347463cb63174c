"""How good masks from attention are: the pocket base against its world's exact masks, in tables.

How a map is cut (Otsu's threshold on the picture's own pixels) was fixed before it was measured,
and so were the scenes (seed 41) and the backend's t and draws. The pocket base has cross-attention
alone, so the output form of joint models (ConceptAttention) cannot be measured here: the backend
refuses it.

    OMP_NUM_THREADS=1 python benchmarks/attention_masks.py [--scenes 48]
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from measure import table, title
from torch import Tensor

from frisket.attention.capture import choose_layers
from frisket.evaluation.mask_metrics import iou
from frisket.evaluation.word_alignment import measure_alignment
from frisket.maskgen.backends.attention import AttentionGrounder, load
from frisket.maskgen.base import ModelSource
from frisket.maskgen.vision.attention_planes import find_cut, soften_map
from frisket.maskgen.vision.preprocess import enlarge
from frisket.pocket.world import Scene, draw, random_scene

SEED = 41


@dataclass(frozen=True, slots=True)
class Score:
    """One map of one scene; `cut` is the IoU of the mask with Otsu's threshold."""

    pointing: float
    mass: float
    best: float
    cut: float
    separation: float


def list_scenes(count: int) -> Iterator[tuple[Scene, Tensor, Tensor]]:
    """Scenes of one shape with the picture and the exact mask."""
    rng = np.random.RandomState(SEED)
    for _ in range(count):
        scene = random_scene(rng)
        picture, planes = draw(scene)
        yield scene, torch.from_numpy(picture), torch.from_numpy(planes["subject"])


def name_phrases(scene: Scene) -> dict[str, str]:
    """What the subject may be called."""
    return {
        "shape": scene.shape,
        "colour and shape": f"{scene.colour} {scene.shape}",
        "colour": scene.colour,
    }


def open_backend(**options: object) -> AttentionGrounder:
    return load(ModelSource(options=options))


def score_map(cells: Tensor, truth: Tensor) -> Score:
    """A map f h w of one frame, on the picture's pixels, against the exact mask."""
    plane = enlarge(cells, *truth.shape)[0]
    alignment = measure_alignment(plane[None], truth[None])
    assert alignment is not None
    cut = find_cut(plane)
    inside = soften_map(plane, cut.threshold) >= 0.5
    return Score(
        alignment.pointing,
        alignment.mass,
        alignment.iou,
        iou(inside, truth >= 0.5),
        cut.separation,
    )


def measure(
    backend: AttentionGrounder, count: int, name: str, *, background: str = ""
) -> list[Score]:
    """Every scene under one name of its subject.

    `background` says whether the prompt has it too: "named" as captions do, "asked" as a second
    phrase, joined by `and`.
    """
    scores = []
    for scene, picture, truth in list_scenes(count):
        phrases = [name_phrases(scene)[name]]
        if background == "asked":
            phrases.append(scene.background.words)
        elif background:
            prompt = f"{{phrases}} on {scene.background.words}"
            backend.options = replace(backend.options, prompt=prompt)
        scores.append(score_map(backend.read_maps(picture, phrases)[0], truth))
    return scores


def row_of(name: str, scores: Sequence[Score]) -> list[object]:
    means = [
        statistics.mean(getattr(score, field.name) for score in scores) for field in fields(Score)
    ]
    return [name, *(f"{mean:.2f}" for mean in means), f"{min(score.cut for score in scores):.2f}"]


def print_rows(rows: Sequence[tuple[str, Sequence[Score]]]) -> None:
    head = ["", "pointing", "mass", "IoU best", "IoU Otsu", "separation", "worst IoU Otsu"]
    table(head, [row_of(name, scores) for name, scores in rows])


def measure_absent(backend: AttentionGrounder, count: int) -> list[tuple[bool, float]]:
    """Separation of phrases that are in the picture (True) and of shapes that are not."""
    results = []
    for scene, picture, _ in list_scenes(count):
        others = [shape for shape in ("circle", "square", "triangle") if shape != scene.shape]
        colour = "red" if scene.colour != "red" else "blue"
        for present, phrase in (
            (True, name_phrases(scene)["colour and shape"]),
            (False, f"{colour} {others[0]}"),
        ):
            cells = backend.read_maps(picture, [phrase])[0]
            results.append((present, find_cut(enlarge(cells, *picture.shape[:2])[0]).separation))
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=48)
    count = parser.parse_args().scenes
    torch.set_num_threads(1)
    whole = open_backend()
    area = statistics.mean(float((truth >= 0.5).float().mean()) for *_, truth in list_scenes(count))
    print(f"{count} scenes, the subject covers {area:.2f}: what a map that knows nothing scores")
    title("The backend as it comes, by what the subject is called and prompted with")
    print_rows(
        [
            (
                f"{name}{f', background {background}' if background else ''}",
                measure(open_backend(), count, name, background=background),
            )
            for background in ("", "named", "asked")
            for name in ("shape", "colour and shape", "colour")
        ]
    )
    title("By layer (colour and shape)")
    denoiser = whole.parts.denoiser
    assert denoiser is not None
    layers = [
        layer.name for layer in choose_layers(whole.family.list_attention_layers(denoiser), "all")
    ]
    print_rows(
        [
            (name, measure(open_backend(layers=(name,)), count, "colour and shape"))
            for name in ("all", "middle", "up_blocks.1*", *layers)
        ]
    )
    title("By noise level, all layers (colour and shape)")
    print_rows(
        [
            (f"t = {t:g}", measure(open_backend(t=(t,)), count, "colour and shape"))
            for t in (0.05, 0.25, 0.5, 0.75, 0.95)
        ]
    )
    title("Over which columns the shares are taken (colour and shape)")
    print_rows(
        [
            (kind, measure(open_backend(softmax=kind), count, "colour and shape"))
            for kind in ("all", "text")
        ]
    )
    title("Is it there at all? Separation of what is in the picture and of what is not")
    results = measure_absent(whole, count)
    table(
        ["", "mean", "least", "greatest", "at 0.4 or more"],
        [
            [
                "there" if present else "not there",
                f"{statistics.mean(values):.2f}",
                f"{min(values):.2f}",
                f"{max(values):.2f}",
                f"{sum(value >= 0.4 for value in values)} of {len(values)}",
            ]
            for present in (True, False)
            for values in [[value for kind, value in results if kind == present]]
        ],
    )


if __name__ == "__main__":
    main()

"""Who stands under --compare: everybody once, on drawn people read by the tiny networks."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frisket.config.identity.tables import IdentityTable
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.runs.methods.identity.portrait import ChosenFace, PortraitReader
from frisket.runs.methods.identity.resemblance import list_people


def paint(folder: Path) -> dict[str, Path]:
    """Two people, each alone twice and both together."""
    rng = np.random.RandomState(5)
    people = [sample_person(rng) for _ in range(2)]
    views = [[draw_person(person, sample_view(rng, spread=0.3)).picture for _ in range(3)]
             for person in people]  # fmt: skip
    pictures = {
        "ada": views[0][0], "ada-again": views[0][1],
        "bob": views[1][0],
        "group": np.concatenate([views[0][2], views[1][2]], axis=1),
    }  # fmt: skip
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in pictures}


def read(faces: list[Path], like: Path | None = None) -> list[ChosenFace]:
    table = IdentityTable(
        method="faceid", source=Path("any"), faces=tuple(faces), like=like,
        embedder="tiny", detector="drawn",
    )  # fmt: skip
    return PortraitReader().read_faces(table)


def test_two_faces_of_one_picture_are_two_people(tmp_path: Path) -> None:
    album = paint(tmp_path)
    shown = [read([album["group"]], like=album[name]) for name in ("ada", "bob")]
    assert [person.name for person in list_people(shown)] == ["group", "group-2"]


def test_a_person_shown_to_two_methods_is_one(tmp_path: Path) -> None:
    album = paint(tmp_path)
    both = read([album["ada"], album["ada-again"]])
    people = list_people([read([album["ada"]]), read([album["bob"]]), both])
    assert sorted(person.name for person in people) == ["ada", "bob"]
    ada = next(person for person in people if person.name == "ada")
    assert len(ada.embeddings) == 2
    assert torch.equal(ada.embeddings[0], both[0].picture.face.raw)  # type: ignore[union-attr]


def test_the_face_that_joins_two_groups_joins_their_people(tmp_path: Path) -> None:
    album = paint(tmp_path)
    apart = [read([album["ada"]]), read([album["ada-again"]])]
    assert len(list_people(apart)) == 2
    assert len(list_people([*apart, read([album["ada"], album["ada-again"]])])) == 1

"""What the opened folder holds."""

import json
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

import frisket
from frisket.registry import Shelf
from frisket.studio.jobs.spec import JobSpec
from frisket.studio.sets.index import OpenIndexes
from frisket.studio.state import OpenStudio
from frisket.studio.workspace import make_id

router = APIRouter()


@router.get("/workspace")
def read_workspace(
    studio: OpenStudio,
    indexes: OpenIndexes,
) -> dict[str, Any]:
    """Name, configurations and data sets of the opened folder."""
    sets = studio.workspace.list_sets()
    if sets:
        indexes.warm(sets[0].id)  # the page asks for it next
    return {
        "name": studio.root.name,
        "path": str(studio.root),
        "version": frisket.__version__,
        "configs": [
            {"id": make_id("config", path.name), "name": path.name}
            for path in studio.workspace.list_configs()
        ],
        "sets": [
            {
                "id": clip_set.id,
                "name": clip_set.name,
                "config": clip_set.config and make_id("config", clip_set.config.name),
                "index": clip_set.index,
            }
            for clip_set in sets
        ],
    }


class Project(BaseModel):
    """What is to be trained; empty chooses by the clips and the card, as `frisket init` does."""

    family: Annotated[str, Field(max_length=60, pattern=r"^[a-z0-9_]*$")] = ""
    variant: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    name: Annotated[str, Field(max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = "frisket"


@router.get("/families")
def list_families() -> dict[str, Any]:
    """Model families and their variants of which the memory they take is known."""
    # The shelf of families.base without that module, which needs torch.
    names = Shelf[Any]("frisket.families.models", "FAMILY", "frisket.families").names()
    table = json.loads(files("frisket.recipes.init").joinpath("recipe_table.json").read_text())
    variants: dict[str, dict[str, None]] = {name: {} for name in names}
    for row in table:
        variants.setdefault(row["family"], {})[row["variant"]] = None
    return {"families": [{"name": name, "variants": list(variants[name])} for name in variants]}


@router.post("/project")
def make_project(body: Project, studio: OpenStudio) -> dict[str, Any]:
    """Have `frisket init` write a configuration for the opened folder."""
    path = studio.root / f"{body.name}.toml"
    if path.exists():
        raise ValueError(f"{path.name} exists and is not overwritten; choose another name")
    family = [f"--family={body.family}"] if body.family else []
    variant = [f"--variant={body.variant}"] if body.variant else []
    job = studio.jobs.add(
        JobSpec(
            kind="init",
            title=f"Write {path.name}",
            argv=["init", str(studio.root), "--output", str(path), *family, *variant],
            outputs={"config": str(path)},
            about={"config": make_id("config", path.name)},
        )
    )
    return {"job": job.id, "config": make_id("config", path.name)}

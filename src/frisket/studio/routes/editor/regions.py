"""Regions: their weights in a configuration, their numbers in the masks of a set."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from frisket.studio.regions.numbers import add_region, find_numbers, rename_region
from frisket.studio.regions.table import list_regions, write_weights
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.workspace import UnknownId, make_id

router = APIRouter()

RegionName = Annotated[str, Field(min_length=1, max_length=64)]
Weight = Annotated[FiniteFloat, Field(ge=0, le=1000)]


class WeightsBody(BaseModel):
    """New weights, by region."""

    model_config = ConfigDict(extra="forbid")
    weights: Annotated[dict[RegionName, Weight], Field(min_length=1, max_length=256)]


class NewRegion(BaseModel):
    """A region to be added."""

    model_config = ConfigDict(extra="forbid")
    name: RegionName
    weight: Weight = 1.0


class Renaming(BaseModel):
    """A region's old and new name."""

    model_config = ConfigDict(extra="forbid")
    name: RegionName
    new: RegionName


@router.get("/configs/{config_id}/regions")
def get_regions(config_id: str, studio: OpenStudio) -> dict[str, Any]:
    """The region table of a configuration."""
    return {"regions": list_regions(_find_config(studio, config_id))}


@router.put("/configs/{config_id}/regions")
def put_weights(config_id: str, changes: WeightsBody, studio: OpenStudio) -> dict[str, Any]:
    """Write weights into the file, comments kept; the table as it is then."""
    return {"regions": write_weights(_find_config(studio, config_id), changes.weights)}


@router.get("/sets/{set_id}/regions")
def get_numbers(set_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Region to number in the masks of a set, and where that is written."""
    numbers = find_numbers(studio.workspace.get_set(set_id))
    return {"place": numbers.place, "numbers": numbers.table}


@router.post("/sets/{set_id}/regions")
def create_region(set_id: str, region: NewRegion, studio: OpenStudio) -> dict[str, Any]:
    """Add a region to the masks of a set, with a weight in its configuration."""
    number = add_region(studio.workspace.get_set(set_id), region.name, region.weight)
    studio.events.publish("clips", {"set": set_id, "regions": True})
    return {"name": region.name, "id": number}


@router.post("/sets/{set_id}/regions/rename")
def change_name(set_id: str, renaming: Renaming, studio: OpenStudio) -> dict[str, Any]:
    """Rename a region; no mask is written."""
    rename_region(studio.workspace.get_set(set_id), renaming.name, renaming.new)
    studio.events.publish("clips", {"set": set_id, "regions": True})
    return {"name": renaming.new}


def _find_config(studio: Studio, config_id: str) -> Path:
    for path in studio.workspace.list_configs():
        if make_id("config", path.name) == config_id:
            return path
    raise UnknownId(f"no configuration has the id {config_id!r}")

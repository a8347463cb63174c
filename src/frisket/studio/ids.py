"""Ids as the page may send them: bounded here, known or not by whoever looks them up."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

EntryId = Annotated[str, Path(max_length=64)]  # of a set, a clip or a configuration
EntryIds = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100_000)]
RunId = Annotated[str, Path(pattern="^[0-9a-f]{18}$")]
FileToken = Annotated[str, Path(pattern="^[0-9a-f]{18}$")]  # of a file in a run's folder

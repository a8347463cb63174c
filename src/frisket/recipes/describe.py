"""What an adapter file says of itself, and how it is read with its base."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from frisket.adapters import formats
from frisket.adapters.formats import AdapterContents
from frisket.adapters.metadata import show_text
from frisket.adapters.routed.exporting import list_schedule
from frisket.adapters.spec import EXPERT, AdapterMismatch, range_of
from frisket.runs.adapter_base import AdapterBase, base_in


def describe(
    path: Path, *, family: str = "", variant: str = "", leave_out: Sequence[str] = ()
) -> list[str]:
    """What an adapter file says of itself, in lines."""
    contents = formats.glance(path, without=leave_out)
    metadata = contents.metadata
    base = base_in(path, metadata, family, variant)
    if base is not None:
        contents = read_contents(path, base, leave_out)
    lines = [f"{path}: {contents}, {contents.tensors} tensors", f"  base: {base or 'not said'}"]
    lines += [f"  {line}" for line in list_notes(contents)]
    if contents.text:
        counts = ", ".join(f"{count} of {name}" for name, count in sorted(contents.text.items()))
        lines.append(f"  text encoders: {counts} (left out with --drop-text)")
    if EXPERT in metadata:
        with name_files(path):
            low, high = range_of(metadata)
        lines.append(f"  expert: {show_text(metadata[EXPERT])}, for t from {low:g} to {high:g}")
    for word, key in (
        ("title", "modelspec.title"),
        ("trigger", "modelspec.trigger_phrase"),
        ("resolution", "modelspec.resolution"),
        ("steps", "ss_steps"),
        ("masked loss", "ss_masked_loss"),
        ("made from", "frisket.made_from"),
    ):
        if metadata.get(key):
            lines.append(f"  {word}: {show_text(metadata[key])}")
    return lines


def read_contents(path: Path, base: AdapterBase, without: Sequence[str]) -> AdapterContents:
    """Read a file with the names and layers of its base; `without` are patterns left out."""
    prefix = base.load_family().lora_prefix
    return formats.read(path, base.names(), prefix=prefix, layers=base.layers(), without=without)


def list_notes(contents: AdapterContents) -> list[str]:
    """What was left out and what was taken for granted."""
    text = [f"left out: {count} tensors of {name}" for name, count in sorted(contents.text.items())]
    schedule = list_schedule(contents.metadata)
    return [*text, *contents.left, *([contents.assumed] if contents.assumed else []), *schedule]


@contextmanager
def name_files(*inputs: Path) -> Iterator[None]:
    """Say which file it was where the arithmetic cannot know it."""
    try:
        yield
    except AdapterMismatch as error:
        if all(str(path) in str(error) for path in inputs):
            raise
        raise AdapterMismatch(f"{' and '.join(map(str, inputs))}: {error}") from error

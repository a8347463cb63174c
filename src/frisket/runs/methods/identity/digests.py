"""The files that a method was read from, so that the same can be told from another."""

from pathlib import Path

from frisket.disk.hashing import hash_file


def digest_files(path: Path) -> list[dict[str, str]]:
    """Path and SHA-256 of a file, or of every file in a folder, hidden ones left out."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _is_plain(file, path))
    return [{"path": str(file), "sha256": hash_file(file)} for file in files]


def _is_plain(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts)

"""What of a folder of clips is not read: counted by suffix and name, with what would read it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frisket.media.paths import LEGEND, escape, plain
from frisket.media.stills.readers import EXTRA, RAW, lacking

SHOWN = 3  # names of each suffix
KINDS = 6  # suffixes that are named
# What network drives, systems and archives put beside pictures: their copies, never clips.
FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "@recycle", "$recycle.bin", "recycler", "lost+found", "__macosx"),
        *("@recently-snapshot", "#snapshot", "@__thumb", "system volume information"),
        *("__pycache__", "thumbnails.photoslibrary"),
    }
)
SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", LEGEND})
# What lies beside a clip and is read: notes of `frisket masks`, key points of faces.
OURS = (".mask.json", "-masklabel.json", ".keypoints.json")
DATA = (
    *(".bat", ".csv", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log", ".md", ".npz", ".pt"),
    *(".py", ".safetensors", ".sh", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
)  # settings, lists and caches of trainers: never pictures
WORDS = (".txt", ".caption", ".tags", ".tag", ".json", ".cap", ".prompt", ".description")
MASKED = ("_mask", "-mask", "_masks", "-masks", " mask", "_alpha", "_matte", "_seg")


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing of a whole set that is told aloud, with what can be done about it."""

    kind: str
    message: str
    fix: str
    grave: bool = True  # pictures or words may be missing

    def __str__(self) -> str:
        """What is true and what to do, as one sentence."""
        return f"{self.message}: {self.fix[0].lower()}{self.fix[1:]}"


@dataclass(slots=True)
class Leftovers:
    """Gathers what a walk passes by; `quiet` are the suffixes that are read as something else."""

    quiet: tuple[str, ...] = ()
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """A file that is no clip."""
        name = path.name.lower()
        is_known = name in SYSTEM or name.endswith((*OURS, *self.quiet))
        if not is_known:
            self.files.append(path)

    def hints(self, root: Path, clips: Mapping[str, Path], suffix: str) -> Iterator[Hint]:
        """What to say of it; `suffix` is that of the captions that are read."""
        words: list[Path] = []
        rest: list[Path] = []
        for path in self.files:
            (
                words if path.suffix.lower() in WORDS and _is_beside(path, root, clips) else rest
            ).append(path)
        if words:
            yield _describe_captions(words, suffix)
        if rest:
            yield _describe_left_out(rest)
        if self.folders:
            names = dict.fromkeys(escape(path.name) for path in self.folders)
            yield Hint(
                "folder skipped",
                f"{_spell_count(len(self.folders), 'folder')} of a system or network drive skipped"
                f" ({', '.join([*names][:SHOWN])})",
                "Nothing has to be done; rename one if its pictures are meant",
                grave=False,
            )


def is_foreign(folder: Path) -> bool:
    """Whether a folder is a system's or a network drive's own."""
    name = folder.name.lower()
    return name in FOLDERS or name.startswith((".trash", ".thumbnails"))


def _is_beside(path: Path, root: Path, clips: Mapping[str, Path]) -> bool:
    return plain(path.relative_to(root).with_suffix("").as_posix()) in clips


def _describe_left_out(paths: Sequence[Path]) -> Hint:
    plain_data = all(path.suffix.lower() in DATA for path in paths)
    fix = "Nothing has to be done" if plain_data else _fix(paths)
    return Hint("left out", f"{_spell_files(paths)} left out, not read", fix, not plain_data)


def _describe_captions(words: Sequence[Path], suffix: str) -> Hint:
    counts: defaultdict[str, list[Path]] = defaultdict(list)
    for path in words:
        counts[path.suffix].append(path)
    most = max(counts, key=lambda ending: len(counts[ending]))
    how = f'Set caption_extension = "{most}" in [[data]]'
    if most.lower() == ".json":
        how = "Write them as .txt files, or as one .jsonl of captions (captions = ...)"
    return Hint(
        "captions not read",
        f"{_spell_files(words)} beside the clips, but captions are read from {suffix} files only",
        f"{how} if they are the captions",
    )


def _spell_files(paths: Sequence[Path]) -> str:
    """Such as: 3 files (2 .psd: a.psd, b.psd; 1 .cr2: c.cr2) are."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        groups[path.suffix.lower() or "without suffix"].append(escape(path.name))
    parts = []
    for suffix, names in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[
        :KINDS
    ]:
        more = ", ..." if len(names) > SHOWN else ""
        parts.append(f"{len(names)} {suffix}: {', '.join(names[:SHOWN])}{more}")
    if len(groups) > KINDS:
        parts.append(f"and {len(groups) - KINDS} more suffixes")
    verb = "is" if len(paths) == 1 else "are"
    return f"{_spell_count(len(paths), 'file')} ({'; '.join(parts)}) {verb}"


def _spell_count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _fix(paths: Iterable[Path]) -> str:
    suffixes = {path.suffix.lower() for path in paths}
    packages = sorted({package for suffix in suffixes if (package := lacking(suffix))})
    fixes = [f"{' and '.join(packages)} would read some of them: {EXTRA}"] if packages else []
    if suffixes & set(RAW):
        fixes.append("Develop camera raw to JPEG or TIFF first")
    return "; ".join(fixes) or "Export what is meant as PNG, JPEG or MP4, move the rest elsewhere"


def look_alikes(clips: Mapping[str, Path]) -> list[str]:
    """Clips whose names are those of another clip and an ending that masks usually have."""
    known_names = {name.casefold() for name in clips}

    def is_mask_of_another(name: str) -> bool:
        bare = name.casefold()
        return any(
            bare.endswith(end) and bare.removesuffix(end) in known_names - {bare} for end in MASKED
        )

    return [name for name in clips if is_mask_of_another(name)]


def look_alike_hints(root: Path, clips: Mapping[str, Path]) -> Iterator[Hint]:
    """Masks that lie among the clips under a name that makes clips of them."""
    alike = look_alikes(clips)
    if alike:
        verb = "is a clip that looks" if len(alike) == 1 else "are clips that look"
        shown_names = ", ".join(clips[name].name for name in alike[:SHOWN])
        more = ", ..." if len(alike) > SHOWN else ""
        yield Hint(
            "mask among the clips",
            f"{_spell_count(len(alike), 'file')} in {root} ({shown_names}{more}) {verb} like a mask"
            " of another, and would be trained on as a picture",
            'Rename them to name.mask.png (masks = "sidecar"), or move them to a folder of masks',
        )

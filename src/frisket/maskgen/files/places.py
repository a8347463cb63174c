"""Where masks lie: a folder that mirrors the clips, or beside them. Needs no torch."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from frisket.media.paths import IMAGES, LEGEND, SOFT, VIDEOS, plain


@dataclass(frozen=True, slots=True)
class MaskStore:
    """Where masks go: a folder that mirrors the clips, or (`beside`) the clip folder itself.

    `name` is a clip's path below the clip folder without suffix, as `media.files.ClipFiles` has it.
    In a mask folder lie name.png or name.mkv, name.json and soft/region/name.png; beside a clip lie
    name.mask.png or name.mask.mkv, and name.mask.json.
    """

    folder: Path
    beside: bool = False

    @property
    def legend(self) -> Path:
        """The one legend of all label maps here."""
        return self.folder / LEGEND

    def labels(self, name: str, *, video: bool) -> Path:
        """The label map of a clip."""
        return self._locate_mask(name, ".mkv" if video else ".png")

    def record(self, name: str) -> Path:
        """The record of a clip; ValueError for a name whose record would be the legend."""
        if self._locate_mask(name, ".json") == self.legend:
            raise ValueError(
                f"{self.legend}: a clip named {name!r} has its record where the legend is; rename"
                " the clip"
            )
        return self._locate_mask(name, ".json")

    def soft(self, region: str, name: str, *, video: bool) -> Path:
        """The soft plane of one region; ValueError beside clips, where it would be a clip."""
        if self.beside:
            raise ValueError(
                f"{self.folder}: soft planes need a mask folder of their own, beside the clips they"
                " would be taken for clips"
            )
        return self.folder / SOFT / region / f"{name}{'.mkv' if video else '.png'}"

    def present(self, name: str, clip: Path, regions: Iterable[str] = ()) -> dict[str, Path]:
        """Every mask of a clip that is there: label maps of any kind, then soft planes.

        By path below the folder; what `record.state` compares. A folder of frames counts too,
        unless it mirrors a folder of clips.
        """
        forms = dict.fromkeys((name, unicodedata.normalize("NFD", name)))
        ends = [self._end + suffix for suffix in (*IMAGES, *VIDEOS)]
        if self.beside:
            ends += [f"-masklabel{suffix}" for suffix in IMAGES]
        paths = [path for form in forms for e in ends if (path := self._locate(form + e)).is_file()]
        if self.beside or not (clip.parent / Path(name).name).is_dir():
            paths += [path for form in forms if _is_frames(path := self._locate(form + self._end))]
        for region in regions:
            paths += [p for v in (False, True) if (p := self.soft(region, name, video=v)).exists()]
        return {self.below(path): path for path in paths}

    def below(self, path: Path) -> str:
        """The path below this folder, as records name it."""
        return plain(path.relative_to(self.folder).as_posix())

    @property
    def _end(self) -> str:
        return ".mask" if self.beside else ""

    def _locate(self, file: str) -> Path:
        return self.folder / file

    def _locate_mask(self, name: str, suffix: str) -> Path:
        # Never with_suffix: "take.1" would lose its ".1".
        return self._locate(name + self._end + suffix)


def _is_frames(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in IMAGES for file in path.iterdir())

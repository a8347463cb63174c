"""Read the captions of clips: `.txt` files beside them or in a folder, or one `.jsonl` file."""

import codecs
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frisket.disk.untrusted import parse_json, show
from frisket.media.folders.left_out import Hint
from frisket.media.manifest import PATH_KEYS, TEXT_KEYS
from frisket.media.paths import plain, refuse

_log = logging.getLogger(__name__)

Tidy = Callable[[str], str]  # from a text as written to a caption
CaptionPart = Literal["paragraph", "line", "file"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


LONGEST = 2**20  # bytes of a caption file
LONGEST_LIST = 2**28  # bytes of a .jsonl of captions


class BadCaption(ValueError):
    """A caption file that cannot be read; names it, the place and the fix."""


def read_text(path: Path, longest: int = LONGEST) -> str:
    """Text in UTF-8 (with or without BOM) or UTF-16 with BOM; BadCaption for anything else.

    No other encoding is guessed: a wrong guess turns into wrong words in the prompt, unseen. A file
    of more than `longest` bytes is refused: it is no caption.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(longest + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadCaption(f"{path}: cannot be read ({reason}); mend or remove it") from error
    if len(raw) > longest:
        raise BadCaption(f"{path}: has more than {longest} bytes, so it is no caption; shorten it")
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "utf-8")
    convert = f"convert it with: iconv -f latin1 -t utf-8 '{path.name}' > new.txt"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadCaption(
            f"{path}: byte 0x{error.object[error.start : error.start + 1].hex()} at position"
            f" {error.start} is not {encoding};"
            f" if the file is Latin-1 (Windows), {convert}"
        ) from error
    if "\0" in text:
        raise BadCaption(
            f"{path}: has a zero byte at position {text.index(chr(0))}, it may be UTF-16 without a"
            " byte-order mark; save it as UTF-8"
        )
    return text


def first_paragraph(text: str) -> str:
    """The lines up to the first empty one, joined by single spaces."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if not line.strip():
            break
        lines.append(" ".join(line.split()))
    return " ".join(lines)


def first_line(text: str) -> str:
    """The first line, blank or not."""
    return text.split("\n", 1)[0].strip()


@dataclass(frozen=True, slots=True)
class Wording:
    """How caption files end, and what of them is the caption.

    `paragraph` is the first paragraph as one line, `line` the first line, `file` all of it with its
    line breaks.
    """

    suffix: str = ".txt"
    part: CaptionPart = "paragraph"

    def tidy(self, text: str) -> str:
        """The caption in a text."""
        parts: dict[CaptionPart, Tidy] = {"paragraph": first_paragraph, "line": first_line}
        return parts.get(self.part, str.strip)(text)

    def beside(self, clip: Path) -> Path:
        """Where the caption of a clip would lie."""
        return clip.with_name(clip.stem + self.suffix)


PLAIN = Wording()


class Shortened(str):
    """A caption after which some of its text was left out: `lost` words."""

    lost: int


@dataclass(frozen=True, slots=True)
class Shortening:
    """Tidies texts as `wording` says (None: not at all); what it cuts is marked as Shortened."""

    wording: Wording | None

    def __call__(self, text: str) -> str:
        """The caption in a text."""
        if self.wording is None:
            return text
        caption = self.wording.tidy(text)
        rest = len(text.split()) - len(caption.split())
        if rest <= 0:
            return caption
        cut = Shortened(caption)
        cut.lost = rest
        return cut

    def hints(self, captions: Mapping[str, str]) -> Iterator[Hint]:
        """What was left out of the captions of clips, by name: told once, counted."""
        lost_words = {
            name: text.lost for name, text in captions.items() if isinstance(text, Shortened)
        }
        if not lost_words or self.wording is None:
            return
        first, words = next(iter(lost_words.items()))
        count = "1 caption is" if len(lost_words) == 1 else f"{len(lost_words)} captions are"
        total = f", all together lose {sum(lost_words.values())}" if len(lost_words) > 1 else ""
        yield Hint(
            "caption cut",
            f"{count} longer than the first {self.wording.part}, which alone is read ({first} loses"
            f" {words} words{total})",
            'Set caption_part = "file" in [[data]] to keep all of it',
        )


def _index_texts(paths: Iterable[Path], root: Path, suffix: str) -> dict[str, Path]:
    """Text files by their path below `root` without suffix, NFC."""
    return {
        plain(path.relative_to(root).as_posix()[: -len(suffix)]): path
        for path in paths
        if path.name.lower().endswith(suffix.lower()) and not path.name.startswith(".")
    }


def _from_texts(clips: Mapping[str, Path], texts: Mapping[str, Path], tidy: Tidy) -> dict[str, str]:
    captions = {}
    for name in clips:
        if name not in texts:
            continue
        try:
            captions[name] = tidy(read_text(texts[name]))
        except BadCaption as error:
            refuse(name, error)
    return captions


def _read_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, file, caption) of every line of a `.jsonl` file."""
    for number, line in enumerate(read_text(path, LONGEST_LIST).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry: Any = parse_json(line)
        except ValueError as error:
            raise BadCaption(f"{path}:{number}: not JSON ({error}); one object a line") from error
        if not isinstance(entry, dict):
            raise BadCaption(
                f"{path}:{number}: a JSON object is needed, this is {line.strip()[:40]}"
            )
        texts = [next((entry[k] for k in keys if k in entry), None) for keys in _KEYS]
        if not all(isinstance(value, str) for value in texts):
            raise BadCaption(
                f"{path}:{number}: needs a text under one of {', '.join(PATH_KEYS)} and one of"
                f" {', '.join(TEXT_KEYS)}; it has"
                f" {', '.join(map(show, [*entry][:10])) or 'nothing'}"
            )
        yield number, str(texts[0]), str(texts[1])


_KEYS = (PATH_KEYS, TEXT_KEYS)


def _from_lines(
    clips: Mapping[str, Path], root: Path, path: Path, tidy: Tidy
) -> Iterator[tuple[str, str]]:
    known_names = {plain(clip.absolute().as_posix()): name for name, clip in clips.items()}
    known_names |= {plain(clip.resolve().as_posix()): name for name, clip in clips.items()}
    captions: dict[str, tuple[int, str]] = {}
    strangers: list[str] = []
    for number, file, text in _read_entries(path):
        ways = _list_ways(file, root, path.parent)
        name = next(
            (known_names[key] for w in ways if (key := plain(w.as_posix())) in known_names), None
        )
        name = name or (plain(file) if plain(file) in clips else None)
        if name is None:
            strangers.append(file)
            continue
        caption = tidy(text)
        line, earlier = captions.setdefault(name, (number, caption))
        if earlier != caption:
            raise BadCaption(
                f"{path}: lines {line} and {number} caption {show(file)} differently; keep one"
            )
    if strangers and captions:
        _log.warning(
            "%s: %d entries have no clip, the first is %s",
            path,
            len(strangers),
            show(strangers[0]),
        )
    yield from ((name, caption) for name, (_, caption) in captions.items())


def _list_ways(file: str, *folders: Path) -> list[Path]:
    """Where a file as written may lie; nowhere if no file can be called so."""
    places = [folder / file for folder in folders]
    try:
        return [way for place in places for way in (place.absolute(), place.resolve())]
    except (OSError, RuntimeError, ValueError):  # too long; a loop of links; a zero byte
        return []


def find_texts(
    clips: Mapping[str, Path], root: Path, source: Path | None, suffix: str = ".txt"
) -> dict[str, Path]:
    """The caption files of clips by name, as `read_captions` reads them; none of a `.jsonl`."""
    if source is not None:
        return _index_texts(source.rglob("*"), source, suffix) if source.is_dir() else {}
    folders = {clip.parent for clip in clips.values()}
    return _index_texts((path for folder in folders for path in folder.iterdir()), root, suffix)


def read_captions(
    clips: Mapping[str, Path],
    root: Path,
    source: Path | None,
    tidy: Tidy = first_paragraph,
    suffix: str = ".txt",
) -> dict[str, str]:
    """Name to caption for the clips that have one; an empty file counts as none.

    `source` None reads `name.txt` (or another `suffix`) beside each clip; a folder reads `name.txt`
    in it, sub-folders kept; a `.jsonl` file gives a path (absolute, or relative to `root` or to the
    file; or a clip's name) and a caption on each line. Raises BadCaption where a given source does
    not exist, is of another kind or captions none of the clips.
    """
    if source is None:
        texts = _from_texts(clips, find_texts(clips, root, source, suffix), tidy)
        return {name: text for name, text in texts.items() if text}
    if source.is_dir():
        texts = _from_texts(clips, find_texts(clips, root, source, suffix), tidy)
    elif not source.exists():
        raise BadCaption(f"captions {source}: there is no such folder or file")
    elif source.suffix.lower() == ".jsonl":
        texts = dict(_from_lines(clips, root, source, tidy))
    else:
        raise BadCaption(f"captions {source}: give a folder of {suffix} files or one .jsonl file")
    if not texts:
        example = next(iter(clips))
        raise BadCaption(
            f"captions {source}: captions none of the {len(clips)} clips; a clip is {example!r}, so"
            f" its caption would be {example}{suffix} or a line with that file"
        )
    return {name: text for name, text in texts.items() if text}

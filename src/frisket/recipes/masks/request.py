"""What `frisket masks` is asked for, and the job it becomes: checked before a model is loaded."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frisket.maskgen.base import BACKENDS, BackendUnusable, Source
from frisket.maskgen.cleanup.clean import Cleaning, How
from frisket.maskgen.cleanup.compose import Wanted
from frisket.maskgen.cleanup.instances import Choice, Kind
from frisket.maskgen.files import record
from frisket.maskgen.files.store import Place, extend_legend
from frisket.maskgen.job import Job, Motion, Task
from frisket.maskgen.pipeline import (
    Model,
    Models,
    Options,
    Parts,
    backends_of,
    front_role,
    licences,
    needs_phrases,
    parts_of,
    regions_of,
)
from frisket.maskgen.text import rules
from frisket.maskgen.text.phrases import Phrase, noun_phrases, over, parse_phrases
from frisket.maskgen.vision.classes import grouping
from frisket.media.files import Found
from frisket.media.frames import decode
from frisket.registry import nearest

log = logging.getLogger(__name__)

FACES = "insightface"  # the backend a face is recognised by
SUBJECT = "subject"  # the region that is everything but what was found
LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of one run; `frisket masks make --help` says what each means."""

    folder: Path
    output: Path | None = None
    beside: bool = False
    backends: tuple[str, ...] = ("draft",)
    how: How = "union"
    segmenter: str = ""
    people: str = ""
    tracker: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)  # backend to folder, file or hub id
    cuts: Mapping[str, float] = field(default_factory=dict)  # "backend.threshold" to value
    phrases: str = ""
    from_captions: bool = False
    captions: Path | None = None
    captioner: str = ""  # backend that captions clips without one
    trigger: str = ""
    class_word: str = ""
    rules: Path | None = None
    everything_but: bool = False
    parts: str = "person"
    neck: str = "body"
    keep: Kind = "all"
    near: tuple[float, float] | None = None
    like: tuple[Path, ...] = ()
    alike: float = 0.35
    cleaning: Cleaning = field(default_factory=Cleaning)
    motion: Motion = field(default_factory=Motion)
    soft: bool = False
    brush: Path | None = None
    stability: bool = False
    overwrite: bool = False
    again: bool = False
    limit: int = 0
    workers: int = 0
    devices: tuple[str, ...] = ("auto",)
    dtype: str = "auto"
    batch: int = 4
    longest: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """A job with a task for every clip, and what a user should know before it runs."""

    job: Job
    tasks: list[Task]
    told: list[str]
    licences: list[str]  # of every backend that takes part
    said: list[str]  # those of them that were said already, before the backend was loaded


def ready(asked: Asked, found: Sequence[Found], place: Place, *, dry: bool = False) -> Ready:
    """Check what is asked against backends, rules and captions.

    Loads at most the backend that reads reference faces; writes the legend of the mask folder,
    unless `dry`. What is wrong with names, rules, phrases or weights is raised before a clip is
    touched.
    """
    _check(asked)
    sources = tuple(_parts(asked, name) for name in asked.backends)
    default = Source(device=device_of(asked.devices[0]), dtype=_dtype(asked))
    models = Models(_weights(asked, sources, default), default, asked.cuts)
    beside = _beside(asked)
    names = [*(name for parts in sources for name in backends_of(parts)), *beside]
    said = [] if dry else list(licences(beside))  # they load here, so it is said here
    for line in said:
        log.info("%s", line)
    found, captioned = _captioned(asked, found, models, dry=dry)
    table = rules.read(asked.rules) if asked.rules else rules.default()
    wanted, told = _wanted(asked, sources, table, found)
    regions = _regions(asked, sources, table, wanted)
    described = models.described(names)
    legend = extend_legend(place.legend, regions) if not dry else _counted(regions)
    job = Job(
        sources=sources,
        place=place,
        regions=regions,
        legend=legend,
        settings={},
        key="",
        models=tuple(
            record.Model(one.backend, one.source, one.revision, one.code, one.weights)
            for one in described
        ),
        thresholds={
            f"{one.backend}.{name}": value for one in described for name, value in one.thresholds
        },
        cuts=dict(asked.cuts),
        how=asked.how,
        options=Options(
            asked.cleaning.loosen, grouping(asked.parts, neck=asked.neck), asked.longest
        ),
        weights=models.sources,
        default=default,
        priority=tuple(table.order(regions)),
        cleaning=_cleaning(asked, table, regions),
        choice=_choice(asked, models, dry=dry),
        faces=FACES if asked.keep == "face" else "",
        motion=asked.motion,
        soft=asked.soft,
        stability=asked.stability,
        brush=asked.brush,
        batch=asked.batch,
        everything_but=SUBJECT if asked.everything_but else "",
    )
    models.close()
    settings = _settings(asked, job, described)
    tasks = [Task(one.name, one.clip, wanted[one.name]) for one in found]
    job = replace(job, settings=settings, key=record.key_of(settings))
    return Ready(job, tasks, captioned + told, list(licences(names)), said)


def device_of(name: str) -> str:
    """A torch device; `auto` takes cuda, then mps, then cpu."""
    if name != "auto":
        return name
    mps = torch.backends.mps.is_available()
    return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"


def _dtype(asked: Asked) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if asked.dtype == "auto":
        cuda = device_of(asked.devices[0]).startswith("cuda")
        return torch.bfloat16 if cuda else torch.float32
    if asked.dtype not in known:
        raise BackendUnusable(f"no precision {asked.dtype!r}{nearest(asked.dtype, list(known))}")
    return known[asked.dtype]


def _check(asked: Asked) -> None:
    """Refuse options that would do nothing."""
    known = [name for name in BACKENDS.names() if "captioner" in BACKENDS.load(name).roles]
    if asked.captioner and asked.captioner not in known:
        raise BackendUnusable(f"no captioner {asked.captioner!r}{nearest(asked.captioner, known)}")
    if asked.captioner and not asked.from_captions:
        raise BackendUnusable("--captioner writes captions for --from-captions; give that too")
    if asked.cleaning.feather and not asked.soft:
        raise BackendUnusable(
            "--feather softens the planes of --soft; a label map has no soft borders, so set"
            " `feather` of the masks in the config, or add --soft"
        )
    if asked.soft and asked.beside:
        raise BackendUnusable("--soft needs a mask folder of its own; leave out --beside")


def _parts(asked: Asked, name: str) -> Parts:
    return parts_of(name, segmenter=asked.segmenter, people=asked.people, tracker=asked.tracker)


def _beside(asked: Asked) -> list[str]:
    """Backends that take part beside the sources: the captioner, and what recognises a face."""
    faces = [FACES] if asked.keep == "face" else []
    return [*faces, *([asked.captioner] if asked.captioner else [])]


def _weights(asked: Asked, sources: Sequence[Parts], default: Source) -> dict[str, Source]:
    names = [*(name for parts in sources for name in backends_of(parts)), *_beside(asked)]
    for name in (*asked.sources, *(key.partition(".")[0] for key in asked.cuts)):
        if name not in names:
            raise BackendUnusable(f"{name!r} takes no part in this run{nearest(name, names)}")
    return {name: replace(default, path=path) for name, path in asked.sources.items()}


def _wanted(
    asked: Asked, sources: Sequence[Parts], table: rules.Rules, found: Sequence[Found]
) -> tuple[dict[str, Wanted], list[str]]:
    """The phrases of every clip by region, and what is to be said of them."""
    asking = [parts.front for parts in sources if needs_phrases(parts)]
    if asked.phrases and asked.from_captions:
        raise BackendUnusable("give --phrases or --from-captions, not both")
    if not asking:
        if asked.phrases or asked.from_captions:
            raise BackendUnusable(
                f"{', '.join(asked.backends)} finds regions of its own and takes no phrases; choose"
                " a backend that does (frisket masks backends), or leave the phrases out"
            )
        return {one.name: {} for one in found}, []
    if not (asked.phrases or asked.from_captions):
        raise BackendUnusable(
            f"{asking[0]} must be told what to look for: --phrases 'face; hair; red jacket', or"
            " --from-captions"
        )
    if asked.phrases:
        each = parse_phrases(asked.phrases)
        plan = _plan(asked, each, table)
        return {one.name: plan.regions for one in found}, plan.list_notes()
    words = asked.trigger, asked.class_word
    read = {one.name: noun_phrases(one.caption, *words) for one in found}
    survey = over(((one.name, one.caption) for one in found), *words)
    told = [*_plan(asked, survey.phrases, table).list_notes(), *survey.notes]
    return {name: _plan(asked, each, table).regions for name, each in read.items()}, told


def _captioned(
    asked: Asked, found: Sequence[Found], models: Models, *, dry: bool
) -> tuple[Sequence[Found], list[str]]:
    """Clips without a caption with one that a model wrote of their first frame."""
    if not asked.captioner:
        return found, []
    bare = [one for one in found if not one.caption]
    if dry:
        return found, [
            f"{len(bare)} clip{'s' * (len(bare) > 1)} without a caption would be captioned first"
        ]
    captioner = models.get(asked.captioner)
    written: dict[str, str] = {}
    for one in bare:
        (written[one.name],) = captioner.caption([decode(one.clip, [0])[0]])
    told = [f"{name}: captioned {caption!r}" for name, caption in written.items()]
    return [replace(one, caption=written.get(one.name, one.caption)) for one in found], told


def _plan(asked: Asked, each: Sequence[Phrase], table: rules.Rules) -> rules.Plan:
    if asked.everything_but:
        return rules.Plan({LEFT_OUT: tuple(dict.fromkeys(phrase.text for phrase in each))})
    return rules.plan(each, table)


def _regions(
    asked: Asked, sources: Sequence[Parts], table: rules.Rules, wanted: Mapping[str, Wanted]
) -> tuple[str, ...]:
    if asked.everything_but:
        return (SUBJECT,)
    own = grouping(asked.parts, neck=asked.neck)
    names = [name for parts in sources for name in regions_of(parts, own)]
    names += [name for each in wanted.values() for name in each]
    if not names:
        raise BackendUnusable(
            "none of the phrases belongs to a region, so there is nothing to look for; name one by"
            " hand (--phrases 'subject = mug') or write a rule (frisket masks rules)"
        )
    return tuple(table.order(names))


def _counted(regions: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(regions, 1)}


def _cleaning(asked: Asked, table: rules.Rules, regions: Sequence[str]) -> dict[str, Cleaning]:
    """The clean-up of all regions under "", and of those that the rules name."""
    known = [each.name for each in fields(Cleaning)]
    cleaned = {"": asked.cleaning}
    for region, options in table.clean.items():
        for key in options:
            if key not in known:
                raise rules.BadRules(
                    f"{asked.rules}: [clean.{region}] has no option {key!r}{nearest(key, known)}"
                )
        if region not in regions and asked.rules:
            raise rules.BadRules(
                f"{asked.rules}: [clean.{region}] cleans a region that is not made here"
                f"{nearest(region, list(regions))}"
            )
        cleaned[region] = replace(asked.cleaning, **options)
    return cleaned


def _choice(asked: Asked, models: Models, *, dry: bool) -> Choice:
    if asked.keep != "face":
        return Choice(asked.keep, asked.near)
    if not asked.like:
        raise BackendUnusable(
            "to keep one person by the face, name a picture of it: --like face.jpg"
        )
    if dry:
        return Choice()
    embeddings = [_face(path, models) for path in asked.like]
    return Choice("face", references=torch.stack(embeddings), threshold=asked.alike)


def _face(path: Path, models: Models) -> Tensor:
    """The embedding of the largest face of a reference picture."""
    (faces,) = models.get(FACES).faces([decode(path, [0])[0]])
    if not faces:
        raise BackendUnusable(f"{path}: no face is found in it; take a picture with a clear face")
    if faces[0].embedding is None:
        raise BackendUnusable(
            f"{models.source(FACES).path or FACES} has no recogniser, so faces cannot be compared;"
            " take a model pack with one, such as buffalo_l"
        )
    embedding: Tensor = faces[0].embedding
    return embedding


def _settings(asked: Asked, job: Job, described: Sequence[Model]) -> dict[str, Any]:
    """All that shapes a still's masks but the clip, its phrases and its brush, as JSON."""
    parsed = any(front_role(parts.front) == "parser" for parts in job.sources)
    references = job.choice.references
    return {
        "sources": [asdict(parts) for parts in job.sources],
        "models": [
            {"backend": one.backend, "revision": one.revision or one.source, "method": one.version}
            for one in described
        ],
        "thresholds": dict(job.thresholds),
        "how": job.how,
        "regions": list(job.regions),
        "priority": list(job.priority),
        "loosen": job.options.loosen,
        "longest": job.options.longest,
        "cleaning": {name: asdict(each) for name, each in job.cleaning.items()},
        "choice": {
            "kind": job.choice.kind,
            "point": job.choice.point,
            "threshold": job.choice.threshold,
            "references": "" if references is None else _digest(references),
        },
        "soft": job.soft,
        "everything_but": job.everything_but,
        **({"parts": asked.parts, "neck": asked.neck} if parsed else {}),
    }


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.float().cpu().numpy().tobytes()).hexdigest()[:16]

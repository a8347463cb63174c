"""What `frisket masks` is to make, and the job it becomes: checked before a model is loaded."""

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frisket.config.data import Section
from frisket.config.maskgen import MaskGeneration, MaskTracking
from frisket.maskgen.base import BACKENDS, BackendUnusable, ModelSource
from frisket.maskgen.cleanup.clean import Cleaning
from frisket.maskgen.cleanup.instances import InstanceChoice
from frisket.maskgen.cleanup.stages import Prompts
from frisket.maskgen.files import record
from frisket.maskgen.files.store import MaskStore, extend_legend
from frisket.maskgen.job import MaskJob, Motion, Task
from frisket.maskgen.pipeline import (
    LoadedModel,
    Models,
    PipelineOptions,
    PipelineParts,
    backends_of,
    find_front_role,
    list_licences,
    regions_of,
    resolve_parts,
)
from frisket.maskgen.text import rules
from frisket.maskgen.tracking.tracker import Tracking
from frisket.maskgen.vision.classes import get_grouping
from frisket.media.files import ClipFiles
from frisket.media.frames import decode
from frisket.recipes.masks.phrases import caption_clips, choose_reader, plan_clips
from frisket.registry import suggest

log = logging.getLogger(__name__)

ATTENTION = "attention"  # the backend that has a section of its own
FACES = "insightface"  # the backend a face is recognised by
SUBJECT = "subject"  # the region that is everything but what was found


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job with a task for every clip, and what a user should know before it runs."""

    job: MaskJob
    tasks: list[Task]
    messages: list[str]
    licences: list[str]  # of every backend that takes part
    announced: list[str]  # those of them that were said already, before the backend was loaded


def prepare_job(
    options: MaskGeneration,
    clip_files: Sequence[ClipFiles],
    place: MaskStore,
    *,
    dry: bool = False,
    noun_phrases: str = "",
) -> PreparedJob:
    """Check the options against backends, rules and captions.

    Loads at most the backend that reads reference faces; writes the legend of the mask folder,
    unless `dry`. What is wrong with names, rules, phrases or weights is raised before a clip is
    touched. `noun_phrases` is of the call, as `MaskRequest` has it: no file names code to load.
    """
    _check(options)
    reader = choose_reader(noun_phrases, options)
    sources = tuple(_make_parts(options, name) for name in options.backends)
    default = ModelSource(device=device_of(options.devices[0]), dtype=_choose_dtype(options))
    cuts = _read_thresholds(options)
    models = Models(_find_weights(options, sources, default, cuts), default, cuts)
    extra_backends = _list_extra_backends(options)
    names = [*(name for parts in sources for name in backends_of(parts)), *extra_backends]
    announced = (
        [] if dry else list(list_licences(extra_backends))
    )  # they load here, so it is said here
    for line in announced:
        log.info("%s", line)
    clip_files, caption_messages = caption_clips(options, clip_files, models, dry=dry)
    table = rules.read(options.prompts.rules) if options.prompts.rules else rules.default()
    prompts, messages = plan_clips(options, sources, table, clip_files, reader)
    regions = _list_regions(options, sources, table, prompts)
    model_descriptions = models.describe(names)
    legend = extend_legend(place.legend, regions) if not dry else _number_regions(regions)
    job = MaskJob(
        **take_fields(options, MaskJob, besides=("sources", "thresholds")),
        sources=sources,
        place=place,
        regions=regions,
        legend=legend,
        settings={},
        key="",
        models=tuple(_list_records(model_descriptions)),
        thresholds=_list_thresholds(model_descriptions),
        cuts=cuts,
        how=options.combine,
        options=PipelineOptions(
            options.cleanup.loosen,
            get_grouping(options.people.parts, neck=options.people.neck),
            options.longest,
        ),
        weights=models.sources,
        default=default,
        priority=tuple(table.order(regions)),
        cleaning=_make_cleaning(options, table, regions),
        choice=_choose_instances(options, models, dry=dry),
        faces=FACES if options.people.keep == "face" else "",
        motion=_make_motion(options.tracking),
        everything_but=SUBJECT if options.prompts.everything_but else "",
    )
    models.close()
    settings = _list_settings(options, job, model_descriptions)
    if noun_phrases:  # only then: masks made before there was the option stay done
        settings["noun_phrases"] = noun_phrases
    tasks = [Task(clip.name, clip.clip, prompts[clip.name]) for clip in clip_files]
    job = replace(job, settings=settings, key=record.key_of(settings))
    return PreparedJob(
        job, tasks, caption_messages + messages, list(list_licences(names)), announced
    )


def _list_records(described: Sequence[LoadedModel]) -> Iterator[record.ModelRecord]:
    for model in described:
        yield record.ModelRecord(
            model.backend, model.source, model.revision, model.code, model.weights
        )


def _list_thresholds(described: Sequence[LoadedModel]) -> dict[str, float]:
    """All of them by "backend.name", those nobody set too."""
    return {
        f"{model.backend}.{name}": value for model in described for name, value in model.thresholds
    }


def take_fields(
    section: Section, kind: type[Any], *, besides: Collection[str] = ()
) -> dict[str, Any]:
    """What of a section a dataclass below has by the same name, but what means another thing there.

    So an option is written once: what Cleaning or Job has, the section need only name.
    """
    names = {field.name for field in fields(kind)} - set(besides)
    return {name: getattr(section, name) for name in type(section).model_fields if name in names}


def device_of(name: str) -> str:
    """A torch device; `auto` takes cuda, then mps, then cpu."""
    if name != "auto":
        return name
    mps = torch.backends.mps.is_available()
    return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"


def _choose_dtype(options: MaskGeneration) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if options.dtype == "auto":
        cuda = device_of(options.devices[0]).startswith("cuda")
        return torch.bfloat16 if cuda else torch.float32
    return dtypes[options.dtype]


def _check(options: MaskGeneration) -> None:
    """Refuse options that would do nothing."""
    captioners = [name for name in BACKENDS.names() if "captioner" in BACKENDS.load(name).roles]
    if options.prompts.captioner and options.prompts.captioner not in captioners:
        raise BackendUnusable(
            f"no captioner {options.prompts.captioner!r}"
            f"{suggest(options.prompts.captioner, captioners)}"
        )
    if options.prompts.captioner and not options.prompts.from_captions:
        raise BackendUnusable("--captioner writes captions for --from-captions; give that too")
    if options.cleanup.feather and not options.soft:
        raise BackendUnusable(
            "--feather softens the planes of --soft; a label map has no soft borders, so set"
            " `feather` of the masks in the config, or add --soft"
        )
    if options.soft and options.beside:
        raise BackendUnusable("--soft needs a mask folder of its own; leave out --beside")


def _make_parts(options: MaskGeneration, name: str) -> PipelineParts:
    return resolve_parts(
        name, segmenter=options.segmenter, people=options.detector, tracker=options.tracker
    )


def _list_extra_backends(options: MaskGeneration) -> list[str]:
    """Backends that take part beside the sources: the captioner, and what recognises a face."""
    faces = [FACES] if options.people.keep == "face" else []
    return [*faces, *([options.prompts.captioner] if options.prompts.captioner else [])]


def _find_weights(
    options: MaskGeneration,
    sources: Sequence[PipelineParts],
    default: ModelSource,
    cuts: Mapping[str, float],
) -> dict[str, ModelSource]:
    names = [
        *(name for parts in sources for name in backends_of(parts)),
        *_list_extra_backends(options),
    ]
    paths = _name_sources(options)
    for name in (*paths, *(key.partition(".")[0] for key in cuts)):
        if name not in names:
            raise BackendUnusable(f"{name!r} takes no part in this run{suggest(name, names)}")
    weights = {name: replace(default, path=path) for name, path in paths.items()}
    if ATTENTION in names:
        own_options = options.attention.model_dump()
        weights[ATTENTION] = replace(weights.get(ATTENTION, default), options=own_options)
    return weights


def _name_sources(options: MaskGeneration) -> dict[str, str]:
    """The paths by backend; one without a name is that of the one backend there is.

    So is one that holds an equals sign and lies there, such as `models=2/sam`.
    """
    paths = {name: path for name, path in options.sources.items() if name in BACKENDS.names()}
    for name, path in options.sources.items():
        typed = f"{name}={path}" if name else path
        if name in BACKENDS.names() or (name and not Path(typed).exists()):
            paths[name] = path
        elif len(options.backends) == 1 and options.backends[0] in BACKENDS.names():
            paths[options.backends[0]] = typed
        else:
            raise BackendUnusable(
                f"--source {typed!r}: say whose weights they are, as in sam2=FOLDER"
                f"{suggest(name, BACKENDS.names())}"
            )
    return paths


def _read_thresholds(options: MaskGeneration) -> dict[str, float]:
    """Those that were set, by "backend.name"."""
    return {
        f"{backend}.{name}": value
        for backend, thresholds in options.thresholds.items()
        for name, value in thresholds.items()
    }


def _make_motion(options: MaskTracking) -> Motion:
    gap = min(Tracking().gap, options.window - 1)
    tracking = Tracking(**take_fields(options, Tracking, besides=("gap",)), gap=gap)
    return Motion(tracking=tracking, **take_fields(options, Motion))


def _list_regions(
    options: MaskGeneration,
    sources: Sequence[PipelineParts],
    table: rules.RegionRules,
    prompts: Mapping[str, Prompts],
) -> tuple[str, ...]:
    if options.prompts.everything_but:
        return (SUBJECT,)
    parsed_regions = get_grouping(options.people.parts, neck=options.people.neck)
    names = [name for parts in sources for name in regions_of(parts, parsed_regions)]
    names += [name for clip_prompts in prompts.values() for name in clip_prompts]
    if not names:
        raise BackendUnusable(
            "none of the phrases belongs to a region, so there is nothing to look for; name one by"
            " hand (--phrases 'subject = mug') or write a rule (frisket masks rules)"
        )
    return tuple(table.order(names))


def _number_regions(regions: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(regions, 1)}


def _make_cleaning(
    options: MaskGeneration, table: rules.RegionRules, regions: Sequence[str]
) -> dict[str, Cleaning]:
    """The clean-up of all regions under "", and of those that the rules name."""
    option_names = [field.name for field in fields(Cleaning)]
    default = Cleaning(**take_fields(options.cleanup, Cleaning))
    cleaned, path = {"": default}, options.prompts.rules
    for region, changes in table.clean.items():
        for key in changes:
            if key not in option_names:
                raise rules.BadRules(
                    f"{path}: [clean.{region}] has no option {key!r}{suggest(key, option_names)}"
                )
        if region not in regions and path:
            raise rules.BadRules(
                f"{path}: [clean.{region}] cleans a region that is not made here"
                f"{suggest(region, list(regions))}"
            )
        cleaned[region] = replace(default, **changes)
    return cleaned


def _choose_instances(options: MaskGeneration, models: Models, *, dry: bool) -> InstanceChoice:
    if options.people.keep != "face":
        return InstanceChoice(options.people.keep, options.people.near)
    if not options.people.like:
        raise BackendUnusable(
            "to keep one person by the face, name a picture of it: --like face.jpg"
        )
    if dry:
        return InstanceChoice()
    embeddings = [_embed_face(path, models) for path in options.people.like]
    return InstanceChoice(
        "face", references=torch.stack(embeddings), threshold=options.people.alike
    )


def _embed_face(path: Path, models: Models) -> Tensor:
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


def _list_settings(
    options: MaskGeneration, job: MaskJob, described: Sequence[LoadedModel]
) -> dict[str, Any]:
    """All that shapes a still's masks but the clip, its phrases and its brush, as JSON."""
    parsed = any(find_front_role(parts.front) == "parser" for parts in job.sources)
    attends = any(ATTENTION in backends_of(parts) for parts in job.sources)
    references = job.choice.references
    return {
        "sources": [asdict(parts) for parts in job.sources],
        "models": [
            {
                "backend": model.backend,
                "revision": model.revision or model.source,
                "method": model.version,
            }
            for model in described
        ],
        "thresholds": dict(job.thresholds),
        "how": job.how,
        "regions": list(job.regions),
        "priority": list(job.priority),
        "loosen": job.options.loosen,
        "longest": job.options.longest,
        "cleaning": {name: asdict(cleaning) for name, cleaning in job.cleaning.items()},
        "choice": {
            "kind": job.choice.kind,
            "point": job.choice.point,
            "threshold": job.choice.threshold,
            "references": "" if references is None else _hash_tensor(references),
        },
        "soft": job.soft,
        "everything_but": job.everything_but,
        **({"attention": options.attention.model_dump(mode="json")} if attends else {}),
        **({"parts": options.people.parts, "neck": options.people.neck} if parsed else {}),
    }


def _hash_tensor(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.float().cpu().numpy().tobytes()).hexdigest()[:16]

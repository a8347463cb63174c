"""From `[[identity]]` tables to methods: all that can be refused is, before the denoiser is there.

First what needs no file (does the method run on this variant, do the methods fit together, can
they act on these samples), then whether the files are there, then masks and pictures, then the
method's own files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from frisket.config.checks.identity_tables import read_options
from frisket.config.identity.tables import IdentityTable
from frisket.config.identity.typed import label_methods
from frisket.config.load import ConfigError
from frisket.faces.base import EMBEDDERS
from frisket.faces.recognise import FaceModels, complete_models
from frisket.families.base import Family, Parts, Source
from frisket.inference.methods.base import Method
from frisket.inference.methods.plugin import (
    METHODS,
    ClipSize,
    MethodRequest,
    MethodUnusable,
    ReadMethod,
)
from frisket.inference.sample_specs import SampleSpec
from frisket.licence import say_licence
from frisket.runs.methods.identity.combining import MethodAsk, check_combination
from frisket.runs.methods.identity.digests import digest_files
from frisket.runs.methods.identity.masking import lay_masks
from frisket.runs.methods.identity.portrait import ChosenFace, PortraitReader, find_free
from frisket.shapes import Weights


@dataclass(frozen=True, slots=True)
class PlannedMethod:
    """A method with its files read, before the denoiser is there."""

    ask: MethodAsk
    faces: tuple[ChosenFace, ...]
    request: MethodRequest
    reading: ReadMethod

    @property
    def label(self) -> str:
        """What it is called in file names, labels and records."""
        return self.ask.label

    def describe(self) -> dict[str, Any]:
        """What `generate.json` says of it: all that is needed to do the same again."""
        table, options = self.ask.table, self.request.options
        described: dict[str, Any] = {
            "label": self.label,
            "method": table.method,
            "scale": table.scale,
            "strict": table.strict,
            "options": asdict(options) if is_dataclass(options) else {},  # type: ignore[arg-type]
            "source": digest_files(table.source),
            "faces": [_describe_face(face) for face in self.faces],
        }
        for name in ("encoder", "embedder_source", "detector_source", "like", "pose", "mask"):
            path = getattr(table, name)
            if path is not None:
                described[name] = digest_files(path)
        names = {name: getattr(table, name) for name in ("embedder", "detector")}
        return described | {name: value for name, value in names.items() if value}


@dataclass(frozen=True, slots=True)
class MethodPlan:
    """The methods of a call, in the order of their tables, and the networks that read faces."""

    planned: tuple[PlannedMethod, ...] = ()
    reader: PortraitReader = field(default_factory=PortraitReader)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each is called."""
        return tuple(method.label for method in self.planned)

    def build(self, family: Family, parts: Parts) -> Mapping[str, Method]:
        """The methods for the loaded denoiser, by label. MethodUnusable for one of another size."""
        return {method.label: method.reading.build(family, parts) for method in self.planned}

    def describe(self) -> list[dict[str, Any]]:
        """What a record says of all of them."""
        return [method.describe() for method in self.planned]


def plan_methods(
    tables: Sequence[IdentityTable],
    family: Family,
    source: Source,
    specs: Sequence[SampleSpec],
    *,
    fuse: str = "",
    focus: Sequence[str] = (),
) -> MethodPlan:
    """Read what the tables name, for these samples; an empty plan for no tables.

    `fuse` and `focus` are what else acts (see `check_combination`). The licences of what is used
    are said (as warnings) before it is loaded. Raises ConfigError, FileNotFoundError for weights
    that are not there (with where they are published), BadMedia for a picture that is none,
    FaceNotUsable, and what the plugins raise.
    """
    labels = label_methods([table.method for table in tables])
    asks = [
        MethodAsk(label, table, METHODS.load(table.method))
        for label, table in zip(labels, tables, strict=True)
    ]
    for ask in asks:
        check_variant(ask, family, source.variant)
    check_combination(asks, fuse=fuse, focus=focus)
    for ask in asks:
        if ask.table.scale:  # at 0 it is not there
            ask.plugin.check(read_options(ask.table, ask.plugin.options), specs)
    for ask in asks:
        check_files(ask)
    sizes = sorted({(spec.frames, spec.height, spec.width) for spec in specs})
    grid = family.variants[source.variant].grid
    masks = [lay_masks(ask.table.mask, sizes, grid) for ask in asks]
    asks, reader = [name_networks(ask) for ask in asks], PortraitReader()
    requests = [make_request(reader, *pair) for pair in zip(asks, masks, strict=True)]
    planned = []
    for ask, (faces, request) in zip(asks, requests, strict=True):
        say_licence(ask.table.method, ask.plugin.licence)
        reading = ask.plugin.read(request, family, source.variant)
        planned.append(PlannedMethod(ask, tuple(faces), request, reading))
    return MethodPlan(tuple(planned), reader)


def check_variant(ask: MethodAsk, family: Family, variant: str) -> None:
    """MethodUnusable with the plugin's reason where it does not run."""
    if reason := ask.plugin.refuse(family, variant):
        raise MethodUnusable(
            f"{ask.table.method} does not run on {family.name} {variant}: {reason};"
            " `frisket methods` lists what runs where"
        )


def make_request(
    reader: PortraitReader, ask: MethodAsk, masks: Mapping[ClipSize, Weights]
) -> tuple[list[ChosenFace], MethodRequest]:
    """What the plugin is asked to read, and the faces that were taken for it."""
    table = ask.table
    faces, pose = read_references(reader, ask)
    request = MethodRequest(
        source=table.source,
        references=tuple(face.picture for face in faces),
        encoder=table.encoder,
        pose=None if pose is None else pose.picture,
        scale=table.scale,
        masks=masks,
        strict=table.strict,
        options=read_options(table, ask.plugin.options),
    )
    return faces, request


def check_files(ask: MethodAsk) -> None:
    """Refuse files that are not there, and options of files that the method does not read.

    FileNotFoundError for weights names where they are published; ConfigError for the rest.
    """
    table, plugin = ask.table, ask.plugin
    if not table.source.exists():
        raise FileNotFoundError(
            f"{ask.label}: there is no {table.source} (--method-source); it must be"
            f" {plugin.files}, published at {plugin.published}"
        )
    if plugin.encoder and table.encoder is not None and not table.encoder.exists():
        raise FileNotFoundError(
            f"{ask.label}: there is no {table.encoder} (--encoder); it must be {plugin.encoder}"
        )
    if not plugin.encoder and table.encoder is not None:
        raise ConfigError(
            f"{ask.label} has no image encoder: leave {table.encoder} (--encoder) out"
        )
    for option, path in _list_pictures(table):
        if not path.is_file():
            raise ConfigError(f"{ask.label}: there is no picture {path} ({option})")


def _list_pictures(table: IdentityTable) -> list[tuple[str, Path]]:
    optional_pictures = [("--like", table.like), ("--pose", table.pose)]
    return [
        *(("--face", path) for path in table.faces),
        *((option, path) for option, path in optional_pictures if path is not None),
    ]


def looks_for_faces(ask: MethodAsk) -> bool:
    """Whether faces are looked for in its pictures."""
    return ask.plugin.reads != "picture" or bool(ask.table.embedder)


def name_networks(ask: MethodAsk) -> MethodAsk:
    """The same with the networks that are taken where its table names none.

    The detector is the one that goes with the embedder, its files those beside the embedder's.
    Nothing is loaded. ConfigError where no embedder is named and none is free, FaceModelUnusable
    where no detector goes with it.
    """
    if not looks_for_faces(ask):
        return ask
    table = ask.table
    embedder = table.embedder or find_free(EMBEDDERS, "embedder")
    places = [str(path or "") for path in (table.embedder_source, table.detector_source)]
    models = complete_models(FaceModels(embedder, places[0], table.detector, places[1]))
    update = {
        "embedder": embedder,
        "detector": models.detector,
        "detector_source": Path(models.detector_source) if models.detector_source else None,
    }
    return replace(ask, table=table.model_copy(update=update))


def read_references(
    reader: PortraitReader, ask: MethodAsk
) -> tuple[list[ChosenFace], ChosenFace | None]:
    """The pictures of a table as its method reads them, and the one whose pose is taken.

    Of a method that reads pictures alone faces are looked for where an embedder is named: files of
    one method differ in that (IP-Adapter's FaceID).
    """
    table = ask.table
    if not looks_for_faces(ask):
        for option, value in (
            *(("--like", table.like), ("--pose", table.pose), ("--detector", table.detector)),
            ("--embedder-source", table.embedder_source),
            ("--detector-source", table.detector_source),
        ):
            if value:
                raise ConfigError(
                    f"{ask.label} looks for no face, so {option} {value} says nothing: leave it"
                    " out, or name an --embedder for files that read faces"
                )
        return reader.read_pictures(table), None
    if table.pose is not None and ask.plugin.reads == "face":
        raise ConfigError(
            f"{ask.label} reads no key points, so --pose {table.pose} says nothing: leave it out"
        )
    faces = reader.read_faces(table)
    pose = None if table.pose is None else reader.read_pose(table, table.pose)
    return faces, pose


def _describe_face(face: ChosenFace) -> dict[str, Any]:
    [described] = digest_files(face.picture.path)
    if face.box is None:
        return dict(described)
    edges = [round(edge, 1) for edge in face.box]
    return {**described, "face": edges, "faces_in_picture": face.faces}

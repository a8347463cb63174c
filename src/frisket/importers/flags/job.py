"""The files of one run of kohya's trainers: training options on one flag, data sets on another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frisket.importers.base import BadImport, Imported
from frisket.importers.files import read_config
from frisket.importers.flags.options import Flags
from frisket.importers.flags.subsets import Subsets
from frisket.importers.folders import find_file
from frisket.importers.options import OptionRules, Sheet
from frisket.importers.source_base import ConfigSource, SourceRole

# Options that a training file of either has, and hardly a file of anyone else: which of the two it
# is of, the data sets or another option tell.
SHARED = ("network_module", "network_dim", "dataset_config", "optimizer_type", "max_train_epochs",
          "max_train_steps", "save_every_n_epochs", "lr_scheduler", "output_name")  # fmt: skip


def find_role(tree: Any) -> SourceRole:
    """Whether a tree holds data sets or training options."""
    return "data" if isinstance(tree, dict) and "datasets" in tree else "training"


def list_options(tree: Mapping[str, Any]) -> set[str]:
    """The names at the top of a file and in its tables, whose own names mean nothing."""
    return set(tree).union(*(table for table in tree.values() if isinstance(table, dict)))


def are_training_options(names: set[str]) -> bool:
    """Whether options are those of a training file of kohya's trainers."""
    return "network_module" in names or len(names & set(SHARED)) > 1


@dataclass(slots=True)
class KohyaJob:
    """What a run asks for: its training options, None where no file has any, and its data sets."""

    sources: Sequence[ConfigSource]
    flags: Flags | None
    data: list[Sheet]
    sheets: list[Sheet] = field(default_factory=list)  # all of them, in the order of their notes

    @classmethod
    def of(cls, sources: Sequence[ConfigSource], rules: OptionRules) -> "KohyaJob":
        """Open the files; BadImport where one holds no table."""
        first = next((source for source in sources if source.role != "data"), sources[0])
        sheets = []
        for source in sources:
            is_first = source.written.path == first.written.path
            name = "" if is_first else f"{source.written.path.name}: "
            sheets.append((source, Sheet(source.written, rules, name=name)))
        training = [sheet for source, sheet in sheets if source.role != "data"]
        data = [sheet for source, sheet in sheets if source.role == "data"]
        flags = Flags(*training) if training else None
        return cls(
            [first, *(s for s in sources if s is not first)], flags, data, [*training, *data]
        )

    @property
    def script(self) -> str:
        """The training script, where one is known."""
        return next((source.script for source in self.sources if source.script), "")

    def data_sheets(self, other: Sequence[str]) -> list[Sheet]:
        """The data sets' files: those given, else the one that `dataset_config` names.

        `other` are options that name data themselves; BadImport where there are no data at all.
        """
        assert self.flags is not None
        option = "dataset_config"
        table = self.flags.at(option)
        if self.data:
            if option in self.flags:
                names = ", ".join(sheet.written.path.name for sheet in self.data)
                table.say(option, "mapped", f"data are read from {names}, which is given besides")
            return self.data
        if option in self.flags:
            try:
                file = find_file(table, option)
            except BadImport as error:
                raise BadImport(f"{error}, or give both files: {self._suggest_both()}") from error
            sheet = Sheet(read_config(file), table.sheet.rules, name=f"{file.name}: ")
            self.data, self.sheets = [sheet], [*self.sheets, sheet]
            return self.data
        if not any(name in self.flags for name in other):
            raise BadImport(
                f"{self.sources[0].written.path}: holds training options and names no data;"
                f" give the file of the data sets, too: {self._suggest_both()}"
            )
        return []

    def _suggest_both(self) -> str:
        return f"frisket import {self.sources[0].written.path.name} dataset.toml"

    def assemble(
        self,
        trainer: str,
        subsets: Subsets,
        sections: Mapping[str, Mapping[str, Any]],
        model: str = "",
    ) -> Imported:
        """All of it, with the notes of the forms first."""
        notes = [note for source in self.sources for note in source.notes]
        notes += [note for sheet in self.sheets for note in sheet.notes]
        path = self.sources[0].written.path
        return Imported(
            path, trainer, subsets.data(), sections, tuple(notes), subsets.manifests, model
        )

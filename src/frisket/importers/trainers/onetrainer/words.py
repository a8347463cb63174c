"""Words of OneTrainer's options, and what its own code makes of a word that it does not know."""

from collections.abc import Sequence

from frisket.importers.options import OptionTable

PACES = ("EPOCH", "STEP", "SECOND", "MINUTE", "HOUR", "NEVER", "ALWAYS")
TIMES = ("SECOND", "MINUTE", "HOUR")


def word_of(table: OptionTable, name: str, words: Sequence[str], default: str) -> str:
    """One of `words`; for any other its default, as OneTrainer does (`BaseConfig.from_dict`)."""
    text = table.text(name, default)
    for word in words:
        if text.upper() == word.upper():
            return word
    message = f"OneTrainer knows no such word and takes its default, {default}; so it is here"
    table.say(name, "no equivalent", message)
    return default


def settle(table: OptionTable, name: str, words: Sequence[str], default: str) -> None:
    """Put its default in the place of a word that OneTrainer does not know, for who reads it."""
    word = word_of(table, name, words, default)
    if name in table:
        table.values[name] = word


def find_multiplier(kind: str, batch: int, accumulate: int) -> int:
    """What its loss_scaler and learning_rate_scaler multiply by, on one GPU (`get_scale`)."""
    kind = kind.removeprefix("GLOBAL_")
    by = {"BATCH": batch, "GRADIENT_ACCUMULATION": accumulate, "BOTH": batch * accumulate}
    return by.get(kind, 1)


SCALERS = ("NONE", "BATCH", "GLOBAL_BATCH", "GRADIENT_ACCUMULATION", "BOTH", "GLOBAL_BOTH")
DENSITIES = (
    *("UNIFORM", "SIGMOID", "LOGIT_NORMAL", "HEAVY_TAIL", "COS_MAP", "INVERTED_PARABOLA"),
    "BETA",
)
WEIGHTINGS = ("CONSTANT", "P2", "MIN_SNR_GAMMA", "DEBIASED_ESTIMATION", "SIGMA")

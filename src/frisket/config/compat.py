"""`losses.compat` worked out: what another trainer's formula makes of the other settings."""

from collections.abc import Iterator

from frisket.config.provenance import Key, join_key
from frisket.config.tree import Config
from frisket.data.records import Prepared
from frisket.losses.base import Normalise
from frisket.losses.compat import COMPATS, Compat, Fact

BETA = 0.5  # of normalise = "area", where losses.beta is empty


def compat_of(config: Config) -> Compat | None:
    """The trainer whose formula is asked for, None for Frisket's own."""
    return COMPATS[config.losses.compat] if config.losses.compat else None


def normalise_of(config: Config) -> Normalise:
    """`losses.normalise`; empty is the trainer's default, or `sample`."""
    compat = compat_of(config)
    return config.losses.normalise or (compat.normalise[0] if compat else "sample")


def betas_of(config: Config) -> tuple[float, float]:
    """`losses.beta` as the exponent of `area`, and as that of the raw coverage."""
    beta, compat = config.losses.beta, compat_of(config)
    if compat is not None and compat.area:
        return BETA, beta or 0.0
    return (BETA if beta is None else beta), 0.0


def prior_options(config: Config) -> dict[str, object]:
    """Options of the term `prior` that follow from the trainer."""
    compat = compat_of(config)
    if compat is None or compat.prior is None:
        return {}
    error = {name: value for name, value in denoise_of(config).items() if name != "strength"}
    threshold = config.losses.terms.get("prior", {}).get("threshold", 1.0)
    return {
        **error,
        "normalise": compat.prior.normalise or normalise_of(config),
        "alone": compat.prior.alone and threshold < 1,
    }


def bare_of(config: Config) -> dict[str, frozenset[str]]:
    """What the trainer does not multiply its prior by (see `training.plan.Plan`)."""
    compat = compat_of(config)
    if compat is None or compat.prior is None:
        return {}
    # ai-toolkit lays min-SNR on the sum of both terms, the weights of flow models on the first.
    snr = frozenset({"t"}) if config.timesteps.min_snr else frozenset()
    return {"prior": compat.prior.unscaled_by - snr}


def denoise_of(config: Config) -> dict[str, object]:
    """The table of the denoising term, empty where it is off."""
    return config.losses.terms.get("denoise", {})


def compat_problems(config: Config) -> Iterator[tuple[Key, str]]:
    """Key and sentence of every setting that the trainer's formula has no place for."""
    compat = compat_of(config)
    if compat is None:
        return
    for key, value, why in (*_of_loss(config, compat), *_of_weights(config, compat)):
        yield (
            key,
            f'{join_key(key)} = {value!r} and losses.compat = "{config.losses.compat}" contradict:'
            f" {compat.title} {why}; leave one of the two out",
        )


Refused = tuple[Key, object, str]  # key, value, what the trainer does


def _of_loss(config: Config, compat: Compat) -> Iterator[Refused]:
    losses = config.losses
    if losses.normalise and losses.normalise not in compat.normalise:
        allowed = " or ".join(compat.normalise)
        yield ("losses", "normalise"), losses.normalise, f"has {allowed}"
    if losses.beta is not None and not compat.area:
        yield ("losses", "beta"), losses.beta, "does not scale by area"
    kind = denoise_of(config).get("kind", "mse")
    if kind not in compat.kinds:
        yield ("losses", "denoise", "kind"), kind, f"has {' or '.join(compat.kinds)} of this form"
    for name, table in losses.terms.items():
        if name == "prior" and compat.prior is not None:
            for option in sorted(set(table) - {"strength"} - compat.prior.options):
                yield ("losses", "prior", option), table[option], f"sets no {option} of its prior"
        elif name != "denoise":
            yield ("losses", name), table["strength"], "has no such term"


def _of_weights(config: Config, compat: Compat) -> Iterator[Refused]:
    curve = config.curve
    if curve.gamma != 1 and not compat.gamma:
        yield ("curve", "gamma"), curve.gamma, "has no gamma"
    if curve.floor and compat.floor is None:
        yield ("curve", "floor"), curve.floor, "has no floor"
    if curve.threshold is not None and curve.threshold != compat.threshold:
        cut = "cuts no mask" if compat.threshold is None else f"cuts at {compat.threshold:g}"
        yield ("curve", "threshold"), curve.threshold, cut
    yield from _of_draws(config, compat)
    for name, weight in config.region_weights.items():
        if weight > 1:
            yield ("regions", name), weight, "knows no weight above 1"
    yield from _of_masks(config, compat)


def _of_draws(config: Config, compat: Compat) -> Iterator[Refused]:
    curve = config.curve
    if curve.feather_t:
        yield ("curve", "feather_t"), curve.feather_t, "does not feather by noise level"
    if curve.unmasked_probability and compat.draw is None:
        reason = "never draws to train unmasked"
        yield ("curve", "unmasked_probability"), curve.unmasked_probability, reason


def _of_masks(config: Config, compat: Compat) -> Iterator[Refused]:
    for number, data in enumerate(config.data):
        if data.masks.reading is not None:
            reason = f"shrinks masks by {compat.reading}"
            yield ("data", number, "masks", "reading"), data.masks.reading, reason
        if not compat.gamma:
            for name, idle in (("pixel_gamma", 1), ("pixel_floor", 0)):
                value = getattr(data.masks, name)
                if value != idle:
                    reason = "changes no value of a mask's pixels"
                    yield ("data", number, "masks", name), value, reason


def departures(config: Config, prepared: Prepared) -> list[str]:
    """What the trainer would do otherwise on these data, a line each; empty without compat."""
    compat = compat_of(config)
    if compat is None:
        return []
    facts = _facts(config, prepared)
    return [
        f'losses.compat = "{config.losses.compat}" differs from {compat.title}: {departure.message}'
        for departure in compat.departures
        if departure.when <= facts
    ]


def _facts(config: Config, prepared: Prepared) -> set[Fact]:
    report, curve = prepared.report, config.curve
    true: dict[Fact, bool] = {
        "empty": bool(report.all_zero) and not curve.floor,
        "folder": any(data.masks.source not in ("alpha", "none") for data in config.data),
        "full": bool(report.all_full),
        "many": config.run.batch > 1,
        "mixed": bool(report.masked and report.unmasked),
        "normalised": normalise_of(config) != "none",
        "pooled": normalise_of(config) == "batch" and "prior" not in config.losses.terms,
        "prior": "prior" in config.losses.terms,
        "segments": curve.threshold is not None,
        "soft": curve.threshold is None,
        "unmasked": curve.unmasked_probability > 0,
        "video": any(item.shape[0] > 1 for item in prepared.items),
    }
    return {fact for fact, holds in true.items() if holds}

"""The words of the house: which names are private English, and what the field says instead."""

import re
from pathlib import Path


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A part of a name that says nothing of what it holds, and what to call the thing.
PRIVATE = {
    "told": "report, kwargs or options: what was told",
    "said": "message",
    "asked": "options or request",
    "found": "result, matches, or the noun of what was found",
    "seen": "step, detections, counts: what was seen",
    "each": "the item's noun (path, row, layer)",
    "one": "the item's noun (path, row, layer)",
    "laid": "weights, or the noun of what was laid out",
    "made": "output, result, or the noun of what was made",
    "given": "options, value, or the noun of what was given",
}
# Parts beside a private word that make it a term of the field: one_hot, WeightsNotFound.
TERMS = {
    "found": (("not", "found"),),
    "one": (("one", "hot"), ("one", "cycle"), ("plus", "one"), ("minus", "one"), ("zero", "one")),
}
# Whole names of which names.md says another one. Without case and leading underscores.
CLASSES = {
    "look": "SegmentationPipeline",
    "outcome": "Result",
    "place": "MaskStore",
    "yardstick": "EvalSet",
    "reel": "FrameBuffer",
    "shot": "SampleSpec",
    "wanted": "Prompts",
    "maker": "MaskGenerator",
    "drafter": "PromptFreeSegmenter",
    "follower": "VideoGrounder",
    "claiming": "ExclusiveTerm",
}
FUNCTIONS = {
    "observe": "image_conditioning",
    "bare": "unwrap_model",
    "looking": "eval_mode",
    "claim": "exclusive_mask",
    "alone": "exclusive_mask",
    "suits": "matches",
    "bring": "import_masks",
    "put_on": "attach",
}
MODULES = {
    "able": "variant_checks",
    "around": "discovery",
    "backdrops": "backgrounds",
    "bank": "background_bank",
    "cards": "model_cards",
    "chain": "pipeline",
    "compose": "stages",
    "covering": "mask_pipeline",
    "draft_cut": "grabcut",
    "draws": "rng",
    "entries": "cache_status",
    "explain": "error_messages",
    "fit": "memory plan",
    "items": "records",
    "legends": "label_map",
    "lexicon": "key_map",
    "origin": "provenance",
    "people": "person_crops",
    "rehearsal": "memory estimate",
    "shots": "sample_specs",
    "signatures": "file_signatures",
    "spread": "bootstrap",
    "steady": "temporal_smoothing",
    "storage": "precision",
    "survey": "dataset_scan",
    "tally": "statistics",
    "toy": "quickstart_data",
    "trained": "run_config",
    "turns": "locked",
    "twins": "near_duplicates",
}
# Participles and determiners that hold a place in a sentence and, alone, name no thing.
BARE = _split(
    """
    another apart asked aside begun below beside bent both bound brought built certain chosen
    counted doubted done drawn either every fed given gone grown held here instead kept known
    laid lost made measured met mine moved named needed odd opened others ours own placed plain
    said same seen several shown some strange such sure taken taught theirs there told tried
    unsure usual wanted what where which whole why within written
    """
)
# First words of functions that are participles though they do not end in -ed.
PARTICIPLES = _split(
    """
    begun bent bought bound brought built chosen done drawn fed felt forgotten found given gone
    grown heard held hidden kept known laid learnt led left lent lit lost made meant met proven
    said seen sent shown shrunk slid sold sought spent spun stuck swept sworn taken taught
    thought told torn understood woven worn written
    """
)
# Participles that the field puts before its nouns: weighted_mean, signed_distance.
ADJECTIVES = frozenset({"compensated", "masked", "nested", "signed", "squared", "weighted"})
# What a function may begin with: the verbs, and beside them a question or a conversion.
VERBS = _split((Path(__file__).parent / "verbs.txt").read_text(encoding="utf-8"))
QUESTIONS = _split(
    """
    accepts allows applies are belongs can contains covers differs does exists fits follows had has
    holds is keeps knows looks matches may must needs should starts suits supports takes was were
    will
    """
)
CONVERSIONS = frozenset({"as", "from", "to", "with"})
# Names that the contracts of the shelves give (families, objectives, torch's modules).
CONTRACTS = _split(
    """
    backward cells embed eval forward losses names objective pipeline tiny unsqueeze weight
    """
)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")


def parts_of(name: str) -> list[str]:
    """The words of a name, lower case: `MasksNotFound` and `masks_not_found` are three."""
    return [part.lower() for part in PART.findall(name)]


def private_word(name: str) -> str | None:
    """The private word in a name, or None. A term of the field (`TERMS`) is not one."""
    parts = parts_of(name)
    for index, part in enumerate(parts):
        if part not in PRIVATE:
            continue
        around = (tuple(parts[index - 1 : index + 1]), tuple(parts[index : index + 2]))
        if not any(pair in around for pair in TERMS.get(part, ())):
            return part
    return None


def is_participle(name: str) -> bool:
    """Whether a function begins with a past participle: `_named`; not `weighted_mean`."""
    first, *others = parts_of(name) or [""]
    if first in VERBS or (first in ADJECTIVES and others):
        return False
    return first in PARTICIPLES or (len(first) > 4 and first.endswith("ed"))


def is_action(name: str) -> bool:
    """Whether a function begins as one should: a verb, a question, a conversion; or by contract."""
    first = next(iter(parts_of(name)), "")
    return first in VERBS | QUESTIONS | CONVERSIONS or name in CONTRACTS

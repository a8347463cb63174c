"""What captions say wrongly: no trigger word, the place the subject is to be freed from, copies."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from frisket.inspection.findings import Finding

FEW = 20  # clips with one caption that are told one by one
SHORT = 3  # words besides the trigger that several clips may well share

# Where a picture was taken. Nouns that are as often worn, held or done are left out (bar, ring,
# court, stand): a missed place costs less than a warning nobody believes.
WORDS = """
airport alley aquarium arena attic auditorium avenue backdrop background backyard balcony
ballroom barn basement bathroom bay beach bedroom bookstore boulevard bridge building bus
bushes cafe cafeteria campus canyon car castle cathedral cave church city classroom cliff
clinic club coast concert corridor countryside courtyard creek curtain deck desert diner dock
dunes elevator factory farm fence field fireplace flowers forest fountain gallery garage garden
gate grass gym hall hallway harbor harbour highway hill hills hospital hotel house island
jungle kitchen lab laboratory lake landscape lawn library living-room lobby market meadow metro
mountain mountains museum nightclub ocean office orchard palace parade park parking path patio
pavement pier plaza pond pool porch pub railway restaurant river road rocks roof rooftop room
ruins sand school sea seaside shelves shop shore sidewalk skyline snow sofa square stadium
stage staircase stairs station store street studio subway sunflowers supermarket swamp temple
terrace theater theatre town track trail train trees tunnel underpass underwater university
valley village wall warehouse waterfall wilderness window windows woods workshop yard zoo
"""
PLACES = frozenset(WORDS.split())
BEFORE = (
    "in front of|next to|against|inside|outside|behind|beneath|beside|across|through|under|near"
    "|with|among|between|within|along|around|above|at|by|in|on"
)
ALONE = re.compile(r"\b(outdoors?|indoors|underwater)\b", re.IGNORECASE)
# A place is where a preposition leads within a phrase: "on the wet sand", not "sand-coloured hair".
PHRASE = re.compile(rf"\b(?P<how>{BEFORE})\s+(?P<where>[^,.;:!?()\n]+)", re.IGNORECASE)
AFTER_WITH = frozenset({"background", "backdrop", "sky", "skyline", "mountains", "trees"})
REACH = 5  # words from the preposition to its noun
ENDS = frozenset(BEFORE.split("|")) | {"and", "while", "who", "wearing", "holding"}


def find_place(caption: str) -> str | None:
    """The phrase of a caption that says where the subject is, or None: "on a sandy beach"."""
    for match in PHRASE.finditer(caption):
        how, words = match["how"], match["where"].split()
        for count, word in enumerate(words[:REACH]):
            token = word.strip("'\"").lower()
            if count and token in ENDS:
                break
            if token in (AFTER_WITH if how.lower() == "with" else PLACES) and _is_noun(
                words, count
            ):
                return " ".join([how, *words[: count + 1]])
    rest = _find_nested(caption)
    if rest:
        return rest
    alone = ALONE.search(caption)
    return alone[0] if alone else None


def _is_noun(words: list[str], place: int) -> bool:
    """Whether the word ends its phrase, so that it is no adjective: "in a city", "a city coat"."""
    after = words[place + 1].strip("'\"").lower() if place + 1 < len(words) else ""
    return not after or after in ENDS or after in PLACES or after in ("at", "during", "of")


def _find_nested(caption: str) -> str | None:
    """A place behind another preposition in the same phrase: "standing in rain by the river"."""
    for match in PHRASE.finditer(caption):
        inner = PHRASE.search(match["where"])
        if inner:
            return find_place(match["where"][inner.start() :])
    return None


def look_at_words(
    clip: str, caption: str, *, trigger: str, masked: bool, swapped: bool
) -> Iterator[Finding]:
    """Faults of one caption as it is written, without the trigger that is put in front of it.

    `masked`: the clip has a mask that is to keep the background out; `swapped`: a share of its
    draws sees another background, which the caption's template then names.
    """
    if not caption.strip():
        yield Finding(
            "uncaptioned",
            "warning",
            clip,
            "There is no caption" + (", only the trigger word." if trigger else "."),
            f"Write what is to be seen into {clip.rpartition('/')[2]}.txt.",
        )
        return
    if trigger and not holds(caption, trigger):
        yield Finding(
            "trigger",
            "note",
            clip,
            f"The caption does not hold the trigger {trigger!r}; it is put in front.",
            "Nothing has to be done, unless the word belongs elsewhere in the sentence.",
        )
    place = find_place(caption) if masked else None
    if place:
        yield Finding(
            "background named",
            "warning" if swapped else "note",
            clip,
            f"The caption names the background ({place!r}), which the mask keeps out of the loss"
            + (": captions of swapped draws name two places." if swapped else "."),
            "Leave the place out of the caption; [swap] names the new background by itself.",
        )


def holds(caption: str, trigger: str) -> bool:
    """Whether a caption holds the trigger as words of its own."""
    return f" {_strip_words(trigger)} " in f" {_strip_words(caption)} "


def _strip_words(text: str) -> str:
    return " ".join(word.strip(".,;:!?\"'()") for word in text.lower().split())


def look_at_same_words(captions: Mapping[str, str], trigger: str) -> Iterator[Finding]:
    """Captions that several clips share word for word: most often one was saved over another.

    Captions of up to three words besides the trigger are left alone: sets of one subject are often
    captioned so.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for clip, caption in captions.items():
        words = (
            _strip_words(caption).replace(_strip_words(trigger), "")
            if trigger
            else _strip_words(caption)
        )
        if len(words.split()) > SHORT:
            groups[words].append(clip)
    for first, *others in groups.values():
        if len(others) >= FEW:
            yield Finding(
                "same caption",
                "warning",
                "",
                f"{first} and {len(others)} more clips have one and the same caption.",
                "Say in each caption what differs, or the words come to mean what all have alike.",
            )
            continue
        for clip in others:
            yield Finding(
                "same caption",
                "warning",
                clip,
                f"Its caption is word for word that of {first}.",
                "Look whether one was saved over the other; say what differs.",
            )

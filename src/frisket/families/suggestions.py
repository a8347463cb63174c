"""What a family suggests where the user has said nothing yet: to `init`, and to `evaluate`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Suggestions:
    """In words the model understands; as they stand here, for models of real pictures."""

    # What a swap's bank of backgrounds paints, and how it asks for each: holds {background}.
    backgrounds: tuple[str, ...] = (
        *("a plain white studio backdrop", "a plain grey wall", "a wooden table", "a city street"),
        *("a green meadow", "a forest path", "a sandy beach", "a living room", "an office"),
        *("a mountain lake", "a brick wall", "a night street with lights", "a kitchen"),
        *("falling snow", "a crowded market", "a desert road"),
    )
    bank_prompt: str = "{background}"
    template: str = "{caption}, {background}"  # a caption once the subject stands elsewhere
    scene: str = "on a red sofa"  # the {background} of a preview
    # What is sampled to see how far a run drifts: has nothing to do with any subject.
    stills: tuple[str, ...] = (
        "a wooden table with a bowl of fruit, soft window light",
        "a mountain lake at sunrise",
        "a portrait of an old man with a grey beard",
        "a black and white photo of a busy street in the rain",
        "a red bicycle leaning against a brick wall",
        "an oil painting of a sailing ship in a storm",
        "a cat asleep on a sofa",
        "a glass of water on a white background, product photo",
    )
    moving: tuple[str, ...] = (
        "waves rolling onto a beach at sunset",
        "a man walks down a busy street in the rain, seen from behind",
        "a cat jumps from a chair onto the floor",
        "a time-lapse of clouds over a mountain",
        "a woman stirs a pot in a kitchen and looks up",
        "a train passes through a green valley, aerial view",
    )
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"  # of the base and the steps
    # Attention layers that show best who stands where, while a picture is still mostly noise.
    fuse_layers: tuple[str, ...] = ("middle",)
    largest: int | None = None  # pixels a side of the pictures it was made for; None: any

    def pick_unrelated(self, *, video: bool) -> tuple[str, ...]:
        """`moving` for a model that makes clips, else `stills`."""
        return self.moving if video else self.stills

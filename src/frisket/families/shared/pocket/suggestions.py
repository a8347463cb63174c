"""What models of the pocket world suggest: in the words of its world, and for CPUs."""

from frisket.families.suggestions import Suggestions

SCENES = (
    "a red circle on a blue wall",
    "a green square on white and black checks",
    "a yellow triangle on red and blue stripes",
    "a white ring on green and black dots",
    "a black cross on a yellow wall",
    "a blue circle on yellow and red checks",
    "nothing on green and white stripes",
    "a red square on black and white dots",
)
SUGGESTIONS = Suggestions(
    backgrounds=(
        *("a white wall", "a blue wall", "a green wall", "red and white stripes"),
        *("blue and yellow stripes", "black and white checks", "green and red checks"),
        *("yellow and blue dots", "white and green dots", "red and black dots"),
    ),
    bank_prompt="nothing on {background}",
    template="{caption} on {background}",
    scene="green and white checks",
    stills=SCENES,
    moving=SCENES,
    precision="float32",
    fuse_layers=("up_blocks.1.*",),
    largest=64,
)

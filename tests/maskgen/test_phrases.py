"""Captions to noun phrases: two tables judged by reading, written before the chunker was."""

import pytest

from frisket.maskgen.phrases import noun_phrases

# (caption, trigger, class word, phrases): `*` marks the subject, `~` a setting.
DEVELOPMENT = [
    (
        "a photo of sks woman in a red jacket standing on a beach, holding a small dog",
        "sks",
        "woman",
        "woman* | red jacket | beach~ | small dog",
    ),
    (
        "1girl, solo, long hair, blue eyes, red dress, masterpiece, best quality",
        "",
        "",
        "girl | long hair | blue eyes | red dress",
    ),
    (
        "portrait of a young man with short brown hair and a beard",
        "",
        "",
        "young man | short brown hair | beard",
    ),
    ("close-up of ohwx man's face, soft lighting, 85mm, bokeh", "ohwx", "man", "man* | face"),
    (
        "a black and white cat sleeping on a grey sofa",
        "",
        "",
        "black and white cat | grey sofa~",
    ),
    (
        "sks, wearing a blue scarf, city street at night",
        "sks",
        "",
        "person* | blue scarf | city street~",
    ),
    (
        "The image shows a woman with long brown hair. She is wearing a blue dress and sitting on"
        " a wooden bench in a park.",
        "",
        "",
        "woman | long brown hair | blue dress | wooden bench~ | park~",
    ),
    (
        "The background features green trees and a clear sky. The lighting is soft and natural.",
        "",
        "",
        "green trees~ | clear sky~",
    ),
    ("(long hair:1.2), ((smile)), [hat], 1boy, looking at viewer", "", "", "long hair | hat | boy"),
    (
        "two women in white dresses walking through a field of flowers",
        "",
        "",
        "women | white dresses | field of flowers~",
    ),
    (
        "a woman wearing a red hat and blue scarf, with mountains in the background",
        "",
        "",
        "woman | red hat | blue scarf | mountains~",
    ),
    (
        "product photo of a glass perfume bottle on a marble table, studio lighting",
        "",
        "",
        "glass perfume bottle | marble table~",
    ),
    (
        "golden retriever puppy playing with a ball on the grass",
        "",
        "",
        "golden retriever puppy | ball | grass~",
    ),
    (
        "一个穿红色外套的女人，站在海滩上，长发",  # noqa: RUF001 - Chinese has its own comma
        "",
        "",
        "一个穿红色外套的女人 | 站在海滩上 | 长发",
    ),
    (
        "score_9, score_8_up, source_anime, rating_safe, 2girls, green_eyes, school_uniform,"
        " outdoors",
        "",
        "",
        "girls | green eyes | school uniform",
    ),
    (
        "a man riding a motorcycle down a desert road",
        "",
        "",
        "man | motorcycle | desert road~",
    ),
    ("sks dog sitting in front of a brick wall", "sks", "dog", "dog* | brick wall~"),
    ("a pair of leather boots next to a backpack", "", "", "leather boots | backpack"),
    (
        "she has curly red hair, freckles and green eyes",
        "",
        "",
        "curly red hair | freckles | green eyes",
    ),
    (
        "an elderly man in a black suit and tie holding a cup of coffee",
        "",
        "",
        "elderly man | black suit | tie | cup of coffee",
    ),
    (
        "ganyu \\(genshin impact\\), 1girl, horns, blue hair, gloves, white background",
        "",
        "",
        "ganyu | girl | horns | blue hair | gloves | white background~",
    ),
    (
        "a woman dancing in the rain, her wet hair flying, cinematic",
        "",
        "",
        "woman | rain~ | wet hair",
    ),
    (
        "beautiful smiling woman with a necklace, highly detailed skin, 8k",
        "",
        "",
        "beautiful smiling woman | necklace",
    ),
    ("sks person", "sks", "", "person*"),
    ("a red and white dress", "", "", "red and white dress"),
    (
        "in the style of van gogh, a wheat field under a starry sky",
        "",
        "",
        "wheat field~ | starry sky~",
    ),
    (
        "A video of a child running along the shore with a kite",
        "",
        "",
        "child | shore~ | kite",
    ),
    (
        "une femme avec une veste rouge, dans la rue",
        "",
        "",
        "une femme avec une veste rouge | dans la rue",
    ),
    (
        "man, glasses, grey t-shirt, sitting, indoors, window",
        "",
        "",
        "man | glasses | grey t-shirt | window~",
    ),
    ("", "", "", ""),
    ("masterpiece, best quality, ultra detailed", "", "", ""),
    ("a group of people standing around a birthday cake", "", "", "people | birthday cake"),
    ("p3rs0n holding a guitar on stage", "p3rs0n", "man", "man* | guitar | stage~"),
    ("the woman's red lipstick and gold earrings", "", "", "red lipstick | gold earrings"),
]

HELD_OUT = [
    (
        "photo of zwx man wearing sunglasses and a leather jacket, leaning against a car",
        "zwx",
        "man",
        "man* | sunglasses | leather jacket | car",
    ),
    (
        "1boy, short hair, black hair, white shirt, tie, upper body, looking at viewer,"
        " simple background",
        "",
        "",
        "boy | short hair | black hair | white shirt | tie | simple background~",
    ),
    (
        "a little girl in a yellow raincoat jumps over a puddle",
        "",
        "",
        "little girl | yellow raincoat | puddle~",
    ),
    (
        "a chef slicing vegetables in a modern kitchen",
        "",
        "",
        "chef | vegetables | modern kitchen~",
    ),
    (
        "a tabby cat with green eyes looks out of the window",
        "",
        "",
        "tabby cat | green eyes | window~",
    ),
    (
        "woman in her thirties with a ponytail, wearing jeans and a white blouse, sitting at a"
        " cafe table with a laptop",
        "",
        "",
        "woman | ponytail | jeans | white blouse | cafe table~ | laptop",
    ),
    (
        "an old wooden boat on a calm lake at sunrise, mist, film grain",
        "",
        "",
        "old wooden boat | calm lake~ | mist~",
    ),
    (
        "The photograph depicts two men shaking hands in an office. Both wear dark suits.",
        "",
        "",
        "men | hands | office~ | dark suits",
    ),
    (
        "ohwx woman, selfie, bathroom mirror, holding phone",
        "ohwx",
        "woman",
        "woman* | bathroom mirror~ | phone",
    ),
    (
        "close up portrait of a bearded man with a scar on his left cheek",
        "",
        "",
        "bearded man | scar | left cheek",
    ),
    (
        "a white ceramic mug with a blue handle on a white background",
        "",
        "",
        "white ceramic mug | blue handle | white background~",
    ),
    ("sks backpack in the snow", "sks", "backpack", "backpack* | snow~"),
    (
        "a cyclist wearing a helmet rides past a row of parked cars",
        "",
        "",
        "cyclist | helmet | parked cars",
    ),
    (
        "hatsune miku, twintails, aqua hair, detached sleeves, thighhighs, holding microphone,"
        " stage",
        "",
        "",
        "hatsune miku | twintails | aqua hair | detached sleeves | thighhighs | microphone"
        " | stage~",
    ),
    ("赤い帽子の女の子、公園", "", "", "赤い帽子の女の子 | 公園"),
    (
        "ein mann mit einem hund auf der straße",
        "",
        "",
        "ein mann mit einem hund auf der straße",
    ),
    ("a bride and groom kiss under an arch of roses", "", "", "bride | groom | arch of roses~"),
    ("her long blonde hair is tied in a braid", "", "", "long blonde hair | braid"),
    (
        "(masterpiece:1.3), (1girl:1.1), silver hair, [red eyes|blue eyes], <lora:style:0.8>",
        "",
        "",
        "girl | silver hair | red eyes | blue eyes",
    ),
    ("a man's hands typing on a keyboard", "", "", "hands | keyboard"),
    (
        "A slow motion shot of a horse galloping across an open field, dust in the air",
        "",
        "",
        "horse | open field~ | dust",
    ),
    (
        "person with tattoos on both arms, tank top, gym",
        "",
        "",
        "person | tattoos | arms | tank top | gym~",
    ),
    (
        "dark-haired woman, red lips, pearl necklace, vintage dress, sepia",
        "",
        "",
        "dark-haired woman | red lips | pearl necklace | vintage dress",
    ),
    (
        "a vintage red car parked in front of an old house",
        "",
        "",
        "vintage red car | old house~",
    ),
    ("sks toy robot standing on a pile of books", "sks", "toy", "toy robot* | books~"),
    (
        "no humans, scenery, mountain, river, cloud, sunset",
        "",
        "",
        "mountain~ | river~ | cloud~",
    ),
    (
        "there is a woman who is wearing a green sweater and she is smiling",
        "",
        "",
        "woman | green sweater",
    ),
    (
        "blurry background, depth of field, 1girl, cat ears, choker, bare shoulders, cleavage",
        "",
        "",
        "blurry background~ | girl | cat ears | choker | bare shoulders | cleavage",
    ),
    (
        "an astronaut in a white space suit floating above the earth",
        "",
        "",
        "astronaut | white space suit | earth~",
    ),
    (
        "abc123, full body, white sneakers, denim shorts, urban street",
        "abc123",
        "",
        "person* | white sneakers | denim shorts | urban street~",
    ),
    (
        "a woman with her hair in a bun, hoop earrings, and a nose ring, laughing",
        "",
        "",
        "woman | hair | bun | hoop earrings | nose ring",
    ),
    (
        "a plate of spaghetti with basil leaves and grated cheese",
        "",
        "",
        "plate of spaghetti | basil leaves | grated cheese",
    ),
    (
        "tall building at the end of a narrow street",
        "",
        "",
        "tall building~ | narrow street~",
    ),
    (
        "Woman, 30 years old, brown eyes, freckled face, grey turtleneck sweater, neutral"
        " expression",
        "",
        "",
        "woman | brown eyes | freckled face | grey turtleneck sweater",
    ),
]


def written(caption: str, trigger: str, class_word: str) -> str:
    """The phrases in the form of the tables."""
    found = noun_phrases(caption, trigger, class_word)
    return " | ".join(p.text + "*" * p.is_subject + "~" * p.setting for p in found)


@pytest.mark.parametrize(("caption", "trigger", "class_word", "phrases"), DEVELOPMENT)
def test_captions_of_the_development_table(
    caption: str, trigger: str, class_word: str, phrases: str
) -> None:
    assert written(caption, trigger, class_word) == phrases

"""Background swap of one clip: which composites it has, as cache keys; in pixels or in latents."""

from dataclasses import replace
from functools import partial

from frisket.data.backgrounds import choose, list_files, swap_frames, swap_record
from frisket.data.cached.store import key_of
from frisket.data.captions import name_background
from frisket.data.composites.cutouts import prepare_keep
from frisket.data.encoding import Encoding, Painting
from frisket.data.records import Item, Swapped, SwapPlan, Window


def add_swaps(work: Encoding, plan: SwapPlan, item: Item, window: Window, caption: str) -> Item:
    """The item with its composites; `work` remembers what of them is still to be encoded.

    In pixel space each composite is encoded. In latent space each background is, once for all clips
    of its size, and the loader lays the clip's own latents over it.
    """
    swaps: list[Swapped] = []
    paintings: list[Painting] = []
    count, size = len(window.geometry.picks), window.geometry.target
    keep = ""
    if plan.space == "latent":
        keep = prepare_keep(work, window, grow_pixels=plan.grow, feather_pixels=plan.feather)
    for backdrop in choose(plan, window):
        if plan.space == "latent":
            latents = work.ground(backdrop, count, size)
        else:
            swap = swap_record(plan, window, backdrop, work.kept, work.regions)
            latents = key_of({**work.latents_record(window), "swap": swap})
            paint = partial(
                swap_frames,
                plan=plan,
                window=window,
                backdrop=backdrop,
                kept=work.kept,
                regions=work.regions,
            )
            paintings.append(Painting(latents, paint, list_files(backdrop)))
        worded = name_background(caption, backdrop.words, plan.template)
        work.tally.unnamed_swaps += not backdrop.words
        swaps.append(Swapped(latents, work.text(worded, window.references), keep))
    work.composites(window, paintings)
    return replace(item, swaps=tuple(swaps))

"""Captures what image cells attend to while a denoiser runs, and leaves the denoiser as it was."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from frisket.attention.base import AttentionLayer, PhrasePositions, Projections, mark_phrases

Form = Literal["attention", "output"]
Softmax = Literal["all", "text"]
RowChoice = slice | Sequence[int]
ChooseRows = Callable[[Projections], RowChoice | None]
MIDDLE = 4  # layers that "middle" stands for, at most


@dataclass(slots=True)
class Call:
    """One forward pass: a map b T f h w a layer, and the timestep as the denoiser was told it."""

    timestep: Tensor | None = None
    maps: dict[str, Float[Tensor, "b T f h w"]] = field(default_factory=dict)


@dataclass(slots=True)
class AttentionRecord:
    """What was captured: one `Call` a forward pass, in their order, until `clear`."""

    calls: list[Call] = field(default_factory=list)
    # By layer: maps of some samples of a batch, until those of all are there.
    parts: dict[str, list[tuple[tuple[int, ...], Tensor]]] = field(default_factory=dict)

    @property
    def maps(self) -> dict[str, Float[Tensor, "b T f h w"]]:
        """The maps of the last forward pass, by layer; {} before the first."""
        return self.calls[-1].maps if self.calls else {}

    def clear(self) -> None:
        """Forget all calls, and let go of what they hold for a backward pass."""
        self.calls.clear()
        self.parts.clear()

    def add(self, layer: str, layer_map: Tensor, timestep: Tensor | None) -> None:
        """Add a layer's map; a layer that the last call already has begins another."""
        if not self.calls or layer in self.calls[-1].maps:
            self.calls.append(Call(timestep))
        self.calls[-1].maps[layer] = layer_map

    def add_part(
        self, layer: str, layer_map: Tensor, samples: tuple[int, ...], total: int
    ) -> Tensor | None:
        """Keep a map of some samples; that of the whole batch once its last part came."""
        parts = self.parts.setdefault(layer, [])
        if set(samples) & {sample for earlier_samples, _ in parts for sample in earlier_samples}:
            parts.clear()  # of a call that an exception cut short
        parts.append((samples, layer_map))
        order = [sample for earlier_samples, _ in parts for sample in earlier_samples]
        if len(order) < total:
            return None
        whole_map = torch.cat([part for _, part in self.parts.pop(layer)])
        return whole_map[torch.tensor(order).argsort().to(whole_map.device)]


def choose_layers(
    layers: Sequence[AttentionLayer], names: str | Sequence[str]
) -> tuple[AttentionLayer, ...]:
    """The layers that names stand for, in the order of the forward pass, each once.

    A name is a layer's own, its ending from a dot on (`attn2`), a pattern (`blocks.1?.attn2`),
    `all`, or `middle`: at most four, spread over the middle third, where attention follows the
    picture's layout (in SD 1.5 the layers of 16 x 16 cells around the middle block).
    ValueError for a name that no layer has, and where there are no layers at all.
    """
    if not layers:
        raise ValueError(
            "this denoiser says nothing of its attention layers (Family.list_attention_layers is"
            " empty): no attention can be captured from it"
        )
    chosen_names: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        matching = _match_layers([layer.name for layer in layers], name)
        if not matching:
            names_text = ", ".join(layer.name for layer in layers)
            raise ValueError(f"no attention layer is called {name!r}; there are: {names_text}")
        chosen_names.update(matching)
    return tuple(layer for layer in layers if layer.name in chosen_names)


def _match_layers(layer_names: Sequence[str], name: str) -> list[str]:
    if name == "all":
        return list(layer_names)
    if name == "middle":
        count = max(1, round(len(layer_names) / 3))
        start = (len(layer_names) - count) // 2
        third = layer_names[start : start + count]
        kept_count = min(MIDDLE, count)
        return [third[index * (count - 1) // max(kept_count - 1, 1)] for index in range(kept_count)]
    if name in layer_names:
        return [name]
    return [
        layer
        for layer in layer_names
        if fnmatchcase(layer, name) or (name and layer.endswith(f".{name}"))
    ]


@contextmanager
def capture(
    layers: Sequence[AttentionLayer],
    phrases: PhrasePositions,
    *,
    form: Form = "attention",
    softmax: Softmax = "all",
    rows: RowChoice | ChooseRows | None = None,
) -> Iterator[AttentionRecord]:
    """Record how much each image cell attends to each phrase in every forward pass within.

    `phrases` holds for each sample the positions of each phrase on the conditioning's text axis.
    Form `attention` is the probability a cell gives a phrase: summed over its positions, mean over
    heads, [0, 1]. With `softmax="all"` it is the layer's own, over all it attends to; with "text"
    the share within the prompt's columns alone. Form `output` is the saliency of ConceptAttention
    (Helbling et al. 2025): the dot product of a cell's attention output with the mean
    output of the phrase's tokens, before the out projection; joint layers alone have it.

    Maps are float32, computed in the precision of the layer (a bfloat16 model's are good to about
    one in 200). They carry gradients where grad is on, under gradient checkpointing too: the
    backward pass may come after this block ends. `rows` are the samples that `phrases` is about
    where the denoiser is given others beside them, as by classifier-free guidance (see
    `match_prompts`); a function of it that returns None leaves the call out.

    ValueError for two layers of one name, for a batch that is not that of `phrases`, for positions
    off the text axis, and for a layer that cannot be read (it is compiled, fused or has no text
    rows), which it names.
    """
    _refuse_twins(layers)
    if form == "output" and any(layer.kind == "cross" for layer in layers):
        names = ", ".join(layer.name for layer in layers if layer.kind == "cross")
        raise ValueError(
            f"form 'output' compares picture and text in one attention; {names} is cross-attention,"
            " whose text has no output: use form 'attention'"
        )
    record = AttentionRecord()

    def listen(name: str) -> Callable[[Projections], None]:
        def receive(projections: Projections) -> None:
            samples = projections.samples
            own_phrases = phrases if samples is None else [phrases[sample] for sample in samples]
            picked = choose_rows(projections, own_phrases, rows, layer=name)
            if picked is None:
                return
            if form == "output":
                layer_map = measure_output(picked, own_phrases)
            else:
                layer_map = measure_attention(picked, own_phrases, softmax)
            maps = lay_on_cells(layer_map, picked, len(own_phrases))
            if samples is None:
                record.add(name, maps, picked.timestep)
                return
            batch_maps = record.add_part(name, maps, samples, len(phrases))
            if batch_maps is not None:
                record.add(name, batch_maps, picked.timestep)

        return receive

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.tap(listen(layer.name)))
        yield record


def _refuse_twins(layers: Sequence[AttentionLayer]) -> None:
    modules: set[int] = set()
    for layer in layers:
        if id(layer.module) in modules:
            raise ValueError(f"attention layer {layer.name} is asked for twice")
        modules.add(id(layer.module))


def match_prompts(text: Float[Tensor, "b s c"]) -> ChooseRows:
    """The rows whose prompt is one of `text`, as `embed` gave it; None for a call without any.

    For pipelines: it finds the conditional rows whether classifier-free guidance doubles the batch
    or calls the denoiser twice. ValueError where the rows are not the same number a prompt.
    """

    def choose(projections: Projections) -> list[int] | None:
        prompts = projections.prompt
        if prompts is None:
            raise ValueError(
                "this family does not say which prompt a row has: give rows as numbers"
            )
        owner = [find_prompt(row, text) for row in prompts]
        rows = [row for row, index in enumerate(owner) if index is not None]
        if not rows:
            return None
        share, rest = divmod(len(rows), len(text))
        if rest or any(
            not torch.equal(text[index // share], text[owner[row] or 0])
            for index, row in enumerate(rows)
        ):
            raise ValueError(
                f"rows {rows} of the batch have one of the {len(text)} prompts: not each as many"
                " times as the next, side by side"
            )
        return rows

    return choose


def find_prompt(row: Tensor, text: Float[Tensor, "b s c"]) -> int | None:
    """Which prompt a row of any length is: equal where both are, zero beyond."""
    for index, prompt in enumerate(text.to(row.device, row.dtype)):
        length = min(len(row), len(prompt))
        is_same = torch.equal(row[:length], prompt[:length])
        if is_same and not row[length:].any() and not prompt[length:].any():
            return index
    return None


def choose_rows(
    projections: Projections,
    phrases: PhrasePositions,
    rows: RowChoice | ChooseRows | None,
    *,
    layer: str = "",
) -> Projections | None:
    """The rows that `phrases` is about; None where the call has none of them.

    ValueError where their number is not that of `phrases` (a multiple of it where frames lie in
    the batch), naming the layer.
    """
    kept_rows = rows(projections) if callable(rows) else rows
    if callable(rows) and kept_rows is None:
        return None
    picked = projections if kept_rows is None else take_rows(projections, kept_rows)
    count = len(picked.query)
    fits = count % len(phrases) == 0 if picked.folded else count == len(phrases)
    if not fits:
        raise ValueError(
            f"{layer or 'the layer'} attended for {count} rows, but phrases are given for"
            f" {len(phrases)} samples: say with rows which of them are meant"
        )
    return picked


def take_rows(projections: Projections, rows: RowChoice) -> Projections:
    """Some rows of the batch."""

    def take(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[rows]

    query, key, value = (
        tensor[rows] for tensor in (projections.query, projections.key, projections.value)
    )
    return Projections(
        query=query,
        key=key,
        value=value,
        text=projections.text,
        cells=projections.cells,
        image=projections.image,
        present=take(projections.present),
        scale=projections.scale,
        image_output=take(projections.image_output),
        text_output=take(projections.text_output),
        folded=projections.folded,
        timestep=projections.timestep,
        prompt=None,
    )


def measure_attention(
    projections: Projections, phrases: PhrasePositions, softmax: Softmax = "all"
) -> Float[Tensor, "b T n"]:
    """The probability that each image row gives each phrase, mean over heads, float32.

    It is an attention over the same queries and keys whose values are ones and zeros: which
    phrases a key belongs to. So the kernels of the layer itself do it (flash attention where it
    runs), nothing of the size rows x keys is held, and the gradient is theirs.
    """
    query, key, present = projections.query, projections.key, projections.present
    members = _lay_phrases(projections, phrases)
    if softmax == "text":
        key = key[:, projections.text]
        present = None if present is None else present[:, projections.text]
    else:
        before, after = projections.text.start, key.shape[1] - projections.text.stop
        members = functional.pad(members, (before, after))
    shares = [
        _attend(query, key, group, present, projections.factor)
        for group in torch.split(members, query.shape[-1], dim=1)
    ]
    return torch.cat(shares, dim=1)


def _lay_phrases(projections: Projections, phrases: PhrasePositions) -> Float[Tensor, "b T s"]:
    """1 where a key of the text is a phrase's, for each row of the batch."""
    length = projections.text.stop - projections.text.start
    members = mark_phrases(phrases, length).to(projections.query.device)
    return members.repeat_interleave(len(projections.query) // len(phrases), 0)


def _attend(
    query: Float[Tensor, "b n heads d"],
    key: Float[Tensor, "b m heads d"],
    members: Float[Tensor, "b T m"],
    present: Bool[Tensor, "b m"] | None,
    scale: float,
) -> Float[Tensor, "b T n"]:
    """Softmax over the keys, summed over the members of each group (T at most d)."""
    heads, width = query.shape[2], query.shape[3]
    # Kernels want values as wide as the keys.
    values = functional.pad(members.mT, (0, width - members.shape[1])).to(query.dtype)
    shares = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.to(query.dtype).transpose(1, 2),
        values[:, None].expand(-1, heads, -1, -1),
        attn_mask=None if present is None else present[:, None, None],
        scale=scale,
    )
    return shares[..., : members.shape[1]].float().mean(1).mT


def measure_output(projections: Projections, phrases: PhrasePositions) -> Float[Tensor, "b T n"]:
    """Dot products of each image row's attention output with each phrase's mean one, float32.

    ConceptAttention's saliency with the prompt's own tokens in place of added concepts; not
    scaled, not split by heads.
    """
    image, text = projections.image_output, projections.text_output
    if image is None or text is None:
        raise ValueError("this layer does not hand over what it gave for picture and text")
    members = _lay_phrases(projections, phrases)
    members = members / members.sum(2, keepdim=True).clamp_min(1)
    return members @ text.float() @ image.float().mT


def lay_on_cells(
    layer_map: Float[Tensor, "r T n"], projections: Projections, samples: int
) -> Float[Tensor, "b T f h w"]:
    """Rows as cells of the layer's own token grid; frames in the batch become the frame axis."""
    maps = layer_map.reshape(*layer_map.shape[:2], *projections.cells)
    if not projections.folded:
        return maps
    return maps.reshape(samples, -1, *maps.shape[1:]).transpose(1, 2).flatten(2, 3)

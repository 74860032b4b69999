"""The items of source and target: how many there are, by the model and by the vocabularies, and which begins a text."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelRefusedError, counted
from worker.model.backend import keras
from worker.model.graph import consumers, graph_of
from worker.model.inputs import InputPart
from worker.model.prompts import ids_of
from worker.records.vocabulary import Items, Vocabulary

L, OPS = keras.layers, keras.src.ops
_SAME_NUMBERS = (OPS.core.Cast, OPS.numpy.ExpandDims, OPS.numpy.Squeeze, OPS.numpy.Reshape, L.Reshape, L.Identity)
GIVEN = Vocabulary | Items | None


def vocabulary_of(given: GIVEN) -> Vocabulary | None:
    """Raises VocabularyError."""
    return given if given is None or isinstance(given, Vocabulary) else Vocabulary(given)


def check_target(vocabulary: Vocabulary | None, units: int) -> None:
    """Raises ModelRefusedError where the decoder answers another number of items than there are."""
    if vocabulary is not None and len(vocabulary) != units:
        raise ModelRefusedError(
            "",
            f"the target vocabulary has {counted(len(vocabulary), 'item')}, the decoder answers {units}",
            "give the vocabulary that the model was trained with, in the order of its ids",
        )


def check_source(vocabulary: Vocabulary | None, part: InputPart) -> None:
    """Raises ModelRefusedError where the encoder takes another number of items than there are."""
    one_hot = bool(part.shape) and part.ids is None and "int" not in part.dtype
    known = part.width if one_hot else part.ids
    if vocabulary is not None and known is not None and len(vocabulary) != known:
        takes = f"vectors of {counted(known, 'number')}" if one_hot else f"{counted(known, 'id')} (its Embedding)"
        raise ModelRefusedError(
            "",
            f"the source vocabulary has {counted(len(vocabulary), 'item')}, the encoder takes {takes}",
            "give the vocabulary that the model was trained with, in the order of its ids, padding included",
        )


def item_id(item: str | int, vocabulary: Vocabulary | None, ids: int, what: str) -> int:
    """Raises ValueError for an item that isn't there, and for an id that isn't below ``ids``."""
    if isinstance(item, str):
        if vocabulary is None:
            raise ValueError(f"{what} is {item!r}: without a target vocabulary it must be an id")
        return vocabulary.id(item)
    return int(ids_of([item], ids, what)[0])


def depth_of(graph: Any, tensor: Any) -> int | None:
    """How many ids an input knows of which the model makes one-hot vectors; None where that is not seen."""
    for layer in consumers(graph, tensor):
        if isinstance(layer, OPS.nn.OneHot):
            return int(layer.num_classes)
        if isinstance(layer, L.CategoryEncoding):
            return int(layer.num_tokens) if layer.output_mode == "one_hot" else None
        if isinstance(layer, _SAME_NUMBERS) and len(layer._inbound_nodes) == 1:
            return depth_of(graph, layer.output)
    return None


def refuse_masked(model: Any, number: int, start: int) -> None:
    """Of input ``number``. Raises ModelRefusedError where an Embedding masks ``start``: it must be 0 then."""
    graph = graph_of(model)
    for layer in consumers(graph, graph.inputs[number]):
        if start == 0 and isinstance(layer, keras.layers.Embedding) and layer.mask_zero:
            raise ModelRefusedError(
                layer.name,
                "start is item 0, which it masks (mask_zero=True), and to that beginning the decoder, item by item, "
                "gives other answers than the model that was trained",
                "train it with another start item than 0, or with mask_zero=False",
            )

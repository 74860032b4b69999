"""Layers of Keras 2 that pass masks on differently from the Keras 3 layers of the same name.

Only models of Keras 2 with masks in them are built with these. Where they stream, layers of Keras 3 take their place.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from worker.model.backend import keras

L = keras.layers
mask_of = keras.src.backend.get_keras_mask
PACKAGE = "Keras2"  # that Keras knows them under: "Keras2>Add"


class _Merging:
    """A step counts where it counts in every input that has a mask. Keras 3: in any, and everywhere without one."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        masks = [one for one in mask or () if one is not None]
        return reduce(keras.ops.logical_and, masks) if masks else None


class _Dropping:
    """The mask ends here. Keras 3 passes it on."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None


class _Unchanged(_Dropping):
    def call(self, inputs: Any) -> Any:
        return keras.ops.copy(inputs)  # a new tensor: the old one carries its mask


def _kind(name: str, of_keras_3: type, how: type) -> Any:
    kind = type(name, (how, of_keras_3), {"of_keras_3": of_keras_3, "__module__": __name__})
    return keras.saving.register_keras_serializable(PACKAGE)(kind)


MERGING = [
    _kind(kind.__name__, kind, _Merging)
    for kind in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate)
]
DROPPING = [
    *(_kind(kind.__name__, kind, _Dropping) for kind in (L.Rescaling, L.Normalization)),
    _kind("Identity", L.Identity, _Unchanged),
    _kind("AddN", L.Add, _Dropping),  # the operation tf.add_n
]
NAMES = frozenset(kind.__name__ for kind in (*MERGING, *DROPPING))


def looks_at_its_mask(layer: Any) -> bool:
    """Whether the layer was noted so."""
    return bool(getattr(layer, "of_keras_2", False))


def known_as(kind: str) -> dict[str, str]:
    """The name by which a configuration marks a layer as one of these, or another of their package."""
    return {"module": __name__, "registered_name": f"{PACKAGE}>{kind}"}


def plain(kind: type) -> type:
    """The class of Keras 3 that computes the same numbers."""
    return getattr(kind, "of_keras_3", kind)

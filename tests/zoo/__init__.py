"""Models of every kind, made anew in each run: what streams, and what is refused with the layer's name and a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests import models
from tests.zoo import (
    convolution,
    decoders,
    fewer_steps,
    inputs,
    looking_ahead,
    masks,
    own,
    per_step,
    recurrent,
    trained,
)

PARTS = (models, recurrent, masks, convolution, fewer_steps, looking_ahead, per_step, inputs, trained, decoders, own)
ZOO: dict[str, Callable[[], Any]] = {name: make for part in PARTS for name, make in part.ZOO.items()}
# name → (model, the layer that must be named, a word of the reason)
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    name: entry for part in PARTS for name, entry in part.REFUSED.items()
}

assert len(ZOO) == sum(len(part.ZOO) for part in PARTS), "two models of one name"
assert len(REFUSED) == sum(len(part.REFUSED) for part in PARTS), "two refused models of one name"

"""Rules of the layers of Keras 2 that Keras 3 lacks.

Those that pass masks on as Keras 2 does become layers of Keras 3 without masks, with the mask computed beside them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.model import keras2_masks
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.keras2_convolution import SeparableConv1D
from worker.model.layers import convolution, merging, per_step, shares
from worker.model.layers.masking import carrying, mask_of
from worker.model.layers.naming import NamedOperations
from worker.model.rules import Rule, StepBuilder, streams, takes_shares


def _unmasked(rule: Rule, hands_on: bool) -> Rule:
    def without(call: LayerCall, builder: StepBuilder) -> Any:
        run = NamedOperations(builder, f"{builder.name(call)}.unmasked")
        new: dict[int, Tensor] = {}
        for tensor in call.tensors:
            if mask_of(tensor) is not None:
                new[id(tensor)] = builder.mark(run.without_mask(tensor), builder.time(tensor))
        args, kwargs = keras.tree.map_structure(lambda leaf: new.get(id(leaf), leaf), (call.args, call.kwargs))
        tensors = [new.get(id(tensor), tensor) for tensor in call.tensors]
        output = rule(replace(call, args=args, kwargs=kwargs, tensors=tensors), builder)
        mask = call.layer.compute_mask(call.tensors, [mask_of(x) for x in call.tensors]) if hands_on else None
        if mask is None:
            return output
        return builder.mark(carrying(builder, output, mask, builder.name(call)), builder.time(output))

    return without


streams(SeparableConv1D, windows=True)(convolution.along_time)
for _kind in keras2_masks.MERGING:
    _joins = merging.concatenate if _kind.__name__ == "Concatenate" else merging.merge
    streams(_kind)(_unmasked(_joins, hands_on=True))
    if _kind.__name__ == "Multiply":
        takes_shares(_kind)(shares.product_with_steps)
for _kind, _rule in zip(
    keras2_masks.DROPPING,
    (per_step.rescaling, per_step.along_features, per_step.per_step, merging.merge),
    strict=True,
):
    streams(_kind)(_unmasked(_rule, hands_on=False))
    if _kind.__name__ == "Identity":
        takes_shares(_kind)(shares.as_it_is)

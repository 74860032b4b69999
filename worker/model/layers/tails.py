"""Tails: the steps behind the one settled last, as they would be if the sequence ended with this event.

What keeps a state keeps it as of the step settled last, and runs over the tail from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from worker.model.graph import Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.rules import StepBuilder
from worker.model.steps import PLAIN, Steps


def several(run: NamedOperations, mask: Tensor, like: Tensor) -> Tensor:
    """mask (batch, n) with as many axes as ``like`` (batch, n, …)."""
    more = len(like.shape) - len(mask.shape)
    return run(OPS.Reshape, mask, newshape=(-1, *mask.shape[1:], *[1] * more)) if more else mask


def absent_as(
    builder: StepBuilder, run: NamedOperations, steps: Steps, x: Tensor, aheads: Iterable[int], fill: float
) -> Tensor:
    """x (batch, n, …), each of its rows so many steps ahead of the one settled last; ``fill`` where it isn't there."""
    return run(OPS.Where, several(run, present(builder, run, steps, aheads), x), x, fill)


def present(builder: StepBuilder, run: NamedOperations, steps: Steps, aheads: Iterable[int]) -> Tensor:
    """(batch, n) bool: whether there are the steps that are so many ahead of the one settled last."""
    masks = [builder.count.there(steps, ahead) for ahead in aheads]
    return masks[0] if len(masks) == 1 else run(OPS.Concatenate, masks, axis=1)


def over_tail(
    builder: StepBuilder,
    run: NamedOperations,
    steps: Steps | None,
    states: list[Tensor],
    output: Tensor,
    step: Callable[[int, list[Tensor]], tuple[Tensor, list[Tensor]]],
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Run ``step(ahead, states) → output, states`` over the tail.

    It begins with the ``states`` and ``output`` of the step settled last. All outputs, that of the last step there is,
    and the states after it.
    """
    outputs, last = [output], output
    for ahead in range(1, 1 + (steps or PLAIN).tail):
        there = builder.count.there(steps or PLAIN, ahead)
        output, after = step(ahead, states)
        states = [_where(run, there, new, old) for new, old in zip(after, states, strict=True)]
        last = _where(run, there, output, last)
        outputs.append(output)
    return outputs, last, states


def last_step(builder: StepBuilder, run: NamedOperations, x: Tensor, steps: Steps | None) -> Tensor:
    """x (batch, 1 + tail, …) → (batch, 1, …), the last step there is."""
    tail = (steps or PLAIN).tail
    if not tail:
        return x

    def at(ahead: int) -> Any:
        return run(OPS.GetItem, x, (slice(None), slice(ahead, ahead + 1)))

    return over_tail(builder, run, steps, [], at(0), lambda ahead, _: (at(ahead), []))[1]


def _where(run: NamedOperations, mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return run(OPS.Where, several(run, mask, new), new, old)


def where_each(builder: StepBuilder, mask: Tensor, new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
    """``new`` in the rows of ``mask`` (batch, 1), ``old`` in the others; tensors (batch, …)."""
    run = NamedOperations(builder, "chosen")
    return [_where(run, mask, one, other) for one, other in zip(new, old, strict=True)]

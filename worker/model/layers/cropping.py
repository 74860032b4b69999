"""Rules of what leaves steps out at the beginning and at the end, or takes one in so many."""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.layers.naming import NamedOperations
from worker.model.layers.windows import Span, last_inputs, last_words, part
from worker.model.rules import StepBuilder, Time, run_as_it_is, streams, without_time
from worker.model.steps import PLAIN, Steps
from worker.model.unsettled import refuse_ahead

L = keras.layers


@streams(L.Cropping1D, tails=True)
def cropping(call: LayerCall, builder: StepBuilder) -> Any:
    """The last steps of a sequence are left out of it until others have come after them."""
    time = without_time(call, builder)
    if time is not None:
        return run_as_it_is(call, builder, time)
    return cropped(call, builder, *call.layer.cropping)


def cropped(call: LayerCall, builder: StepBuilder, first: int, last: int, stride: int = 1) -> Any:
    """x[:, first:-last:stride]. Without a tail it is the step of ``last`` steps ago; its state is the steps since."""
    x, name, given = call.tensors[0], builder.name(call), builder.steps(call.tensors[0]) or PLAIN
    run, begin, late = NamedOperations(builder, name), given.first + (first + last) * given.every, last * given.every
    words = "as it is"
    if 0 < given.delay < late:
        refuse_ahead(call, builder)
    if late <= given.delay:
        steps = Steps(begin, given.every, given.delay - late)
        found = part(run, x, 0, 1 + steps.tail) if late else run.without_mask(x)
    else:
        steps, words = Steps(begin, given.every), last_words(last)
        found = part(run, last_inputs(call, builder, last, x), 0, 1)
    span = Span(0, stride, 0, 0, steps)
    builder.report(call, name, words if span.steps == given else f"{words}; {span.steps.words}")
    return builder.mark(span.chosen(builder, run, found), Time.EACH_STEP, span.steps)

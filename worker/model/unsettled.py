"""Refuses inputs over time that only some rules are made for: with zeros around them, or with steps that may change."""

from __future__ import annotations

from worker.errors import ModelRefusedError
from worker.model.graph import LayerCall
from worker.model.rules import StepBuilder, Time, has_rule, refuse, takes_tails, takes_windows


def refuse_windows(call: LayerCall, builder: StepBuilder) -> None:
    """Refuse a tensor with more steps than came in, unless the rule is made for it."""
    windows = [tensor for tensor in call.tensors if builder.time(tensor) is Time.WINDOW]
    if not windows or takes_windows(type(call.layer)):
        return
    if builder.padding(windows[0])[1]:
        raise ModelRefusedError(
            builder.padded_by(windows[0]),
            f"it adds steps after the last for '{call.layer_path}', and a stream has no last step",
            "put a convolution or pooling with padding='valid' that looks at them behind it, and train again",
        )
    refuse(
        call,
        "its input begins with zeros, before the first step, so it has more steps than came in",
        "put a convolution with padding='valid' that reaches back n steps behind ZeroPadding1D((n, 0)); train it",
    )


def refuse_tails(call: LayerCall, builder: StepBuilder) -> None:
    """Refuse steps that later events change, unless the rule is made for them."""
    if not has_rule(type(call.layer)):
        return  # what it is made of is followed
    if not takes_tails(type(call.layer)) or Time.SHARE in map(builder.time, call.tensors):
        refuse_ahead(call, builder)


def refuse_ahead(call: LayerCall, builder: StepBuilder) -> None:
    """Refuse inputs with steps that later events change."""
    over_time = [tensor for tensor in call.tensors if builder.time(tensor) not in (Time.SO_FAR, Time.CONSTANT)]
    if any(steps and steps.tail for steps in map(builder.steps, over_time)):
        refuse(
            call,
            "its input looks ahead, over steps that have not arrived yet",
            "use padding='causal' in the layers before it, and train again",
        )

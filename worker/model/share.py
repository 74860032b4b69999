"""A step's part in a sum over time."""

from __future__ import annotations

from dataclasses import dataclass

from worker.model.graph import Tensor


@dataclass(frozen=True, slots=True)
class Share:
    """A step's part in a sum over time. After every step the sum is known; the parts keep changing.

    ``source`` is the layer that made shares of the steps, as refusals name it. ``now`` is what this step adds.
    ``gone``: which share of the sum so far makes room for it, None for nothing. ``total``: the final divisor of the
    sum, None for nothing. All are (batch, …) with 1 at ``axis``, the time; ``gone`` and ``total`` are spread over
    ``now`` as numpy does.
    """

    source: str
    now: Tensor
    gone: Tensor | None
    total: Tensor | None
    axis: int = 1

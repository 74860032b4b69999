"""What the model reads and says, watched: one turn now and then is sampled and summed up, and metrics tell the sums.

Sampling costs the loop a comparison per turn, and a fraction of a millisecond every SAMPLE_INTERVAL_S.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from worker.engine.sampling import SAMPLED_COLUMNS, Sample, Sampler
from worker.member.last_minute import LastMinute, Sums
from worker.records.arrays import FloatArray, IntArray
from worker.records.feature_sums import FeatureSums
from worker.records.ranges import Ranges
from worker.web.families.predictions import OUTPUT_VALUES
from worker.web.predictions import BUCKETS, ModelFigures

SAMPLE_INTERVAL_S = 0.1
LAYERS_LIMIT = 32
LEARNED_EVENTS = 10_000  # sampled since the start: their ranges stand for what is expected where nobody says it
SATURATED = 1e-6  # so near to the end of what an output can say


@dataclass(frozen=True, slots=True)
class Watched:
    """What the metrics of a model are called, in order: no more than SAMPLED_COLUMNS and LAYERS_LIMIT have a name.

    ``layers``: layer → the parts of a packed row that are its states. ``ends`` (units, 2): the lowest and the highest
    number of each output, infinite where it has none. ``expected``: None: as seen at the start.
    """

    features: Sequence[str]
    units: Sequence[str]
    layers: Mapping[str, Sequence[slice]]
    ends: FloatArray
    expected: Ranges | None = None


class ModelWatch:
    """Asks the engine for samples. ``figures`` may be called by another thread; ``clock`` gives monotonic seconds."""

    def __init__(self, watched: Watched, sampler: Sampler, clock: Callable[[], float]) -> None:
        self._watched, self._sampler, self._clock = watched, sampler, clock
        self._ranges = watched.expected
        self._seen = Seen(len(watched.features))
        self._ends = watched.ends[:SAMPLED_COLUMNS]
        self._bounded = bool(np.isfinite(self._ends).any())
        self._minute = LastMinute()
        self._counts: IntArray = np.zeros((len(watched.units), len(BUCKETS)), np.int64)
        self._next_s = clock()
        sampler.wanted = True

    def look(self, now: float) -> None:
        """After a turn: once it is time, take over what was sampled and ask for more."""
        if now < self._next_s:
            return
        self._next_s = now + SAMPLE_INTERVAL_S
        sample, self._sampler.taken = self._sampler.taken, None
        self._sampler.wanted = True
        if sample is not None:
            self._add(now, sample)

    def figures(self) -> ModelFigures:
        """As of now, for a scrape."""
        watched, counts, whole = self._watched, self._counts, self._minute.whole(self._clock())
        seen = dict(zip(watched.units, counts.tolist(), strict=True))
        if whole is None:
            return ModelFigures(seen)
        features, outside = whole.features, whole.features.outside_ratio
        return ModelFigures(
            seen,
            whole.saturated / features.events if self._bounded else None,
            _named(watched.layers, whole.norms / whole.streams),
            _named(watched.features, features.mean),
            _named(watched.features, features.spread) if features.events > 1 else {},
            {} if outside is None else _named(watched.features, outside),
        )

    def _add(self, now: float, sample: Sample) -> None:
        ranges, outputs = self._ranges, sample.outputs
        self._counts = self._counts + in_buckets(outputs)
        features = FeatureSums.of(sample.vectors, ranges)
        if ranges is None:
            self._ranges = self._seen.ranges_with(sample.vectors)
        saturated = self._saturated(outputs) if self._bounded else 0
        self._minute.add(now, Sums(features, saturated, self._norms(sample.states), len(sample.states)))

    def _saturated(self, outputs: FloatArray) -> int:
        low, high = self._ends.T
        return int(np.count_nonzero(((outputs <= low + SATURATED) | (outputs >= high - SATURATED)).any(axis=1)))

    @np.errstate(over="ignore")
    def _norms(self, states: FloatArray) -> FloatArray:
        """(layers,) the L2 norms of the states of each, added up over the streams."""
        rows = states.astype(np.float64)
        norms = [
            np.sqrt(sum(np.einsum("ij,ij->i", rows[:, part], rows[:, part]) for part in parts)).sum()
            for parts in self._watched.layers.values()
        ]
        return np.array(norms)


class Seen:
    """The ranges of the first LEARNED_EVENTS events."""

    def __init__(self, features: int) -> None:
        self._events = 0
        self._ranges = Ranges.nothing(features)

    def ranges_with(self, vectors: FloatArray) -> Ranges | None:
        """After these events, (events, features), too; None while there were too few."""
        self._events += len(vectors)
        self._ranges = self._ranges.with_(vectors)
        return self._ranges if self._events >= LEARNED_EVENTS else None


def in_buckets(outputs: FloatArray) -> IntArray:
    """outputs (events, units) → (units, buckets) how many are in each, above the end of the one before."""
    units, buckets = outputs.shape[1], len(BUCKETS)
    places = np.searchsorted(OUTPUT_VALUES, outputs) + np.arange(units) * buckets
    counts: IntArray = np.bincount(places.ravel(), minlength=units * buckets).reshape(units, buckets)
    return counts


def _named(names: Sequence[str] | Mapping[str, object], numbers: FloatArray) -> dict[str, float]:
    return dict(zip(names, numbers.tolist(), strict=True))

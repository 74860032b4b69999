"""How far before the committed offset a new model's states begin: what is replayed without outputs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from worker.records.ownership import Partition

FIRST_AGE_MS = 1000  # that the last record before the committed offset is taken to have at most; then more
MORE_AGE = 4  # a fourth more each time: 60 questions reach back ten days


@dataclass(frozen=True, slots=True)
class Warm:
    """So many offsets (in place of events: one record may hold many of these) or so much time; one of the two."""

    offsets: int | None = None
    ms: int | None = None


def warm_from(
    warm: Warm,
    begins: Mapping[Partition, int],
    resumed: Mapping[Partition, int],
    offsets_at: Callable[[Collection[Partition], int], Mapping[Partition, int]],
    now_ms: int,
) -> dict[Partition, int]:
    """The offset that is so far before ``resumed``, per partition. ``begins``: of the logs. ``offsets_at``: see Source.

    Time is counted from the last record before ``resumed``, whose age is not known: it is found by ever older guesses,
    so that up to a fourth of the time is added for which the group stood still. Of records without times all are taken.
    """
    if warm.offsets is not None:
        return {each: max(begins[each], at - warm.offsets) for each, at in resumed.items()}
    assert warm.ms is not None, warm
    found = {each: at for each, at in resumed.items() if at <= begins[each]}
    left = sorted(resumed.keys() - found.keys())
    age_ms = FIRST_AGE_MS
    while left and age_ms < now_ms:
        at = offsets_at(left, now_ms - age_ms)
        if younger := [each for each in left if at[each] < resumed[each]]:
            found.update(offsets_at(younger, max(0, now_ms - age_ms - warm.ms)))
        left = [each for each in left if each not in found]
        age_ms += age_ms // MORE_AGE
    return found | {each: begins[each] for each in left}

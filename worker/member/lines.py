"""Lines of the log about what the loop meets again and again: each kind once in a while. Time is an argument."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from worker.engine.failing import MODEL_ERROR
from worker.pipeline.pipeline import Outcome
from worker.records.events import Refusal
from worker.records.log_fields import about, about_all
from worker.records.ownership import Partition
from worker.records.trace_headers import trace_context

log = logging.getLogger("worker.loop")

REPEAT_INTERVAL_S = 60.0  # between two log lines of one kind
KEY_CHARACTERS = 60  # of a refused record's key
NUMBER = re.compile(r"(?<!\w)[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?j?(?!\w)|(?<!\w)[-+]?(?:nan|inf)(?!\w)")
NUMBERS = re.compile(r"\[[][\s,….]*…[][\s,….]*\]")  # a list of them, of any depth


class Lines:
    """One per worker."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, int]] = {}  # kind of line → (last said, times kept back since)
        self._away_since: float | None = None

    def warn(
        self, now: float, kind: str, message: str, *values: object, fields: dict[str, object] | None = None
    ) -> None:
        """Once per kind and interval; the next line counts those kept back. ``fields``: what it is about."""
        if self._is_due(now, kind):
            self._say(now, kind, message, *values, fields=fields or {})

    def away(self, now: float, error: Exception) -> None:
        """The cluster or the store does not answer."""
        self._away_since = now if self._away_since is None else self._away_since
        fields: dict[str, object] = {"error": type(error).__name__}
        self.warn(now, "kafka", "%s; resuming when it is back", error, fields=fields)

    def back(self, now: float) -> None:
        """A turn has succeeded."""
        if self._away_since is not None:
            away_s, self._away_since = now - self._away_since, None
            log.info("resuming: what did not answer is back after %.0f s", away_s)

    def refused(self, now: float, outcome: Outcome, refusal: Refusal) -> None:
        """A record can't be used."""
        kind, batch, at = f"refused {refusal.error}", outcome.batch, refusal.record
        if not self._is_due(now, kind):
            return
        key, trace = batch.keys[at], trace_context(batch.headers[at])
        name = None if key is None else key.decode(errors="replace")[:KEY_CHARACTERS]
        self._say(
            now, kind, "record refused, %s offset %d: %s (%s)",
            batch.partition, batch.offsets[at], reason_in_log(refusal), refusal.error,
            fields=about(
                batch.partition, batch.offsets[at], key=name, error=refusal.error,
                trace_id=trace and trace.trace_id, span_id=trace and trace.span_id,
            ),
        )  # fmt: skip

    def rolled_back(self, now: float, partitions: Sequence[Partition]) -> None:
        """A turn has failed, and is undone in these."""
        self.warn(
            now, "rolled back", "a turn was rolled back: states are again those of the last commit, of %s",
            listed(partitions), fields=about_all(partitions),
        )  # fmt: skip

    def _is_due(self, now: float, kind: str) -> bool:
        last, kept_back = self._said.get(kind, (now - REPEAT_INTERVAL_S, 0))
        if now - last >= REPEAT_INTERVAL_S:
            return True
        self._said[kind] = (last, kept_back + 1)
        return False

    def _say(self, now: float, kind: str, message: str, *values: object, fields: dict[str, object]) -> None:
        _, kept_back = self._said.get(kind, (now, 0))
        self._said[kind] = (now, 0)
        if kept_back:
            message, fields = f"{message} (and {kept_back} more of this kind)", {**fields, "kept_back": kept_back}
        log.warning(message, *values, extra=fields)


def reason_in_log(refusal: Refusal) -> str:
    """The reason without values of the record: of an error of the model without all numbers, which may be such."""
    if MODEL_ERROR not in f"{refusal.error} {refusal.reason}":
        return refusal.reason
    return NUMBERS.sub("[…]", NUMBER.sub("…", refusal.reason))


def listed(partitions: Sequence[Partition]) -> str:
    """The first ones by name."""
    shown = ", ".join(map(str, partitions[:8]))
    return shown + (f" and {len(partitions) - 8} more" if len(partitions) > 8 else "")

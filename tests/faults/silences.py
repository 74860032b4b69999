"""Pauses in what is heard of something: when it worked again after a fault."""

from __future__ import annotations

import time

SILENCE_S = 1.0  # a pause that is longer is one in which it did not work


class Silences:
    """When something was heard: each pause of more than a second, with its end."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.ends: list[float] = []

    def heard(self, now_s: float) -> None:
        if self._last is not None and now_s - self._last > SILENCE_S:
            self.ends.append(now_s)
        self._last = now_s

    @property
    def silent(self) -> bool:
        """Whether a pause is in progress."""
        return self._last is None or time.monotonic() - self._last > SILENCE_S

    def back_after(self, begun_s: float, now_s: float) -> float:
        """Seconds from ``begun_s`` to the end of the last pause after it; 0 if there was none."""
        if self._last is None or now_s - self._last > SILENCE_S:
            return now_s - begun_s
        return max([end - begun_s for end in self.ends if end > begun_s], default=0.0)


def answered_after(outputs: Silences, inputs: Silences, begun_s: float, now_s: float) -> float:
    """Seconds from ``begun_s`` until a partition's outputs were back; 0 when they had only waited for its inputs."""
    back_s = outputs.back_after(begun_s, now_s)
    return back_s if back_s > inputs.back_after(begun_s, now_s) + SILENCE_S else 0.0

"""Beam search: of each text, its likeliest beginnings go on side by side, as forks of one state in one batch.

A text's score is the mean log probability of its items, the stop item included. No I/O, clock or logging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from worker.engine.failing import spoil
from worker.engine.jobs import Job
from worker.engine.text_models import TextDecoder
from worker.records.arrays import FloatArray, IntArray
from worker.records.failing_rows import FailingRowsError
from worker.records.prompts import Finish


@dataclass(slots=True)
class Search:
    """One text's beginnings: the likeliest first, all of one length."""

    packed: FloatArray  # (beginnings, state_width) before their last items
    lasts: IntArray  # (beginnings,) their last items, which are still to be fed
    sums: FloatArray  # (beginnings,) of the log probabilities of their items
    texts: list[list[int]] = field(default_factory=lambda: [[]])
    best: tuple[float, list[int]] | None = None  # score and text of the best that a stop item ends
    stopped: int = 0  # how many have ended so


class BeamSearch:
    """Searches of width ``beams``. A search ends when so many texts have ended, when no other can be better, or when
    all are as long as they may be.
    """

    def __init__(self, decoder: TextDecoder, beams: int) -> None:
        self.decoder = decoder
        self.beams = beams
        self.waves = 0  # calls of the model, since the start
        self._searches: dict[Job, Search] = {}

    def begin(self, job: Job, packed: FloatArray, start: int) -> None:
        """A text begins with this state, (state_width,), to which ``start`` is fed."""
        self._searches[job] = Search(packed[np.newaxis], np.array([start]), np.zeros(1))
        if not job.prompt.length:
            self._end(job, [], 0.0, job.prompt.finish)

    def end(self, job: Job) -> None:
        """The job needs its search no more."""
        self._searches.pop(job, None)

    def run(self, jobs: Sequence[Job], most_steps: int) -> int:
        """Some steps for each of these, at most so many; returns how many."""
        running = [job for job in jobs if not job.done]
        for steps in range(most_steps):
            if not running:
                return steps
            self._step(running)
            running = [job for job in running if not job.done]
        return most_steps

    def _step(self, jobs: Sequence[Job]) -> None:
        searches = [self._searches[job] for job in jobs]
        self.waves += 1
        try:
            probabilities, after = self.decoder.step(
                np.concatenate([search.lasts for search in searches]),
                np.concatenate([search.packed for search in searches]),
            )
        except FailingRowsError as failing:
            self._step_others(jobs, searches, failing)
            return
        begin = 0
        for job, search in zip(jobs, searches, strict=True):
            rows = slice(begin, begin + len(search.lasts))
            begin = rows.stop
            if np.isfinite(probabilities[rows]).all() and np.isfinite(after[rows]).all():
                self._extend(job, search, probabilities[rows].astype(np.float64), after[rows])
            else:
                job.spoilt = job.done = True

    def _step_others(self, jobs: Sequence[Job], searches: Sequence[Search], failing: FailingRowsError) -> None:
        """A search of which the model can't compute a beginning is done, the others take their step."""
        of_rows = np.repeat(np.arange(len(jobs)), [len(search.lasts) for search in searches]).tolist()
        reasons = {of_rows[row]: failing.reasons[row] for row in sorted(failing.reasons, reverse=True)}
        others = spoil(jobs, FailingRowsError(reasons))
        if others:
            self._step(others)

    def _extend(self, job: Job, search: Search, probabilities: FloatArray, after: FloatArray) -> None:
        """Each beginning by one item: the likeliest of all go on."""
        with np.errstate(divide="ignore"):
            totals = (search.sums[:, np.newaxis] + np.log(probabilities)).ravel()
        forks: list[tuple[int, int, float]] = []
        for rank, at in enumerate(_largest(totals, 2 * self.beams).tolist()):
            beginning, item = divmod(at, self.decoder.units)
            total = float(totals[at])
            if item != self.decoder.stop:
                forks.append((beginning, item, total))
            elif rank < self.beams:
                self._stop(search, [*search.texts[beginning], item], total)
        forks = forks[: self.beams]
        parents = [beginning for beginning, _, _ in forks]
        search.packed, search.lasts = after[parents], np.array([item for _, item, _ in forks], np.int64)
        search.sums = np.array([total for _, _, total in forks])
        search.texts = [[*search.texts[beginning], item] for beginning, item, _ in forks]
        self._end_if_decided(job, search)

    def _stop(self, search: Search, text: list[int], total: float) -> None:
        search.stopped += 1
        score = total / len(text)
        if search.best is None or score > search.best[0]:
            search.best = score, text

    def _end_if_decided(self, job: Job, search: Search) -> None:
        """The best of those that have stopped wins; a better one that is as long as it may be wins over it."""
        most, best = job.prompt.length, search.best
        whole = not search.texts or len(search.texts[0]) >= most
        # No item makes a text likelier: a longer one has at best its present sum, over the greatest length.
        reachable = float(search.sums[0]) / most if search.texts else -np.inf
        if best is not None and (best[0] >= reachable or (search.stopped >= self.beams and not whole)):
            self._end(job, best[1], best[0], Finish.STOP)
        elif whole:
            text = search.texts[0] if search.texts else []
            self._end(job, text, reachable if text else 0.0, job.prompt.finish)

    def _end(self, job: Job, text: list[int], score: float, finish: Finish) -> None:
        job.tokens, job.score, job.finish, job.done = text, score, finish, True


def _largest(totals: FloatArray, count: int) -> IntArray:
    """Indices of the largest numbers, at most ``count``, the largest first and of equal ones the first; no -inf."""
    possible = np.flatnonzero(totals > -np.inf)
    if len(possible) > count:
        least = np.partition(totals[possible], len(possible) - count)[len(possible) - count]
        possible = possible[totals[possible] >= least]
    largest: IntArray = possible[np.argsort(-totals[possible], kind="stable")][:count]
    return largest

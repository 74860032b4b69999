"""A model whose state anyone can compute: it adds up its inputs. Output = [sum, first input]."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker import StreamingModel
from worker.codecs.copying import TRACES_ALONE, Repeated
from worker.codecs.dead_letters import DeadLetters
from worker.codecs.decoding import open_decoder
from worker.codecs.encoding import Encoder
from worker.codecs.fields import InputFields
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.pipeline.pipeline import Pipeline
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch
from worker.records.states import StateLayout, StateSpec
from worker.streams.table import StreamTable

SPECS = [StateSpec("sum", "h", (1,), "float32")]
INITIAL = np.zeros(1, np.float32)
LAYOUT = StateLayout.of(SPECS, INITIAL)


class Sums:
    """Not finite for an input of 666: a model may always fail on one stream of a batch."""

    units = 2
    waits = False
    rows_computed = 0

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        self.rows_computed += len(x)
        after = packed + x[:, :1]
        after[x[:, 0] == 666] = np.nan
        outputs = np.concatenate([after, x[:, :1]], axis=1)
        for answer in (outputs, after):
            answer.flags.writeable = False  # as TensorFlow's are
        return outputs, after

    def scan_packed(self, xs: Any, packed: Any, resets: Any, active: Any, initial: Any) -> tuple[Any, Any]:
        """Step by step; what was not finite on the way is NaN in the end."""
        answers, spoilt = [], np.zeros(packed.shape, np.bool_)
        for x, reset, stepped in zip(xs, resets, active, strict=True):
            packed = np.where(reset[:, np.newaxis], initial, packed)
            outputs, after = self.step_packed(x, packed)
            packed = np.where(stepped[:, np.newaxis], after, packed)
            spoilt |= ~np.isfinite(packed)
            answers.append(outputs)
        return np.stack(answers), np.where(spoilt, np.float32(np.nan), packed)


class WaitingSums(Sums):
    """Has no answer while the sum is even."""

    waits = True

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        outputs, after = super().step_packed(x, packed)
        answered = np.where(np.isnan(after), after, np.floor(after) % 2)
        outputs = np.concatenate([np.where(answered == 0, 0, outputs), answered], axis=1)
        outputs.flags.writeable = False
        return outputs, after


def sums_pipeline(
    rules: BoundaryRules | None = None,
    emit: EmitRule | None = None,
    max_streams: int = 1000,
    form: str = "json",
    waits: bool = False,
    model: StreamingModel | None = None,
    repeated: Repeated = TRACES_ALONE,
    **fields: Any,
) -> Pipeline:
    rules = rules or BoundaryRules()
    emit = emit or EmitRule()
    layout = LAYOUT if model is None else model.layout
    table = StreamTable(layout, max_streams, 2 if emit.mode == "change" else 0, rules.idle_ms)
    return Pipeline(
        decoder=open_decoder(form, InputFields(width=1, **{"features": ("x",), **fields}), layout, repeated=repeated),
        engine=Engine(model or (WaitingSums() if waits else Sums()), table, rules, emit),
        encoder=Encoder("json", "0123456789ab", None, True, repeated.headers),
        dead_letters=DeadLetters("g", "0123456789ab", "0.0"),
    )


def batch(partition: Partition, rows: list[tuple[Any, ...]], start: int = 0, replay: bool = False) -> RecordBatch:
    """rows: (key, value, timestamp?, headers?)."""
    whole = [(*row, *(0, None)[len(row) - 2 :]) for row in rows]
    return RecordBatch(
        partition,
        start + len(rows),
        list(range(start, start + len(rows))),
        [row[2] for row in whole],
        [row[0] for row in whole],
        [row[1] for row in whole],
        [row[3] for row in whole],
        replay,
    )

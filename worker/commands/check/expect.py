"""``worker check --data``: the ranges of the features in a sample of records, and the file that keeps them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.assembly.watching import watched_features
from worker.codecs.ranges import encode_ranges
from worker.commands.export.files import publish
from worker.commands.replay.replaying import Record, batches_of, read_records
from worker.config.sections import Config
from worker.engine.sampling import SAMPLED_COLUMNS
from worker.errors import WorkerError, counted
from worker.model.streaming import StreamingModel
from worker.pipeline.pipeline import Pipeline
from worker.records.arrays import FloatArray
from worker.records.events import Kind
from worker.records.feature_sums import FeatureSums
from worker.records.ranges import Ranges

READ_AT_ONCE_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class FeatureRange:
    """One feature in the sample. ``outside``: the share of events beyond model.expect; None where that is not given."""

    name: str
    low: float
    high: float
    mean: float
    spread: float
    outside: float | None


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What a sample holds. ``refused``: records that a worker would refuse."""

    events: int
    refused: int
    features: list[FeatureRange]


def read_sample(
    config: Config, model: StreamingModel, pipeline: Pipeline, file: Path, expected: Ranges | None
) -> tuple[SampleReport, Ranges]:
    """What the records of a file hold, and the ranges of their features. Raises WorkerError."""
    names = watched_features(config, model)
    ranges, sums, refused = Ranges.nothing(len(names)), None, 0
    try:
        with file.open("rb") as lines:
            records = read_records(lines, str(file), config.input.topics[0], config.input.format)
            for vectors, count in _events(pipeline, records):
                refused += count
                if len(vectors):
                    ranges, found = ranges.with_(vectors), FeatureSums.of(vectors, expected)
                    sums = found if sums is None else sums.joined(found)
    except OSError as error:
        remedy = "name a file of records, one JSON object a line"
        raise WorkerError(f"--data {file}: {error.strerror}", remedy) from None
    if sums is None:
        raise WorkerError(
            f"--data {file}: it holds no event of the configured input ({counted(refused, 'record')} refused)",
            "give records as worker replay reads them; what it refuses goes to the dead letters, with the reason",
        )
    outside = sums.outside_ratio
    features = [
        FeatureRange(
            name,
            float(ranges.low[at]),
            float(ranges.high[at]),
            float(sums.mean[at]),
            float(sums.spread[at]),
            None if outside is None else float(outside[at]),
        )
        for at, name in enumerate(names)
    ]
    return SampleReport(sums.events, refused, features), ranges


def write_ranges(file: Path, ranges: Ranges, sample: SampleReport, sha256: str | None) -> None:
    """The file gets its name, whole or not at all. Raises WorkerError."""
    content = encode_ranges(ranges, [each.name for each in sample.features], sample.events, sha256)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        try:
            temporary.write_bytes(content)
            publish(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WorkerError(f"--write-expect {file}: {error.strerror}", "name a file in a folder that is there") from None


def _events(pipeline: Pipeline, records: Iterable[Record]) -> Iterator[tuple[FloatArray, int]]:
    """The watched numbers of events, (events, features), and how many records were refused, piece by piece."""
    for batches in batches_of(records, READ_AT_ONCE_RECORDS):
        for events in pipeline.decode(batches):
            yield events.vectors[events.kinds == Kind.STEP, :SAMPLED_COLUMNS], len(events.refusals)

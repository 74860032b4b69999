"""What is watched of a model: how its features, units and layers are called, and in which ranges features belong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.assembly.feature_order import FeatureFields
from worker.assembly.model import feature_fields
from worker.codecs.ranges import RangesError, decode_ranges
from worker.config.sections import Config
from worker.engine.sampling import SAMPLED_COLUMNS
from worker.errors import ConfigError, printable
from worker.member.model_watch import LAYERS_LIMIT, Watched
from worker.model.streaming import StreamingModel
from worker.records.ranges import Ranges
from worker.records.states import StateLayout

EXPECT_BYTES_LIMIT = 1 << 20
WRITE_ANEW = "write it anew: worker check -c FILE --data SAMPLE.jsonl --write-expect FILE"


def watched(config: Config, model: StreamingModel) -> Watched:
    """Raises ConfigError for a file of ranges that can't be used."""
    features = watched_features(config, model)
    return Watched(
        features,
        (config.model.labels or [str(number) for number in range(model.units)])[:SAMPLED_COLUMNS],
        _layers(model.layout),
        model.output_ends,
        expected_ranges(config, features),
    )


def watched_features(config: Config, model: StreamingModel) -> list[str]:
    """The names of the first numbers of an event: its fields, ``x[0]`` where a field holds several, or 0, 1, …"""
    return _names(feature_fields(config, model), model.features)[:SAMPLED_COLUMNS]


def expected_ranges(config: Config, features: Sequence[str]) -> Ranges | None:
    """Of ``model.expect``; None where it names no file. Raises ConfigError."""
    file = config.model.expect
    if file is None:
        return None
    shown = f"model.expect: '{printable(str(file))}'"
    try:
        return decode_ranges(_content(file, shown), features)
    except RangesError as error:
        raise ConfigError(f"{shown} {error}; {WRITE_ANEW}") from None


def _content(file: Path, shown: str) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(EXPECT_BYTES_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{shown} can't be read: {error.strerror}; {WRITE_ANEW}") from None
    if len(content) > EXPECT_BYTES_LIMIT:
        raise RangesError(f"is larger than {EXPECT_BYTES_LIMIT:,} bytes, no file of ranges")
    return content


def _names(fields: FeatureFields, width: int) -> list[str]:
    if isinstance(fields.names, str):
        return [f"{fields.names}[{number}]" for number in range(width)]
    if not fields.names:
        return [str(number) for number in range(width)]
    lengths = fields.lengths or (1,) * len(fields.names)
    return [
        name if length == 1 else f"{name}[{number}]"
        for name, length in zip(fields.names, lengths, strict=True)
        for number in range(length)
    ]


def _layers(layout: StateLayout) -> dict[str, list[slice]]:
    """Without counters and places: their size says nothing."""
    found: dict[str, list[slice]] = {}
    for (layer, name), (part, _) in layout.slices.items():
        if "int" not in layout.dtypes.get((layer, name), "") and (layer in found or len(found) < LAYERS_LIMIT):
            found.setdefault(layer, []).append(part)
    return found

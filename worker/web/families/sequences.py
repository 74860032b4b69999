"""Streams, and where their sequences begin and end."""

from __future__ import annotations

from worker.records.events import Reset
from worker.web.metric import counter, gauge, reasons

SEQUENCES = (
    counter(
        "sequences_started_total",
        "sequences",
        "States that returned to zero before an event, by reason; replays too.",
        "sum by (reason) (rate(rnnw_sequences_started_total[5m]))",
        "reason",
        reasons(Reset),
    ),
    counter(
        "sequences_ended_total",
        "sequences",
        "Sequences that have ended, by reason; replays too.",
        "sum by (reason) (rate(rnnw_sequences_ended_total[5m]))",
        "reason",
        reasons(reset for reset in Reset if reset is not Reset.NEW),
    ),
    counter(
        "streams_evicted_total",
        "streams",
        "Streams forgotten, by reason: idle (state.idle) or evicted (state.max_streams).",
        'sum(rate(rnnw_streams_evicted_total{reason="evicted"}[5m])) > 0',
        "reason",
        reasons((Reset.IDLE, Reset.EVICTED)),
    ),
    counter(
        "streams_doubled_total",
        "streams",
        "Streams found in two or more partitions of a topic, each counted once (among the last 100,000).",
        "increase(rnnw_streams_doubled_total[1h]) > 0",
    ),
    counter(
        "sources_dropped_total",
        "sources",
        "Sources that a boundary ended before they were complete (task seq2seq).",
        "increase(rnnw_sources_dropped_total[1h]) > 0",
    ),
    gauge(
        "state_bytes",
        "bytes",
        "Memory that the states of all streams use.",
        "sum(rnnw_state_bytes)",
    ),
)

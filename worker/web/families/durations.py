"""Where the time goes, from a poll to an acknowledged output."""

from __future__ import annotations

from worker.web.metric import DURATIONS_S, duration

DURATIONS = (
    duration(
        "answer_duration_seconds",
        "From the arrival of records in the worker to their acknowledged (exactly_once: committed) outputs, at most "
        "once per poll; without replays and records that had no output.",
        (*DURATIONS_S[2:], 60.0),
    ),
    duration("poll_duration_seconds", "Polling for records, including the wait for them."),
    duration("turn_duration_seconds", "Decoding, stepping and encoding the events of a turn."),
    duration("decode_duration_seconds", "Decoding the records of a turn."),
    duration("step_duration_seconds", "Boundaries, steps of the model and states of a turn."),
    duration("encode_duration_seconds", "Encoding the outputs and dead letters of a turn."),
    duration("send_duration_seconds", "Handing the outputs of a turn to the client."),
    duration(
        "commit_duration_seconds",
        "Waiting for acknowledgements and committing offsets (exactly_once: the transaction), failed ones too.",
    ),
)

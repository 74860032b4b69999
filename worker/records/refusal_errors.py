"""The codes of records that can't be used: what ``rnnw.error`` in dead letters and the metrics' label say."""

from __future__ import annotations

# In every task; then those of the tasks that generate.
REFUSAL_ERRORS = (
    "not_utf8", "not_json", "not_msgpack", "not_an_object", "no_key", "bad_key", "header_missing", "field_missing",
    "bad_field", "bad_value", "not_a_number", "not_finite", "wrong_length", "unknown_id", "not_whole", "bad_time",
    "late", "too_large", "bad_command", "bad_state", "invalid_state", "model_error", "output_too_large",
    "output_refused",
    "bad_text", "unknown_item", "unknown_token", "text_and_tokens", "bad_length", "length_too_large",
    "bad_temperature", "no_items", "nothing_to_continue", "empty_source", "source_too_long", "stream_forgotten",
)  # fmt: skip

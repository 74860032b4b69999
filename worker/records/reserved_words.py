"""Words in the configuration that name a part of a record which is not a field of its value."""

from __future__ import annotations

KEY = "key"  # input.stream: the record's key names the stream
TIMESTAMP = "timestamp"  # input.time: the record's timestamp is the event time
HEADER = "header:"  # input.stream: this header names the stream
KEY_FIELD = "key:"  # input.stream: this field of the key, which is JSON, names the stream
NOT_VALUES = (HEADER, KEY_FIELD)
VALUE = "value:"  # before a field's name: a field of the value, whatever its name means elsewhere

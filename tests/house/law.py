"""The law of imports, as data: the rooms of ``worker/`` in one line, what each may see of it, and what it may touch.

docs/design.md has the same table, which a test compares. A new module goes into a room; a new arrow is a change of the
law, to be made here and argued for in the commit.
"""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """``sees``: rooms or single modules of worker it may import from, beside its own. ``touches``: keys of WORLD."""

    holds: str
    sees: str = ""
    touches: str = ""


# What is not pure: a room that doesn't touch it doesn't import it.
WORLD = {
    "files": {"os", "pathlib", "io", "shutil", "tempfile", "zipfile", "stat", "fcntl", "h5py", "yaml"},
    "time": {"time"},
    "threads": {"threading", "queue", "concurrent", "asyncio", "multiprocessing"},
    "chance": {"random", "secrets", "uuid"},
    "network": {"socket", "socketserver", "ssl", "http", "select"},
    "processes": {"subprocess", "signal", "ctypes", "faulthandler"},
    "logs": {"logging"},
    "metrics": {"prometheus_client"},
    "clients": {"kafka", "confluent_kafka"},
    "tensorflow": {"tensorflow", "keras", "google"},
    "screen": {"click", "rich"},
    "opentelemetry": {"opentelemetry"},
}

EVERYTHING = "everything"

LAW = {
    "errors": Room("errors, sorted by what the caller does about them"),
    "records": Room("the values at the seams: records, events, states, arrays, vocabularies, random numbers"),
    "bounded_calls": Room("calls that may never return, with a deadline", "", "threads"),
    "filesystem": Room("a URL as a file system of fsspec", "errors"),
    "stopping": Room("the request to stop, which a signal may set", "", "files network"),
    "processor": Room("the level of the processor's instruction set", "errors", "files"),
    "logs": Room("the log lines", "records errors", "logs time"),
    "streams": Room("the table of streams: rows, rosters; silent, idle and doubled streams", "records"),
    "engine": Room("events → outputs: boundaries, turns, waves, scans, emission", "records streams"),
    "model": Room(
        "Keras files → the streaming form, proven; the batched step",
        "records errors bounded_calls filesystem",
        "files tensorflow",
    ),
    "codecs": Room("bytes → events, outputs → bytes", "records errors"),
    "pipeline": Room("decoder, engine, encoder in a row; the size of a turn", "records streams engine codecs"),
    "kafka": Room(
        "Source and Sink on memory, kafka-python, confluent-kafka; a broker on this machine",
        "records errors bounded_calls",
        "files time threads chance network processes logs clients",
    ),
    "checkpoints": Room(
        "states ↔ HDF5 files, in a folder or anywhere fsspec reaches",
        "records errors bounded_calls filesystem",
        "files time threads chance",
    ),
    "web": Room("metrics and probes over HTTP", "records errors", "time threads network logs metrics"),
    "telemetry": Room(
        "traces, metrics and logs to a collector of OpenTelemetry",
        "records errors logs",
        "time threads logs opentelemetry",
    ),
    "config": Room("YAML and environment → Config, or the lines of the refusal", "records errors", "files"),
    "member": Room(
        "the loop, the commit law, recovery: one member of the group",
        "records errors bounded_calls streams engine codecs pipeline kafka.contracts checkpoints web",
        "logs metrics",
    ),
    "assembly": Room(
        "a configuration → the parts of a worker, put together",
        "records errors processor streams engine model codecs pipeline kafka checkpoints web config member",
        "files time chance logs",
    ),
    "commands": Room(
        "the commands: command.py is light, the rest is loaded when a command is typed", EVERYTHING, EVERYTHING
    ),
}

# In a room that may touch these, only these modules do.
ONLY_HERE = {
    "tensorflow": ("model.backend", "model.files.keras2_operations"),
    "files": (
        "model.backend",
        "model.encoder_decoder",
        "model.files.archives",
        "model.files.fetching",
        "model.files.foreign",
        "model.files.loading",
        "model.files.weights",
        "model.generative",
        "model.pair.two_models",
        "model.streaming",
    ),
}

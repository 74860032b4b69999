"""Which variables of OpenTelemetry turn what on, and what is said where that is not possible."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.said import said
from worker.telemetry import opening
from worker.telemetry.identity import Identity
from worker.telemetry.metric_export import INTERVAL_MS, interval_ms
from worker.telemetry.opening import EXTRA, open_telemetry, wanted

WHERE = "http://127.0.0.1:9"
ALL = {"OTEL_EXPORTER_OTLP_ENDPOINT": WHERE}
IDENTITY = Identity("group", "one", "1.2")


@pytest.mark.parametrize(
    ("environ", "signals"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "scorer"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ()),
        (ALL, ("TRACES", "METRICS", "LOGS")),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": WHERE}, ("METRICS",)),
        ({**ALL, "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp"}, ("METRICS", "LOGS")),
        ({**ALL, "OTEL_SDK_DISABLED": "True"}, ()),
        ({**ALL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("TRACES", "METRICS", "LOGS")),
        ({**ALL, "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
          "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}, ("LOGS",)),
    ],
)  # fmt: skip
def test_what_is_wanted(environ: dict[str, str], signals: tuple[str, ...]) -> None:
    assert wanted(environ) == signals


@pytest.mark.parametrize(
    ("more", "left", "line"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, ("METRICS", "LOGS"),
         "OTEL_TRACES_EXPORTER: 'console' is not available here; set it to otlp or none"),
        ({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, ("TRACES", "METRICS"),
         "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: 'grpc' is not available here, logs are not exported; set it to "
         "http/protobuf and the endpoint to the collector's port for HTTP, mostly 4318"),
    ],
)  # fmt: skip
def test_what_is_not_available_is_said_and_the_remedy_works(
    more: dict[str, str], left: tuple[str, ...], line: str, caplog: Any
) -> None:
    assert wanted({**ALL, **more}) == left
    assert said(caplog) == [line]
    caplog.clear()
    (name,) = more
    for remedy in ("otlp", "none") if name.endswith("EXPORTER") else ("http/protobuf",):
        wanted({**ALL, name: remedy})
    assert said(caplog) == []


def test_without_the_packages_one_line_says_how_to_get_them(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PACKAGES", ("opentelemetry.sdk", "opentelemetry.exporter.of.nobody.http"))
    assert open_telemetry({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": WHERE}, CollectorRegistry(), IDENTITY) is None
    assert said(caplog) == [
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is set, but nothing is exported without the packages of OpenTelemetry; "
        "pip install 'rnn-stream-worker[opentelemetry]'"
    ]
    assert EXTRA in caplog.text
    caplog.clear()
    assert open_telemetry({}, CollectorRegistry(), IDENTITY) is None
    assert said(caplog) == []


def test_nothing_of_it_is_loaded_where_nothing_is_wanted() -> None:
    code = (
        "import sys; from prometheus_client import CollectorRegistry; from worker.telemetry.identity import Identity; "
        "from worker.telemetry.opening import open_telemetry; "
        "assert open_telemetry({}, CollectorRegistry(), Identity('', '', '')) is None; "
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'requests'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


ODD = [
    ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "traces", "OTEL_BSP_MAX_QUEUE_SIZE"),
    ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "99999"}, "traces", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
    ({"OTEL_BLRP_MAX_QUEUE_SIZE": "1"}, "logs", "OTEL_BLRP_MAX_QUEUE_SIZE"),
    ({"OTEL_BLRP_SCHEDULE_DELAY": "0"}, "logs", "OTEL_BLRP_SCHEDULE_DELAY"),
    ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "abc"}, None, "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    ({"OTEL_SPAN_LINK_COUNT_LIMIT": "-3"}, None, "OTEL_SPAN_LINK_COUNT_LIMIT"),
    ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x"}, None, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
]


@pytest.mark.parametrize(("more", "lost", "name"), ODD)
def test_a_variable_that_the_sdk_refuses_ends_no_worker(more: dict[str, str], lost: str | None, name: str) -> None:
    """In a process of its own: some are read when the packages are loaded. Without ``lost`` that is their matter."""
    code = (
        "import os, sys; from prometheus_client import CollectorRegistry; from worker.logs import configure_logs; "
        "from worker.telemetry.identity import Identity; from worker.telemetry.opening import open_telemetry; "
        "configure_logs('text', 'info'); "
        "made = open_telemetry(os.environ, CollectorRegistry(), Identity('g', 'i', '1')); "
        "made and made.close(0.2); print('went on')"
    )
    environ = {**{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}, **ALL, **more}
    environ["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=secret"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    lines = [line for line in done.stderr.splitlines() if " warning " in line and "not exported" in line]
    assert lines
    assert all(name in line for line in lines)
    if lost is not None:
        assert [line.partition("opentelemetry: ")[2].partition(" are not")[0] for line in lines] == [lost]
        left = ", ".join(each for each in ("traces", "metrics", "logs") if each != lost)
        assert f"exporting {left}" in done.stderr
    assert "bug" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("text", "found", "lines"),
    [("", INTERVAL_MS, 0), ("250", 250, 0), ("0", INTERVAL_MS, 1), ("-5", INTERVAL_MS, 1), ("1s", INTERVAL_MS, 1)],
)
def test_an_interval_that_is_none_is_the_standards(text: str, found: int, lines: int, caplog: Any) -> None:
    assert interval_ms({"OTEL_METRIC_EXPORT_INTERVAL": text}) == found
    assert len(said(caplog)) == lines

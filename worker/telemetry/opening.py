"""Whether traces, metrics and logs are exported, as the standard variables of OpenTelemetry say (OTEL_*).

Nothing of OpenTelemetry is loaded before it is known to be wanted.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from worker.telemetry.identity import Identity
from worker.telemetry.refused_variables import not_exported

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from worker.telemetry.exporting import Telemetry

log = logging.getLogger("worker.telemetry")

SIGNALS = ("TRACES", "METRICS", "LOGS")
ENDPOINT, PROTOCOL = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"
ONLY_PROTOCOL = "http/protobuf"
PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
EXTRA = "pip install 'rnn-stream-worker[opentelemetry]'"


def open_telemetry(environ: Mapping[str, str], registry: CollectorRegistry, identity: Identity) -> Telemetry | None:
    """Begin to export what the variables ask for; None when that is nothing, or nothing is installed to do it."""
    signals = wanted(environ)
    if not signals:
        return None
    try:
        return _opened(signals, environ, registry, identity)
    except Exception as error:  # noqa: BLE001 (whatever the SDK raises for a variable, some of it when it is loaded)
        not_exported(environ, signals, error)
        return None


def _opened(
    signals: tuple[str, ...], environ: Mapping[str, str], registry: CollectorRegistry, identity: Identity
) -> Telemetry | None:
    if not _is_installed():
        log.warning(
            "%s is set, but nothing is exported without the packages of OpenTelemetry; %s", _set(environ), EXTRA
        )
        return None
    from worker.telemetry.exporting import Telemetry

    return Telemetry(signals, environ, registry, identity)


def wanted(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The signals that the variables ask for. One warning for each that is asked for in a way that is not available."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    return tuple(signal for signal in SIGNALS if _endpoint(environ, signal) and _is_available(environ, signal))


def _is_available(environ: Mapping[str, str], signal: str) -> bool:
    name = f"OTEL_{signal}_EXPORTER"
    exporter = environ.get(name) or "otlp"
    if exporter not in ("otlp", "none"):
        log.warning("%s: '%s' is not available here; set it to otlp or none", name, exporter)
    own = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    name = own if environ.get(own) else PROTOCOL
    protocol = environ.get(name) or ONLY_PROTOCOL
    if exporter == "otlp" and protocol != ONLY_PROTOCOL:
        log.warning(
            "%s: '%s' is not available here, %s are not exported; set it to %s and the endpoint to the collector's "
            "port for HTTP, mostly 4318", name, protocol, signal.lower(), ONLY_PROTOCOL,
        )  # fmt: skip
    return exporter == "otlp" and protocol == ONLY_PROTOCOL


def _endpoint(environ: Mapping[str, str], signal: str) -> str:
    return environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get(ENDPOINT) or ""


def _set(environ: Mapping[str, str]) -> str:
    """The first variable that asks for something."""
    names = (ENDPOINT, *(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in SIGNALS))
    return next(name for name in names if environ.get(name))


def _is_installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in PACKAGES)
    except ModuleNotFoundError:  # a package around it is missing
        return False

"""Whether kafka-python can be built with the users' options: it is, without a network.

The client checks few values itself, and meets the others when it sends: here they are checked against the types of
their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, codec
from kafka.future import Future
from kafka.net.inet import KafkaNetSocket
from kafka.protocol.broker_version_data import BrokerVersionData

from worker.errors import ConfigError
from worker.kafka.kafka_python.connection import Connection
from worker.kafka.kafka_python.errors import broker_version, client_options
from worker.kafka.kafka_python.network import Network
from worker.kafka.kafka_python.sink import KafkaPythonSink
from worker.kafka.kafka_python.tls import tls_context
from worker.kafka.option_limits import below_least
from worker.kafka.options import KAFKA_PYTHON_TRANSACTIONS, about_missing_codec, missing_codec
from worker.kafka.settings import ClientSettings, Section

LARGEST_NUMBER = 2**31 - 1  # most of them are sent as such
SOCKET_OPTION_PARTS = 3
NEWEST_BROKER = (4, 1)
CLOSE_TIMEOUT_S = 1.0
_DEFAULTS: Mapping[Section, Mapping[str, Any]] = {
    "consumer": KafkaConsumer.DEFAULT_CONFIG,
    "producer": KafkaProducer.DEFAULT_CONFIG,
}
_OBJECTS = ("ssl_context", "sasl_oauth_token_provider", "metric_reporters", "selector")
_NUMBERS = ("receive_buffer_bytes", "send_buffer_bytes")
_TEXTS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile", "ssl_password", "ssl_ciphers", "proxy_url",
          "socks5_proxy", "compression_type")  # fmt: skip


class _Offline(Network):
    """Knows a broker of the newest version, and reaches none."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._manager.broker_version_data = BrokerVersionData(NEWEST_BROKER)
        self._manager.bootstrap_async = lambda *args, **options: Future()  # that nobody ever keeps


def refused_value(section: Section, name: str, value: Any) -> str | None:
    """Why an option can't have this value, in a few words; None when it may."""
    if name not in _DEFAULTS[section]:
        return f"kafka-python's {section} has no such option"
    default = _DEFAULTS[section][name]
    if name in _OBJECTS:
        return "takes a Python object, which a file can't hold; remove it"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"should be true or false, not {value!r}"
    if isinstance(default, (int, float)) or name in _NUMBERS:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not -1 <= value <= LARGEST_NUMBER:
            return f"should be a number up to {LARGEST_NUMBER}, not {value!r}"
        return below_least("kafka-python", name, value)
    if name == "api_version":
        return _refused_version(value)
    if name == "socket_options":
        if not all(isinstance(each, list) and len(each) == SOCKET_OPTION_PARTS for each in _listed(value)):
            return f"should be a list of [level, option, value], not {value!r}"
    elif (isinstance(default, str) or name in _TEXTS) and not isinstance(value, str) and value is not None:
        return f"should be text, not {value!r}"
    return None


def _refused_version(value: Any) -> str | None:
    try:
        if value is not None:
            broker_version(value)
    except ConfigError as error:
        return str(error)
    return None


def missing_codecs() -> list[str]:
    """A line for each compression that can't be read or written here."""
    there = {"snappy": codec.has_snappy, "lz4": codec.has_lz4, "zstd": codec.has_zstd}
    return [about_missing_codec(name) for name, is_there in there.items() if not is_there()]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def refused_client(settings: ClientSettings, section: Section) -> str | None:
    """Why the client of a section can't be built, in a few words; None when it can. Reaches no broker."""
    try:
        if section == "consumer":
            Connection(settings, _Offline).close(CLOSE_TIMEOUT_S)
        else:
            own = (
                {}
                if (name := settings.transactional_id) is None
                else {**KAFKA_PYTHON_TRANSACTIONS, "transactional_id": name}
            )
            KafkaPythonSink(settings, options=own, network=_Offline).close(0.0)
        options = client_options(settings, section, {})
        KafkaNetSocket(options.get("proxy_url") or options.get("socks5_proxy"))
        if str(options.get("security_protocol", "")).endswith("SSL"):
            _build_tls(options)
    except Exception as error:  # noqa: BLE001 (whatever the client's insides say of a value)
        cause = error.__cause__ if isinstance(error, ConfigError) else error
        said = str(cause).removeprefix(f"{type(cause).__name__}: ")
        return missing_codec(said) or f"kafka-python refuses it: {' '.join(said.split()) or type(cause).__name__}"
    return None


def _build_tls(options: Mapping[str, Any]) -> None:
    password = options.get("ssl_password") or ""  # without one, OpenSSL would ask at the terminal
    tls_context({**options, "ssl_password": password})

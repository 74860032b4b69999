"""TLS as kafka-python does it, and the ciphers, an option that it accepts and ignores."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from kafka.net.transport import KafkaSSLTransport


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """A context by the client's own options ``ssl_…``. Raises the errors of Python's TLS about a file or ciphers."""
    given = {name: value for name, value in options.items() if name.startswith("ssl_")}
    context: ssl.SSLContext = KafkaSSLTransport._build_ssl_context({**KafkaSSLTransport.DEFAULT_CONFIG, **given})
    if (ciphers := given.get("ssl_ciphers")) is not None:
        context.set_ciphers(ciphers)
    return context

"""Options that say how a connection is made, as which user, and to whom: they apply to every connection of the worker.

``kafka.security`` applies everywhere. ``kafka.consumer`` and ``kafka.producer`` apply to their own clients, and their
options about connections apply to the others, too: to questions to the cluster, and to the other of the two where it
does not set the same option. Where both set it, questions to the cluster use the consumer's.

Rule of this file: pure functions, no client is imported, so the configuration check can use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from worker.kafka.settings import Client, ClientSettings, Section

_CONNECTION: Mapping[Client, tuple[str, ...]] = {
    "kafka-python": (
        "api_version", "client_dns_lookup", "connections_max_idle_ms", "proxy_url", "receive_buffer_bytes",
        "reconnect_backoff_max_ms", "reconnect_backoff_ms", "send_buffer_bytes", "socket_options", "socks5_proxy",
        "ssl_cafile", "ssl_certfile", "ssl_check_hostname", "ssl_ciphers", "ssl_context", "ssl_crlfile", "ssl_keyfile",
        "ssl_password",
    ),
    "confluent": (
        "api.version.", "broker.address.", "broker.version.fallback", "client.dns.lookup", "connections.max.idle.ms",
        "enable.ssl.certificate.verification", "https.ca.", "reconnect.backoff.",
        "resolve_cb", "socket.", "ssl.", "ssl_",
    ),
}  # fmt: skip

_SECURITY: Mapping[str, Mapping[Client, str]] = {
    "protocol": {"kafka-python": "security_protocol", "confluent": "security.protocol"},
    "mechanism": {"kafka-python": "sasl_mechanism", "confluent": "sasl.mechanism"},
    "username": {"kafka-python": "sasl_plain_username", "confluent": "sasl.username"},
    "password": {"kafka-python": "sasl_plain_password", "confluent": "sasl.password"},
    "ca_file": {"kafka-python": "ssl_cafile", "confluent": "ssl.ca.location"},
    "cert_file": {"kafka-python": "ssl_certfile", "confluent": "ssl.certificate.location"},
    "key_file": {"kafka-python": "ssl_keyfile", "confluent": "ssl.key.location"},
    "key_password": {"kafka-python": "ssl_password", "confluent": "ssl.key.password"},
    "check_hostname": {"kafka-python": "ssl_check_hostname", "confluent": "ssl.endpoint.identification.algorithm"},
}
_CONFLUENT_HOSTNAME = {True: "https", False: "none"}

# Who logs in, and how, is set by kafka.security alone; every other name that begins with sasl belongs to its mechanism.
_LOGIN_KEYS = ("protocol", "username", "password")
_SASL = ("sasl_", "sasl.", "enable.sasl.", "oauth_cb")
_TLS = ("ssl_", "ssl.", "enable.ssl.")
# Further names for a setting of kafka.security: if both are set, they repeat or contradict it.
_SAME: Mapping[str, tuple[str, ...]] = {
    "ca_file": ("ssl.ca.pem", "ssl_ca", "ssl.ca.certificate.stores", "ssl_cadata", "ssl_context",
                "enable.ssl.certificate.verification", "ssl.certificate.verify_cb"),
    "cert_file": ("ssl.certificate.pem", "ssl_certificate", "ssl.keystore.location", "ssl.keystore.password",
                  "ssl_context"),
    "key_file": ("ssl.key.pem", "ssl_key", "ssl_context"),
    "check_hostname": ("ssl_context", "enable.ssl.certificate.verification"),
}  # fmt: skip


def client_options(settings: ClientSettings, section: Section | None) -> dict[str, Any]:
    """The users' options for the client of ``section``, and security; None = for one that asks the cluster."""
    consumer, producer = _of_connections(settings, "consumer"), _of_connections(settings, "producer")
    if section is None:
        chosen = {**producer, **consumer}
    else:
        chosen = {**(producer if section == "consumer" else consumer), **getattr(settings, section)}
    return {**chosen, **security_options(settings.client, settings.security)}


def _of_connections(settings: ClientSettings, section: Section) -> dict[str, Any]:
    names = _CONNECTION[settings.client]
    return {
        name: value
        for name, value in getattr(settings, section).items()
        if name in names or (settings.client == "confluent" and name.startswith(names))
    }


def security_options(client: Client, security: Mapping[str, Any]) -> dict[str, Any]:
    """``kafka.security`` in the words of ``client``; keys without a value are left out."""
    unknown = set(security) - set(_SECURITY)
    assert not unknown, f"unknown security keys: {sorted(unknown)}"
    spelt = {_SECURITY[key][client]: value for key, value in security.items() if value is not None}
    if (
        client == "kafka-python"
        and str(security.get("mechanism")).startswith("SCRAM")
        and "sasl_plain_username" in spelt
    ):
        # RFC 5802, 5.1; librdkafka does this itself.
        spelt["sasl_plain_username"] = spelt["sasl_plain_username"].replace("=", "=3D").replace(",", "=2C")
    if client == "confluent":
        if (name := _SECURITY["check_hostname"][client]) in spelt:
            spelt[name] = _CONFLUENT_HOSTNAME[spelt[name]]
        if (certificate := security.get("cert_file")) is not None:
            spelt.setdefault(_SECURITY["key_file"][client], certificate)  # one file may hold both
    return spelt


def contradicting_security(section: Section, options: Mapping[str, Any], security: Mapping[str, Any]) -> Iterator[str]:
    """Settings in ``options`` that ``kafka.security`` sets, or should set: a line each, that begins with the key's
    path.

    In either client's spelling: the wrong spelling is not an option at all, but this message says more.
    """
    protocol = str(security.get("protocol", "PLAINTEXT"))
    for name in options:
        where = f"kafka.{section}.{name}"
        login = next((key for key in _LOGIN_KEYS if name in _SECURITY[key].values()), None)
        if login is not None:
            yield f"{where}: is set by kafka.security.{login}, for every connection; remove it here"
        elif name.startswith(_SASL):
            yield f"{where}: how to log in is set by kafka.security.mechanism, for every connection; remove it here"
        elif name.startswith(_TLS):
            said = next((key for key, value in security.items() if value is not None and _says(key, name)), None)
            if said is not None:
                yield f"{where}: kafka.security.{said} sets this already, for every connection; remove one of the two"
            elif not protocol.endswith("SSL"):
                yield f"{where}: is not used with kafka.security.protocol {protocol} (SSL or SASL_SSL)"


def _says(key: str, name: str) -> bool:
    return name in _SECURITY[key].values() or name in _SAME.get(key, ())

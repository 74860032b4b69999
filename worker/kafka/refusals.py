"""What to say when a broker refuses our connection: one sentence per reason, the same for both clients, each with a
remedy.

Rule of this file: no client is imported; the code of each client maps its words to one of these reasons.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

Reason: TypeAlias = Literal[
    "login", "mechanism", "no_login", "untrusted", "expired", "other_name", "unverified", "asks_certificate",
    "refuses_certificate", "plain_port", "no_handshake", "tls_ended", "tls_failed", "tls_port", "login_port",
    "http_port", "foreign_port",
]  # fmt: skip

# A commit's note names the records whose texts are unfinished, in as many bytes as brokers take by default.
NOTE_TOO_LONG = "the brokers take no such note with a commit; set their offset.metadata.max.bytes to 4096, its default"
TOLD_LIMIT = 5  # servers that a line names

_SENTENCES: Mapping[Reason, str] = {
    "login": "the login is refused; check kafka.security.username and kafka.security.password",
    "mechanism": "the login by {mechanism} is refused; check kafka.security.mechanism",
    "no_login": "this port has no logins; check the port, or kafka.security.protocol",
    "untrusted": "the broker's certificate is not signed by an authority that is trusted here; "
    "check kafka.security.ca_file",
    "expired": "the broker's certificate has expired; it must be renewed there",
    "other_name": "the broker's certificate is for a name other than the address; reach it at that name "
    "(kafka.bootstrap_servers and the brokers' advertised.listeners), or set kafka.security.check_hostname: false",
    "unverified": "the broker's certificate can't be verified; check kafka.security.ca_file, and whether the "
    "certificate is for this address and has not expired",
    "asks_certificate": "the broker asks for a certificate of this client; set kafka.security.cert_file and "
    "kafka.security.key_file",
    "refuses_certificate": "the broker refuses the certificate of this client; check kafka.security.cert_file",
    "plain_port": "the broker does not speak TLS on this port; check the port, or kafka.security.protocol "
    "(PLAINTEXT or SASL_PLAINTEXT)",
    "no_handshake": "the broker does not speak TLS on this port, or asks for a certificate of this client; check the "
    "port, kafka.security.protocol (PLAINTEXT or SASL_PLAINTEXT), or kafka.security.cert_file",
    "tls_ended": "the connection ends right after the TLS handshake, as when a broker asks for a certificate of this "
    "client; check kafka.security.cert_file, or the port",
    "tls_failed": "broker and worker can't agree on TLS; check the port and kafka.security",
    "tls_port": "the connection ends without an answer, as on a port that speaks TLS; check the port, or "
    "kafka.security.protocol (SSL or SASL_SSL)",
    "login_port": "the connection ends at the first question, as on a port that wants a login; check the port, "
    "or kafka.security.protocol (SASL_SSL or SASL_PLAINTEXT)",
    "http_port": "this port speaks HTTP, which is not Kafka's protocol; check the port in kafka.bootstrap_servers, or "
    "kafka.security.protocol",
    "foreign_port": "this port does not speak Kafka's protocol; check the port in kafka.bootstrap_servers, or "
    "kafka.security.protocol",
}
# OpenSSL's X509_V_ERR_*: of a host name or an IP address, of dates, of the issuer
_REASONS: Mapping[int, Reason] = {
    62: "other_name", 64: "other_name", 9: "expired", 10: "expired",
    2: "untrusted", 18: "untrusted", 19: "untrusted", 20: "untrusted", 21: "untrusted",
}  # fmt: skip
# A broker that starts or stops may close connections, too: these reasons mean something only if nothing ever worked.
_DOUBTFUL = ("plain_port", "no_handshake", "tls_ended", "tls_port", "login_port", "http_port", "foreign_port")
_HTTP, _TLS_ALERT = b"HTTP", b"\x15\x03"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the broker at ``server`` (host:port) refuses us; ``detail`` in the words of the client or the broker."""

    server: str
    reason: Reason
    detail: str = ""
    mechanism: str | None = None

    @property
    def sure(self) -> bool:
        """Whether this reason is certain."""
        return self.reason not in _DOUBTFUL

    def __str__(self) -> str:
        sentence = _SENTENCES[self.reason].format(mechanism=self.mechanism)
        what, _, remedy = sentence.partition("; ")
        detail = f" ({' '.join(self.detail.split())})" if self.detail else ""
        return f"{self.server}: {what}{detail}; {remedy}"


def about_answer(length: int, *, encrypted: bool) -> Reason:
    """What kind of server answers with these first four bytes; a Kafka broker begins with the answer's length."""
    begun = length.to_bytes(4, "big", signed=length < 0)
    if begun == _HTTP:
        return "http_port"
    return "tls_port" if begun.startswith(_TLS_ALERT) and not encrypted else "foreign_port"


def not_answered(within_s: float) -> str:
    """For a server that says nothing, not even a refusal."""
    return f"it has not answered within {within_s:g} s"


def no_server(failures: Iterable[tuple[str, str]]) -> str:
    """What to say when nobody refuses us and nobody answers: how each server failed."""
    said = [f"{server}: {why}" for server, why in islice(failures, TOLD_LIMIT)]
    return f"no server has answered ({'; '.join(said)})" if said else "no server has answered"


def about_certificates(security: Mapping[str, Any]) -> Reason:
    """What a broker means when it does not accept this client's certificate."""
    return "asks_certificate" if security.get("cert_file") is None else "refuses_certificate"


def about_verification(error: ssl.SSLCertVerificationError) -> Reason:
    """What is wrong with the broker's certificate."""
    return _REASONS.get(error.verify_code, "unverified")

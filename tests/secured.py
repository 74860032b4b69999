"""A broker with every kind of listener, and the certificates for it, made anew for each run.

Certificates of an authority of our own: ``good`` is for 127.0.0.1, ``other`` for another name, ``expired`` was for
127.0.0.1; ``client`` is a client's, its key encrypted.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import HOST, free_port

USER, PASSWORD, KEY_PASSWORD = "svc", "right", "of the key"
DAY = datetime.timedelta(days=1)
# Name of a listener → what it speaks, the certificate that it shows, whether it asks for one.
LISTENERS = {
    "TLS": ("SSL", "good", "none"),
    "OTHER": ("SSL", "other", "none"),
    "EXPIRED": ("SSL", "expired", "none"),
    "MUTUAL": ("SSL", "good", "required"),
    "LOGIN": ("SASL_PLAINTEXT", None, "none"),
    "SECURE": ("SASL_SSL", "good", "none"),
    "AGAIN": ("SASL_PLAINTEXT", None, "none"),  # asks for the login every second or two; by SCRAM-SHA-256 alone
}
REAUTHENTICATE_MS = 1_500


class Authority:
    """Signs certificates; its own is ``NAME.pem`` in ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = (
            self._begun(self._name, self._key.public_key(), 30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.file.write_bytes(self.pem)

    def issue(self, name: str, host: str, days: int = 30, password: str | None = None) -> None:
        """Write ``NAME.pem`` (the key first, then the certificate), ``NAME.key`` and ``NAME.crt``."""
        key = ec.generate_private_key(ec.SECP256R1())
        hidden: Any = serialization.NoEncryption()
        if password is not None:
            hidden = serialization.BestAvailableEncryption(password.encode())
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._begun(subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
        shown = certificate.public_bytes(serialization.Encoding.PEM)
        for suffix, content in ((".key", secret), (".crt", shown), (".pem", secret + shown + self.pem)):
            (self._folder / f"{name}{suffix}").write_bytes(content)

    def _begun(self, subject: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + days * DAY)
        )


@dataclass(frozen=True)
class Secured:
    """``folder`` has the certificates; ``plain`` is the address without encryption or login."""

    broker: EmbeddedKafka
    folder: Path
    ports: dict[str, int]

    @property
    def plain(self) -> str:
        return self.broker.bootstrap_servers

    def at(self, listener: str) -> str:
        """``host:port`` of a listener."""
        return f"{HOST}:{self.ports[listener]}"

    def file(self, name: str) -> str:
        return str(self.folder / name)


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """A broker with all of LISTENERS, and two authorities: ``ours.pem`` and ``stranger.pem``."""
    ours = Authority(folder, "ours")
    Authority(folder, "stranger")
    ours.issue("good", HOST)
    ours.issue("other", "broker.internal")
    ours.issue("expired", HOST, days=-1)
    ours.issue("client", "client", password=KEY_PASSWORD)
    ports: dict[str, int] = {}
    while len(set(ports.values())) < len(LISTENERS):
        ports = {name: free_port() for name in LISTENERS}
    with EmbeddedKafka(properties=_properties(folder), listeners=ports) as broker:
        yield Secured(broker, folder, ports)


def _properties(folder: Path) -> dict[str, object]:
    protocols = {
        "CONTROLLER": "PLAINTEXT",
        "PLAINTEXT": "PLAINTEXT",
        **{name: each[0] for name, each in LISTENERS.items()},
    }
    found: dict[str, object] = {
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "PLAINTEXT",
    }
    for name, (protocol, certificate, asks) in LISTENERS.items():
        own = f"listener.name.{name.lower()}."
        if certificate is not None:
            found |= {
                f"{own}ssl.keystore.type": "PEM",
                f"{own}ssl.keystore.location": folder / f"{certificate}.pem",
                f"{own}ssl.truststore.type": "PEM",
                f"{own}ssl.truststore.location": folder / "ours.pem",
                f"{own}ssl.client.auth": asks,
            }
        if name == "AGAIN":
            login = "org.apache.kafka.common.security.scram.ScramLoginModule"
            found |= {
                f"{own}sasl.enabled.mechanisms": "SCRAM-SHA-256",
                f"{own}scram-sha-256.sasl.jaas.config": f"{login} required;",
                f"{own}scram-sha-256.connections.max.reauth.ms": REAUTHENTICATE_MS,
            }
        elif protocol.startswith("SASL"):
            login = "org.apache.kafka.common.security.plain.PlainLoginModule"
            found |= {
                f"{own}sasl.enabled.mechanisms": "PLAIN",
                f"{own}plain.sasl.jaas.config": f'{login} required user_{USER}="{PASSWORD}";',
            }
    return found

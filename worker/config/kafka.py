"""The section ``kafka`` of the configuration: the cluster, the group, and how to log in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from worker.config.values import Section, Switch, Text

ADDRESS = re.compile(r"(?P<scheme>\w+://)?(\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+)(:(?P<port>[0-9]{1,5}))?")
LARGEST_PORT = 65_535


class Security(Section):
    """How the worker reaches the brokers, on every connection."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] | None = None
    """How to log in, for SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; others are not available yet."""
    oauth: dict[str, Any] | None = Field(default=None, repr=False)
    """How to get a token, for OAUTHBEARER; not available yet."""
    username: SecretStr | None = None
    """User name, for SASL."""
    username_file: Path | None = None
    """File that holds the user name, such as a mounted secret."""
    password: SecretStr | None = None
    """Password, for SASL: from the environment, ${NAME}, or use password_file."""
    password_file: Path | None = None
    """File that holds the password, such as a mounted secret."""
    ca_file: Path | None = None
    """PEM file of the authorities that sign the brokers' certificates; null: those of the system."""
    cert_file: Path | None = None
    """PEM file of this client's certificate, where the brokers ask for one."""
    key_file: Path | None = None
    """PEM file of the key that belongs to cert_file; null: it is in cert_file."""
    key_password: SecretStr | None = None
    """Password of an encrypted key: from the environment, ${NAME}, or use key_password_file."""
    key_password_file: Path | None = None
    """File that holds the password of the key, such as a mounted secret."""
    check_hostname: Switch = True
    """Whether the name in a broker's certificate must be that of the address it is reached at."""


class Kafka(Section):
    """The cluster and the consumer group."""

    bootstrap_servers: Text = "localhost:9092"
    """Brokers to ask first, host:port, several with commas between them."""
    client: Literal["kafka-python", "confluent"] = "kafka-python"
    """kafka-python, or confluent (faster; needs the extra rnn-stream-worker[confluent])."""
    group_id: Text = "rnn-stream-worker"
    """Consumer group: workers of one group share the partitions among themselves."""
    instance_id: Text | None = None
    """Name of this member for static membership, e.g. ${HOSTNAME}: a quick restart then moves no partition."""
    security: Security = Security()
    """How the worker reaches the brokers, on every connection."""
    consumer: dict[str, Any] = Field(default={}, repr=False)
    """More options for the client's consumer, as they are; those that the worker must control are refused."""
    producer: dict[str, Any] = Field(default={}, repr=False)
    """More options for the client's producer, as they are; those that the worker must control are refused."""

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, servers: str) -> str:
        for server in map(str.strip, servers.split(",")):
            found = ADDRESS.fullmatch(server)
            if found is None or not 1 <= int(found["port"] or LARGEST_PORT) <= LARGEST_PORT:
                raise ValueError(f"'{server}' is not an address; write host:port, several with commas between them")
            if found["scheme"]:  # kafka-python would ignore it silently, even one that asks for TLS
                scheme, _, host = server.partition("://")
                raise ValueError(f"'{server}': write {host} ({scheme} belongs in kafka.security.protocol)")
        return servers

"""Why a connection of kafka-python was not opened, read from the error that it ended with."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from kafka import errors

from worker.kafka.refusals import Reason, about_certificates, about_verification

_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE", "CERTIFICATE_REQUIRED", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REVOKED", "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED",
)  # fmt: skip
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
ENDED = "socket disconnected"  # in the client's words


def reason_of(error: BaseException, config: Mapping[str, Any], *, answered: bool) -> Reason | None:
    """Why a connection was not opened, None when it was not refused. ``answered``: the broker has said a word."""
    if isinstance(error, errors.SaslAuthenticationFailedError):
        return "login"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return "mechanism"
    if isinstance(error, errors.IllegalSaslStateError):
        return "no_login"
    cause = cause_of(error)
    if isinstance(cause, ssl.SSLError):
        return _about_tls(cause, config)
    encrypted = config["security_protocol"].endswith("SSL")
    if encrypted and str(error).startswith("KafkaConnectionError: Handshake failed"):
        return "plain_port" if isinstance(cause, OSError) else "tls_failed"
    if not encrypted and not answered and (ENDED in str(error) or isinstance(error, errors.InvalidReceiveError)):
        return "tls_port"  # it closes the connection, after an alert that is no answer of Kafka's
    return None


def _about_tls(error: ssl.SSLError, config: Mapping[str, Any]) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError):
        return about_verification(error)
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError) or reason in _NOT_TLS:
        return "plain_port"
    if any(alert in reason for alert in _CERTIFICATE_ALERTS):
        return about_certificates({"cert_file": config["ssl_certfile"]})
    return "tls_failed"


def cause_of(error: BaseException) -> BaseException:
    """What the client has wrapped into an error of its own."""
    inner = error.args[0] if error.args else None
    if isinstance(inner, BaseException):
        return inner
    return error.__context__ or error


def plain(error: BaseException) -> str:
    """The client's words without the name of their class."""
    return str(error).removeprefix(f"{type(error).__name__}: ")


def detail_of(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message).rstrip(".")
    return str(error).rpartition(": ")[2] if isinstance(error, errors.SaslAuthenticationFailedError) else ""

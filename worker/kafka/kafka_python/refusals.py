"""Why a connection of kafka-python was not opened, read from the error that it ended with."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from kafka import errors

from worker.kafka.refusals import Reason, about_answer, about_certificates, about_verification

_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE", "CERTIFICATE_REQUIRED", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REVOKED", "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED",
)  # fmt: skip
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST")
_END_IN_TLS = "UNEXPECTED_EOF_WHILE_READING"
_ENDED = "socket disconnected"  # in the client's words
_FRAME = re.compile(r"Invalid frame length: (-?\d+)")
_RESET = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


def reason_of(error: BaseException, config: Mapping[str, Any], *, answered: bool) -> Reason | None:
    """Why a connection was not opened, None when it was not refused. ``answered``: the broker has sent something."""
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
        return "no_handshake" if isinstance(cause, OSError) else "tls_failed"
    if not answered and has_ended(error):
        return "tls_ended" if encrypted else "tls_port"
    if not answered and (frame := _FRAME.search(str(error))) is not None:
        return about_answer(int(frame[1]), encrypted=encrypted)
    if not answered and isinstance(error, errors.CorrelationIdError):
        return "foreign_port"
    return None


def has_ended(error: BaseException) -> bool:
    """Whether the other side has ended an open connection, cleanly or not."""
    return _ENDED in str(error) or isinstance(cause_of(error), _RESET)


def _about_tls(error: ssl.SSLError, config: Mapping[str, Any]) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError):
        return about_verification(error)
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return "plain_port"
    if isinstance(error, ssl.SSLEOFError) or reason == _END_IN_TLS:
        return "no_handshake"
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

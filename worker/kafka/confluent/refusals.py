"""Why brokers refuse librdkafka: its log says so, its caller is told only that there is no answer.

It does not say what is wrong with a certificate; Python's own TLS is asked for that.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from worker.errors import KafkaRefusedError, KafkaUnavailableError
from worker.kafka.confluent.errors import REFUSED, translate
from worker.kafka.refusals import (
    Reason,
    Refusal,
    about_answer,
    about_certificates,
    about_verification,
    no_server,
    not_answered,
)
from worker.kafka.settings import ClientSettings

log = logging.getLogger("worker.kafka")

LOOK_TIMEOUT_S = 3.0
DEFAULT_PORT = 9092
_PORT = re.compile(r":\d+$")
_SILENT = "Timed out"
_SIZE = re.compile(r"Invalid response size (-?\d+)")
_BROKER = re.compile(r"^(?:\[thrd:[^\]]*\]: )?(?:GroupCoordinator: )?(?:\w+://)?(\S+?:\d+)(?:/\w+)?: (.*)", re.DOTALL)
_STATE = re.compile(r" *\(after \d+ms in state (\w+).*\)$", re.DOTALL)
# What librdkafka says → what it means; the first that is found counts.
_WORDS: tuple[tuple[str, Reason], ...] = (
    ("Unsupported SASL mechanism", "mechanism"),
    ("not valid in current SASL state", "no_login"),
    ("SASL authentication error", "login"),
    ("certificate verify failed", "unverified"),
    ("alert bad certificate", "asks_certificate"),
    ("alert certificate required", "asks_certificate"),
    ("alert unknown ca", "asks_certificate"),
    ("alert certificate", "asks_certificate"),
    ("connecting to a PLAINTEXT broker listener", "no_handshake"),  # its guess whenever a connection ends
    ("wrong version number", "plain_port"),
    ("SSL handshake failed", "tls_failed"),
)
_ENDED = "Disconnected"
_FIRST_QUESTION = "APIVERSION_QUERY"
_BY_STATE: Mapping[str, Reason] = {_FIRST_QUESTION: "tls_port", "UP": "login_port", "SSL_HANDSHAKE": "no_handshake"}


class Attempts:
    """The outcome of each server while a client connects for the first time. For its ``logger=`` and ``error_cb``.

    The client says it many times a second, so the log has none of it until ``let_in``: the error says it once.
    """

    def __init__(self, settings: ClientSettings, timeout_s: float) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._servers = [_with_port(server.strip()) for server in settings.bootstrap_servers.split(",")]
        self._failed: dict[str, Refusal | None] = {}
        self._said: dict[str, str] = {}  # server → its last failure
        self._lock = threading.Lock()
        self._let_in = False

    def let_in(self) -> None:
        """The client is connected: from here on its messages are logged as they come."""
        self._let_in = True

    def log(self, level: int, text: str, *words: str) -> None:
        """Called by the client's threads."""
        log.log(level if self._let_in else logging.DEBUG, text, *words)
        self._note(words[-1] if words else text)

    def error(self, error: KafkaError) -> None:
        """For its ``error_cb``."""
        level = logging.ERROR if error.fatal() else logging.INFO
        log.log(level if self._let_in else logging.DEBUG, "kafka: %s: %s", error.name(), error.str())
        self._note(error.str())

    def _note(self, said: str) -> None:
        if self._let_in:
            return
        if (found := _BROKER.match(said)) is not None:
            with self._lock:
                self._failed.setdefault(found[1], None)
                if _SILENT not in found[2]:
                    self._said[found[1]] = _STATE.sub("", found[2])
                if (refusal := refusal_of(found[1], found[2], self._settings.security)) is not None:
                    self._failed[found[1]] = refusal

    def refusal(self, *, waiting: bool) -> Refusal | None:
        """Why no server accepts us. ``waiting``: None while a server that has not failed yet may still accept us."""
        with self._lock:
            failed = dict(self._failed)
        if waiting and len(failed) < len(self._servers):
            return None
        refusals = sorted(filter(None, failed.values()), key=lambda refusal: not refusal.sure)
        return explained(refusals[0], self._settings) if refusals else None

    @contextmanager
    def told(self, serve: Callable[[float], object]) -> Iterator[None]:
        """Raise the reason for a missing answer, where the client only says that there is none.

        ``serve``: lets the client hand out its pending messages. Raises KafkaUnavailableError (KafkaRefusedError), and
        the client's other errors as ``translated`` does.
        """
        where = f"kafka at {self._settings.bootstrap_servers}"
        try:
            yield
        except KafkaException as error:
            meaning = translate(error.args[0], where) or error
            if isinstance(meaning, KafkaUnavailableError):
                with suppress(KafkaException):
                    serve(0)
                if (refusal := self.refusal(waiting=False)) is not None:
                    meaning = KafkaRefusedError(f"{where}: {refusal}")
                else:
                    meaning = KafkaUnavailableError(f"{where}: {self._unanswered()}")
            raise meaning from error

    def _unanswered(self) -> str:
        with self._lock:
            said = dict(self._said)
        # A listed server that did answer names others: then those can't be reached.
        named = [server for server in said if server not in self._servers] or self._servers
        silent = not_answered(self._timeout_s)
        return no_server((server, said.get(server, silent)) for server in named)


class Refused:
    """For a client that was once connected: whether it is refused now. It says so once for each try."""

    def __init__(self, settings: ClientSettings) -> None:
        self._security = settings.security
        self._found: Refusal | None = None

    def note(self, error: KafkaError) -> None:
        """For its ``error_cb``."""
        found = _BROKER.match(error.str())
        if error.code() in REFUSED and found is not None:
            self._found = refusal_of(found[1], found[2], self._security) or self._found

    def check(self, read: Sequence[object]) -> None:
        """Raises KafkaRefusedError, once for each try, when nothing was ``read``: else not all brokers refuse us."""
        found, self._found = self._found, None
        if found is not None and not read:
            raise KafkaRefusedError(f"kafka: {found}")


def _with_port(server: str) -> str:
    return server if _PORT.search(server) else f"{server}:{DEFAULT_PORT}"


def refusal_of(server: str, said: str, security: Mapping[str, Any]) -> Refusal | None:
    """What a line of librdkafka's log about a connection to ``server`` means; None when it is not refused."""
    state = _STATE.search(said)
    text = said[: state.start()] if state else said
    for words, reason in _WORDS:
        if words in text:
            detail = text.rpartition(": ")[2] if reason == "login" else ""
            if reason == "asks_certificate":
                reason = about_certificates(security)
            return Refusal(server, reason, detail, security.get("mechanism"))
    secured = str(security.get("protocol", "PLAINTEXT"))
    if state and state[1] == _FIRST_QUESTION and (size := _SIZE.search(text)) is not None:
        return Refusal(server, about_answer(int(size[1]), encrypted=secured.endswith("SSL")))
    if state and text.startswith(_ENDED) and (closed := _BY_STATE.get(state[1])) is not None:
        if closed == "tls_port" and secured.endswith("SSL"):
            closed = "tls_ended"
        if closed == "login_port" and secured.startswith("SASL"):
            return None
        return Refusal(server, closed)
    return None


def explained(refusal: Refusal, settings: ClientSettings) -> Refusal:
    """What is wrong with the certificate, where librdkafka only says that something is."""
    if refusal.reason != "unverified":
        return refusal
    host, _, port = refusal.server.rpartition(":")
    context = ssl.create_default_context(cafile=settings.security.get("ca_file"))
    context.check_hostname = settings.security.get("check_hostname") is not False
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), LOOK_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host.strip("[]")),
        ):
            return refusal
    except ssl.SSLCertVerificationError as error:
        return Refusal(refusal.server, about_verification(error), error.verify_message.rstrip("."))
    except (OSError, ValueError):
        return refusal

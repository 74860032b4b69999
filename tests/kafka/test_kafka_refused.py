"""Who is not let in is told why, in seconds and with a remedy; and options of connections reach the first one, too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.conftest import eventually
from tests.reached import reached
from tests.running import WAIT_S, get, worker
from tests.secured import KEY_PASSWORD, PASSWORD, USER, Secured, secured_broker
from tests.sequences import configuration, save_model
from tests.subscribed import subscribed
from worker.errors import KafkaRefusedError, KafkaUnavailableError
from worker.kafka.embedded.local_ports import free_port
from worker.kafka.opening import ensure_topics, open_questions, open_sink, open_source
from worker.kafka.settings import Client, ClientSettings
from worker.records.messages import Messages

CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
LONG_S = 120.0  # for questions: a refusal is told long before
TLS = {"protocol": "SSL", "ca_file": "ours.pem"}
LOGIN = {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": USER, "password": PASSWORD}
MUTUAL = {**TLS, "cert_file": "client.crt", "key_file": "client.key", "key_password": KEY_PASSWORD}

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("certificates")) as found:
        reached(lambda: ensure_topics(ClientSettings(found.plain), {"in": 1}))
        yield found


def settings(secured: Secured, client: Client, listener: str, security: dict[str, Any], **more: Any) -> ClientSettings:
    files = {key: secured.file(name) for key, name in security.items() if key.endswith("_file")}
    servers = secured.plain if listener == "PLAINTEXT" else secured.at(listener)
    return ClientSettings(servers, client, f"group-{client}", security={**security, **files}, **more)


REFUSED = [
    ("TLS", {**TLS, "ca_file": "stranger.pem"}, "not signed by an authority that is trusted here", "ca_file"),
    ("OTHER", TLS, "is for a name other than the address", "check_hostname: false"),
    ("EXPIRED", TLS, "has expired", "renewed"),
    ("MUTUAL", TLS, "asks for a certificate of this client", "cert_file"),
    ("PLAINTEXT", TLS, "does not speak TLS on this port", "kafka.security.protocol"),
    (
        "LOGIN",
        {**LOGIN, "protocol": "SASL_SSL", "ca_file": "ours.pem"},
        "does not speak TLS",
        "kafka.security.protocol",
    ),
    ("TLS", {}, "as on a port that speaks TLS", "SSL or SASL_SSL"),
    ("SECURE", LOGIN, "as on a port that speaks TLS", "SSL or SASL_SSL"),
    ("LOGIN", {**LOGIN, "password": "wrong"}, "the login is refused (Invalid username or password)", "password"),
    ("LOGIN", {**LOGIN, "username": "nobody"}, "the login is refused", "kafka.security.username"),
    ("LOGIN", {**LOGIN, "mechanism": "SCRAM-SHA-256"}, "the login by SCRAM-SHA-256 is refused", "mechanism"),
    ("LOGIN", {}, "as on a port that wants a login", "SASL_SSL or SASL_PLAINTEXT"),
    ("SECURE", TLS, "as on a port that wants a login", "SASL_SSL or SASL_PLAINTEXT"),
    ("PLAINTEXT", LOGIN, "this port has no logins", "kafka.security.protocol"),
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("listener", "security", "why", "remedy"), REFUSED)
def test_the_reason_is_told_with_a_remedy(
    secured: Secured, client: Client, listener: str, security: dict[str, Any], why: str, remedy: str
) -> None:
    with (
        pytest.raises(KafkaRefusedError) as told,
        open_questions(settings(secured, client, listener, security), LONG_S),
    ):
        pass
    said = str(told.value)
    assert why in said
    assert remedy in said
    assert "\n" not in said


LET_IN = [
    ("TLS", TLS, {}),
    ("MUTUAL", MUTUAL, {}),
    ("MUTUAL", {**TLS, "cert_file": "client.pem", "key_password": KEY_PASSWORD}, {}),  # one file holds both
    ("LOGIN", LOGIN, {}),
    ("SECURE", {**LOGIN, **TLS, "protocol": "SASL_SSL"}, {}),
    ("OTHER", {**TLS, "check_hostname": False}, {}),
    # The options of the client's own, given for one of its parts.
    ("OTHER", TLS, {"kafka-python": {"ssl_check_hostname": False},
                    "confluent": {"ssl.endpoint.identification.algorithm": "none"}}),
]  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("listener", "security", "options"), LET_IN)
@pytest.mark.parametrize("section", ["consumer", "producer"])
def test_every_connection_is_made_as_security_and_options_say(
    secured: Secured, client: Client, listener: str, security: dict[str, Any], options: dict[str, Any], section: str
) -> None:
    given = settings(secured, client, listener, security, **{section: options.get(client, {})})
    with open_questions(given, LONG_S) as cluster:
        assert cluster.partitions("in") == 1
        assert cluster.partitions("nowhere") is None
    sink = open_sink(given)
    sink.send("in", Messages([b"device"], [b"1"]))
    sink.flush(LONG_S)
    sink.close(LONG_S)
    source, owned = subscribed(given, "in")
    eventually(lambda: source.poll(10, 0.2) or owned)
    assert source.topic("in", LONG_S).partitions == 1
    source.close(LONG_S)


def test_a_refusal_leaves_no_traceback_in_the_log(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for client in CLIENTS:
            with (
                pytest.raises(KafkaRefusedError),
                open_questions(settings(secured, client, "MUTUAL", TLS), LONG_S),
            ):
                pass
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def set_password(secured: Secured, password: str, user: str = USER) -> None:
    wanted = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    admin = AdminClient({"bootstrap.servers": secured.plain})
    for answer in admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(user, wanted, password.encode())]
    ).values():
        answer.result()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("user", ["s=c,r", "=2C", "a@b"])
def test_any_user_name_logs_in_by_scram(secured: Secured, client: Client, user: str) -> None:
    set_password(secured, "p,a=s", user)
    login = {**LOGIN, "mechanism": "SCRAM-SHA-256", "username": user, "password": "p,a=s"}
    given = settings(secured, client, "AGAIN", login)
    with open_questions(given, LONG_S) as cluster:
        assert cluster.partitions("in") == 1
    open_source(given).close(LONG_S)
    open_sink(given).close(LONG_S)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_login_that_is_refused_while_running_is_told_and_mended(secured: Secured, client: Client) -> None:
    set_password(secured, PASSWORD)
    given = settings(secured, client, "AGAIN", {**LOGIN, "mechanism": "SCRAM-SHA-256"})
    source, owned = subscribed(replace(given, group_id=f"running-{client}"), "in")

    def refused() -> str:
        try:
            source.poll(10, 0.2)
        except KafkaRefusedError as error:
            return str(error)
        except KafkaUnavailableError:
            pass
        return ""

    def reads() -> bool:
        sink = open_sink(ClientSettings(secured.plain, client))
        sink.send("in", Messages([b"device"], [b"1"]))
        sink.flush(LONG_S)
        sink.close(LONG_S)
        try:
            return bool(source.poll(10, 0.2))
        except KafkaUnavailableError:
            return False

    eventually(lambda: refused() or owned)
    assert owned
    set_password(secured, "another")
    said = eventually(refused)
    assert "the login is refused" in said
    assert "check kafka.security.username and kafka.security.password" in said
    set_password(secured, PASSWORD)
    eventually(reads)
    source.close(LONG_S)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_with_a_wrong_password_says_so_and_goes_on_when_it_is_mended(
    secured: Secured, client: Client, tmp_path: Path
) -> None:
    save_model(tmp_path / "model.keras")
    keys = configuration(tmp_path, secured.at("AGAIN"), client, ("in", "out", "dead"))
    keys["kafka"]["security"] = {**LOGIN, "mechanism": "SCRAM-SHA-256"}
    keys["http"]["port"] = port = free_port()
    (tmp_path / "worker.yaml").write_text(yaml.safe_dump(keys))
    reached(lambda: ensure_topics(ClientSettings(secured.plain), {"out": 1, "dead": 1}))
    set_password(secured, "another")
    with worker(tmp_path, "worker"):
        status, said = eventually(
            lambda: found if (found := get(port, "/readyz"))[1].count("refused") else None, WAIT_S
        )
        assert status == 503
        assert "the login is refused" in said
        assert "check kafka.security.username and kafka.security.password" in said
        set_password(secured, PASSWORD)
        eventually(lambda: get(port, "/readyz")[0] == 200, WAIT_S)
    log = (tmp_path / "worker.log").read_text()
    lines = [line for line in log.splitlines() if "the login is refused" in line and "trying again in" in line]
    assert lines
    assert "Traceback" not in log

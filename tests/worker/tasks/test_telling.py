"""What goes out: signed, retried, replayable, to public addresses alone; mails one a reader."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.utils import timezone

from governance.models import Notice, WebhookDelivery
from governance.services import webhooks
from governance.vocabulary import DeliveryState, Role
from tests import factories
from worker import outgoing
from worker.tasks import telling


class Receiver:
    """A server of the test's own that keeps what it is sent and answers as it is told."""

    def __init__(self):
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                told = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append((self.path, told, body))
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(settings):
    made = Receiver()
    settings.RECLAIM_WEBHOOK_HOSTS = (made.host,)
    yield made
    made.stop()


@pytest.fixture
def message(db, receiver):
    endpoint = factories.webhook(url=f"http://{receiver.host}/in?a=1")
    return factories.webhook_delivery(
        endpoint=endpoint, body='{"type":"webhook.test"}', due_at=timezone.now()
    )


def test_a_message_arrives_once_with_a_signature_anyone_with_the_secret_can_check(
    receiver, message
):
    assert telling.deliver_webhooks.run() == 1
    assert telling.deliver_webhooks.run() == 0
    ((path, headers, body),) = receiver.got
    assert path == "/in?a=1"
    assert json.loads(body) == {"type": "webhook.test"}
    secret = webhooks.secret_of(message.endpoint)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    message.refresh_from_db()
    assert message.state == DeliveryState.DELIVERED
    attempt = message.attempts.get()
    assert (attempt.status, attempt.address) == (204, "127.0.0.1")


def test_a_failed_try_is_repeated_later_and_logged_each_time(receiver, message):
    receiver.answers = [500]
    assert telling.deliver_webhooks.run() == 0
    message.refresh_from_db()
    assert message.state == DeliveryState.DUE
    assert message.due_at > timezone.now()
    assert telling.deliver_webhooks.run() == 0
    WebhookDelivery.objects.update(due_at=timezone.now())
    assert telling.deliver_webhooks.run() == 1
    assert sorted(one.status for one in message.attempts.all()) == [204, 500]
    ids = {headers["webhook-id"] for _, headers, _ in receiver.got}
    assert ids == {f"msg_{message.pk.hex}"}


def test_a_message_is_given_up_after_its_last_wait(receiver, message):
    for _ in range(len(webhooks.WAITS_S) + 1):
        webhooks.record(message, webhooks.Answer(503), at=timezone.now())
    message.refresh_from_db()
    assert message.state == DeliveryState.FAILED
    assert telling.deliver_webhooks.run() == 0


def test_an_endpoint_that_says_it_is_gone_is_told_nothing_more(receiver, message):
    receiver.answers = [410]
    telling.deliver_webhooks.run()
    message.endpoint.refresh_from_db()
    assert message.endpoint.disabled_at is not None


def test_a_redirect_is_a_failure_and_is_not_followed(receiver, message):
    receiver.answers = [307]
    assert telling.deliver_webhooks.run() == 0
    assert [path for path, _, _ in receiver.got] == ["/in?a=1"]


def test_a_replayed_message_keeps_its_id(receiver, message):
    telling.deliver_webhooks.run()
    by = factories.account(role=Role.LEGAL)
    webhooks.replay(message, by=by, at=timezone.now())
    assert telling.deliver_webhooks.run() == 1
    first, second = (headers["webhook-id"] for _, headers, _ in receiver.got)
    assert first == second


def test_a_private_address_is_never_asked_where_it_is_not_allowed(receiver, message, settings):
    settings.RECLAIM_WEBHOOK_HOSTS = ()
    assert telling.deliver_webhooks.run() == 0
    assert receiver.got == []
    assert message.attempts.get().error.startswith("not sent")


# ── The guard ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::808:808",
        "2002:a00:1::1",
        "2001:0:1::1",
        "not an address",
    ],
)
def test_an_address_that_is_not_of_the_open_internet_is_refused(address):
    assert not outgoing.is_public(address)
    with pytest.raises(outgoing.Refused):
        outgoing.post("https://hooks.example/in", b"{}", {}, look_up=lambda *_: [address])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_an_ordinary_address_is_public(address):
    assert outgoing.is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse():
    with pytest.raises(outgoing.Refused, match="10"):
        outgoing.post(
            "https://hooks.example/in", b"", {}, look_up=lambda *_: ["93.184.215.14", "10.0.0.1"]
        )


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/in",
        "https://hooks.example:8443/in",
        "ftp://hooks.example/in",
        "https://a:b@hooks.example/in",
        "https:///in",
    ],
)
def test_an_address_of_another_form_is_refused(url):
    with pytest.raises(outgoing.Refused):
        outgoing.post(url, b"", {}, look_up=lambda *_: ["93.184.215.14"])


def test_a_name_is_looked_up_once_and_the_checked_address_is_the_one_asked(receiver):
    asked = []

    def look_up(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    reply = outgoing.post(
        f"http://hooks.example:{receiver.port}/in",
        b"{}",
        {},
        allowed=["hooks.example"],
        look_up=look_up,
    )
    assert asked == ["hooks.example"]
    assert (reply.status, reply.address) == (204, "127.0.0.1")
    assert receiver.got[0][1]["host"] == f"hooks.example:{receiver.port}"


# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────
def notice(account, **fields):
    at = timezone.now()
    defaults = {
        "key": f"n{Notice.objects.count()}",
        "kind": "licence.ended",
        "subject": "licence:L",
        "title": "L ends",
        "text": "Disabled, not erased.",
        "account": account,
        "told_at": at,
        "mail_at": at - timedelta(seconds=1),
    }
    return Notice.objects.create(**{**defaults, **fields})


def test_several_notices_for_one_reader_are_one_mail(db, mailoutbox):
    person = factories.account()
    notice(person)
    notice(person, title="M ends")
    assert telling.send_mails.run() == 1
    assert telling.send_mails.run() == 0
    (mail,) = mailoutbox
    assert mail.to == [person.email]
    assert "L ends" in mail.body
    assert "M ends" in mail.body


def test_a_mail_that_fails_is_tried_again_later(db, mailoutbox, monkeypatch):
    person = factories.account()
    notice(person)

    def refuse(*_):
        raise OSError("no server")

    with monkeypatch.context() as broken:
        broken.setattr(telling, "send_mail", refuse)
        assert telling.send_mails.run() == 0
    waiting = Notice.objects.get()
    assert waiting.mailed_at is None
    assert "no server" in waiting.mail_error
    assert waiting.mail_at > timezone.now()
    Notice.objects.update(mail_at=timezone.now())
    assert telling.send_mails.run() == 1

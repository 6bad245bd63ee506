"""Telling: what the log says becomes notices; mails and webhooks go out, each a row until then.

On a queue of its own: an endpoint that takes ten seconds to answer holds up no seal and no expiry.
"""

from __future__ import annotations

import http.client
import logging
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.core.mail import send_mail
from django.utils import timezone

from governance.models import WebhookDelivery
from governance.services import notices, webhooks
from governance.services.webhooks import Answer
from worker import outgoing
from worker.celery import app

log = logging.getLogger(__name__)

AT_ONCE = 8
"""How many endpoints are asked at the same time; a slow one holds up no other."""

MOST_A_RUN = 64


@app.task(name="reclaim.tell_of_log")
def tell_of_log() -> int:
    """Turn the next sealed events into notices and messages; returns how many leaves were read."""
    read = 0
    while count := notices.tell_of_log(at=timezone.now()):
        read += count
    return read


@app.task(name="reclaim.deliver_webhooks")
def deliver_webhooks() -> int:
    """Send the messages that are due; returns how many arrived."""
    due = webhooks.claim_due(at=timezone.now(), limit=MOST_A_RUN)
    if not due:
        return 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(deliver, due))
    for delivery, answer in zip(due, answers, strict=True):
        webhooks.record(delivery, answer, at=timezone.now())
    return sum(answer.is_delivered for answer in answers)


def deliver(delivery: WebhookDelivery) -> Answer:
    """Try once; touches no database, so it may run in any thread."""
    headers = webhooks.headers(delivery, at=timezone.now())
    url, body = delivery.endpoint.url, delivery.body.encode()
    allowed = settings.RECLAIM_WEBHOOK_HOSTS
    try:
        reply = outgoing.post(url, body, headers, allowed=allowed)
    except outgoing.Refused as refusal:
        return Answer(None, f"not sent: {refusal}")
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, f"{type(error).__name__}: {error}")
    said = "" if 200 <= reply.status < 300 else f"expected 2xx, found {reply.status}"
    return Answer(reply.status, said, reply.address, reply.took_ms)


@app.task(name="reclaim.send_mails")
def send_mails() -> int:
    """Send the mails that are due; returns how many were handed over."""
    sent = 0
    for mail in notices.mails_due(at=timezone.now()):
        try:
            send_mail(mail.subject, mail.body, None, [mail.to])
        except OSError as error:  # SMTP errors are of its kind
            log.warning("a mail could not be sent: %s", error)
            notices.mail_failed(mail, f"{type(error).__name__}: {error}", at=timezone.now())
            continue
        sent += 1
        notices.mailed(mail, at=timezone.now())
    return sent


@app.task(name="reclaim.remind")
def remind() -> dict[str, int]:
    """Tell of ends that come near, of duties overdue, and ask again who has not acknowledged."""
    return notices.remind(at=timezone.now())

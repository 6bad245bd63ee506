"""Mail: plain text and HTML of one template pair, sent when what it tells of is committed."""

from __future__ import annotations

import smtplib
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from governance.services.invitations import Sent

_log = structlog.get_logger("reclaim.web")


def send_invitation(sent: Sent) -> bool:
    """Mail the link of an invitation. False where no mail could be handed over; send it again."""
    invitation = sent.invitation
    link = settings.RECLAIM_PUBLIC_URL + reverse("invitation", args=[sent.token])
    whom = str(invitation.owner) if invitation.owner else "the staff of Reclaim"
    return _send(
        "invitation",
        to=invitation.email,
        subject=f"[Reclaim] You are invited to join {whom}",
        context={"invitation": invitation, "link": link, "whom": whom},
    )


def _send(template: str, *, to: str, subject: str, context: dict[str, Any]) -> bool:
    plain = render_to_string(f"mail/{template}.txt", context)
    message = EmailMultiAlternatives(" ".join(subject.split()), plain, to=[to])
    message.attach_alternative(render_to_string(f"mail/{template}.html", context), "text/html")
    try:
        return bool(message.send())
    except (OSError, smtplib.SMTPException) as failure:
        # The address stays out of the log: it names a person.
        _log.warning("mail_not_sent", template=template, error=type(failure).__name__)
        return False

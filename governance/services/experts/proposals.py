"""Anchors and experts before there are weights: registered, proposed, ordered to be trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import transaction

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import (
    Account,
    Anchor,
    Corpus,
    DataOwner,
    Expert,
    FollowUp,
)
from governance.services import followups
from governance.services.experts import rows
from governance.vocabulary import (
    PUBLIC_EXPERT,
    EventTag,
    FollowUpKind,
)

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@transaction.atomic
def register_anchor(
    digest: str, *, title: str, parameter_count: int, by: Account | None, at: datetime
) -> Anchor:
    """Note the public base that experts are trained beside. Repeatable by digest."""
    anchor, is_new = Anchor.objects.get_or_create(
        digest=digest,
        defaults={"title": title, "parameter_count": parameter_count, "registered_at": at},
    )
    if is_new:
        events.stage(
            EventTag.ANCHOR_REGISTERED,
            subject=f"anchor:{digest}",
            by=by,
            at=at,
            details={"title": title, "parameter_count": parameter_count},
        )
    return anchor


@transaction.atomic
def order_anchor_training(
    *, order: Mapping[str, Any], by: Account | None, at: datetime
) -> FollowUp:
    """Have a new anchor trained. Its row appears when there is a digest to name it by."""
    follow_up = followups.open(
        FollowUpKind.TRAIN,
        subject_kind="anchor",
        subject_id=uuid4(),
        cause="an anchor was ordered",
        order=order,
        at=at,
    )
    events.stage(
        EventTag.TRAINING_ORDERED,
        subject="anchor",
        by=by,
        at=at,
        details={"follow_up": str(follow_up.pk)},
    )
    return follow_up


@transaction.atomic
def propose(
    name: str,
    *,
    title: str,
    owner: DataOwner,
    corpus: Corpus,
    by: Account | None,
    at: datetime,
) -> Expert:
    """Name a place in the model for what a corpus teaches.

    Raises:
        InvalidTerms: the name is odd, taken or reserved, or the corpus is somebody else's.
    """
    fields = {}
    if not NAME.fullmatch(name):
        fields["name"] = "Small letters, digits and hyphens, beginning with a letter."
    elif name == PUBLIC_EXPERT or Expert.objects.filter(name=name).exists():
        fields["name"] = "Taken, or reserved for the public expert."
    if corpus.owner_id != owner.pk:
        fields["corpus"] = f"Belongs to {corpus.owner}, not to {owner}."
    if fields:
        found = "; ".join(f"{field}: {message}" for field, message in fields.items())
        raise InvalidTerms(
            f"expected a new expert on its owner's corpus, found {found}", fields=fields
        )
    expert = Expert.objects.create(
        name=name, title=title, owner=owner, corpus=corpus, proposed_at=at
    )
    events.stage(
        EventTag.EXPERT_PROPOSED,
        subject=f"expert:{name}",
        by=by,
        at=at,
        details={"owner": owner.slug, "corpus": corpus.slug},
    )
    return expert


@transaction.atomic
def order_training(
    expert: Expert, *, order: Mapping[str, Any], by: Account | None, at: datetime
) -> FollowUp:
    """Have the expert trained here.

    Raises:
        NotCovered: no consent stands, or no licence in force lets us train.
        UnlawfulMove: the expert was withdrawn.
    """
    found = rows.locked(expert)
    rows.check_covered(found, at)
    follow_up = followups.open(
        FollowUpKind.TRAIN,
        subject_kind="expert",
        subject_id=found.pk,
        cause=f"training of {found} was ordered",
        order=order,
        at=at,
    )
    events.stage(
        EventTag.TRAINING_ORDERED,
        subject=f"expert:{found.name}",
        by=by,
        at=at,
        details={"follow_up": str(follow_up.pk)},
    )
    return follow_up

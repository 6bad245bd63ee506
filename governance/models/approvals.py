"""Approvals: routes, requests on them, and what people did, of which nothing is ever edited."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.documents import Document
from governance.models.owners import Account, DataOwner
from governance.vocabulary import ApprovalKind, ApprovalState, ApprovalVerb

_FINAL = [
    ApprovalState.APPROVED.value,
    ApprovalState.REJECTED.value,
    ApprovalState.VOID.value,
    ApprovalState.WITHDRAWN.value,
]
_ROUTE_FIELDS = ("key", "version", "kind", "title", "conditions", "steps", "rules", "is_on")


class ApprovalRoute(models.Model):
    """One version of the way requests of a kind go. In force once adopted, until the next one is.

    `conditions` narrows it (`owners`, `payment_types`, `is_exclusive`, `rate_above`); all that are
    named must hold. `steps` is a list of `{"title", "role", "group", "needed", "days"}` in order;
    `role` and `group` may be empty, `days` null. `rules` are the bots that may act on it.
    """

    id = identity()
    key = models.SlugField(max_length=64)
    version = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=ApprovalKind.choices())
    title = models.CharField(max_length=200)
    conditions = models.JSONField(default=dict, blank=True)
    steps = models.JSONField(default=list)
    rules = words()
    is_on = models.BooleanField(default=True)
    proposed_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    proposed_at = instant()
    adopted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("kind", "key", "-version")
        triggers = [
            pgtrigger.Protect(
                name="approval_route_never_edited",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(*_ROUTE_FIELDS, "proposed_by"),
            ),
            pgtrigger.Protect(
                name="approval_route_adopted_once",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__adopted_at__isnull=False),
            ),
            pgtrigger.Protect(name="approval_route_never_deleted", operation=pgtrigger.Delete),
        ]
        constraints = [
            models.UniqueConstraint(name="approval_route_version_once", fields=["key", "version"]),
        ]

    def __str__(self) -> str:
        return f"{self.title} (version {self.version})"


# The codes in these functions are those of the vocabulary; tests/governance/models hold them to it.
_DECIDED_STAYS = """
IF OLD.state IN ('approved', 'rejected', 'void', 'withdrawn') AND (
    NEW.state <> OLD.state OR NEW.digest <> OLD.digest OR NEW.content <> OLD.content
    OR NEW.requested_by_id <> OLD.requested_by_id OR NEW.round <> OLD.round
) THEN
    RAISE EXCEPTION 'approval_decided_stays: request % is %', OLD.id, OLD.state
        USING ERRCODE = 'check_violation';
END IF;
RETURN NEW;
"""
_COUNTED = """
IF NEW.state = 'approved' AND OLD.state <> NEW.state AND EXISTS (
    SELECT 1 FROM governance_approvalstep s
    WHERE s.request_id = NEW.id AND s.round = NEW.round AND s.needed > (
        SELECT count(*) FROM governance_approvalact a
        WHERE a.request_id = NEW.id AND a.round = NEW.round
          AND a.step_number = s.number AND a.verb = 'approve'
          AND a.digest = NEW.digest)
) THEN
    RAISE EXCEPTION 'approval_counts_people: a step of request % lacks approvals', NEW.id
        USING ERRCODE = 'check_violation';
END IF;
RETURN NEW;
"""


class ApprovalRequest(models.Model):
    """One thing somebody asks for, bound to the digest of exactly what was asked.

    `content` is what the digest is over, for whoever reads it years later. A request returned for
    change goes on in the next `round` with a new digest, steps and deadline: what its requester
    asks for next in the same `thread` (a corpus, an expert, a consumer) is the same request.
    `due_at` is the deadline of the step it is at; while `paused_at` is set the clock stands.
    `spent_at`: an approval to be used once (an api_key) has been used.
    """

    id = identity()
    kind = models.CharField(max_length=16, choices=ApprovalKind.choices())
    subject_kind = models.CharField(max_length=16)
    subject_id = models.CharField(max_length=64)
    thread = models.CharField(max_length=80)
    title = models.CharField(max_length=200)
    content = models.JSONField(default=dict)
    digest = sha256()
    owner = models.ForeignKey(
        DataOwner,
        on_delete=models.PROTECT,
        related_name="approval_requests",
        null=True,
        blank=True,
    )
    route_key = models.SlugField(max_length=64)
    route_version = models.PositiveIntegerField(default=0)
    rules = words()
    requested_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    opened_at = instant()
    round = models.PositiveIntegerField(default=1)
    step_number = models.PositiveIntegerField(default=1)
    due_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(
        max_length=16, choices=ApprovalState.choices(), default=ApprovalState.OPEN
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    closing_words = models.TextField(blank=True)
    spent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-opened_at",)
        indexes = [
            models.Index(fields=["state", "due_at"], name="approval_state_due"),
            models.Index(fields=["kind", "subject_id"], name="approval_subject"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="approval_begins_open",
                operation=pgtrigger.Insert,
                condition=~pgtrigger.Q(new__state=ApprovalState.OPEN.value),
            ),
            pgtrigger.Trigger(
                name="approval_decided_stays",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                func=_DECIDED_STAYS,
            ),
            pgtrigger.Trigger(
                name="approval_counts_people",
                operation=pgtrigger.Update,
                when=pgtrigger.Before,
                func=_COUNTED,
            ),
            pgtrigger.Protect(name="approval_never_deleted", operation=pgtrigger.Delete),
        ]
        constraints = [
            models.UniqueConstraint(
                name="approval_asked_once",
                fields=["kind", "digest"],
                condition=Q(state=ApprovalState.OPEN),
            ),
            models.CheckConstraint(
                name="approval_closed_with_its_time",
                condition=Q(state__in=_FINAL, closed_at__isnull=False)
                | (~Q(state__in=_FINAL) & Q(closed_at__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return self.title


class ApprovalStep(models.Model):
    """One step of a request's round, copied from its route so that a later route changes nothing.

    With neither `role` nor `group` it is any second person whom the act itself lets in.
    """

    id = identity()
    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="steps")
    round = models.PositiveIntegerField(default=1)
    number = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    role = models.CharField(max_length=16, blank=True)
    group = models.CharField(max_length=64, blank=True)
    needed = models.PositiveIntegerField(default=1)
    days = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("request", "round", "number")
        triggers = append_only("approval_step")
        constraints = [
            models.UniqueConstraint(
                name="approval_step_once", fields=["request", "round", "number"]
            ),
            models.CheckConstraint(name="approval_step_needs_someone", condition=Q(needed__gte=1)),
        ]

    def __str__(self) -> str:
        return self.title


_FOUR_EYES = """
SELECT * INTO asked FROM governance_approvalrequest WHERE id = NEW.request_id FOR UPDATE;
IF NEW.verb = 'delegate' AND NEW.delegate_id = asked.requested_by_id THEN
    RAISE EXCEPTION 'approval_four_eyes: the requester may not be a delegate'
        USING ERRCODE = 'check_violation';
END IF;
IF NEW.verb NOT IN ('approve', 'reject', 'return') THEN
    RETURN NEW;
END IF;
IF asked.state <> 'open' OR asked.round <> NEW.round
    OR asked.step_number <> NEW.step_number THEN
    RAISE EXCEPTION 'approval_in_order: request % is % at step %', asked.id, asked.state,
        asked.step_number USING ERRCODE = 'check_violation';
END IF;
IF asked.digest <> NEW.digest THEN
    RAISE EXCEPTION 'approval_bound_to_digest: request % asks for another digest', asked.id
        USING ERRCODE = 'check_violation';
END IF;
IF asked.requested_by_id = NEW.actor_id OR asked.requested_by_id = NEW.on_behalf_of_id
    OR EXISTS (
        SELECT 1 FROM governance_approvalact a
        WHERE a.request_id = asked.id AND a.verb = 'submit'
          AND (a.actor_id = NEW.actor_id OR a.actor_id = NEW.on_behalf_of_id)
    ) THEN
    RAISE EXCEPTION 'approval_four_eyes: a requester of % may not decide it', asked.id
        USING ERRCODE = 'check_violation';
END IF;
IF NEW.verb = 'approve' AND EXISTS (
    SELECT 1 FROM governance_approvalact a
    WHERE a.request_id = asked.id AND a.round = NEW.round AND a.verb = NEW.verb
      AND (a.actor_id IN (NEW.actor_id, COALESCE(NEW.on_behalf_of_id, NEW.actor_id))
        OR a.on_behalf_of_id IN (NEW.actor_id, COALESCE(NEW.on_behalf_of_id, NEW.actor_id)))
) THEN
    RAISE EXCEPTION 'approval_one_person_once: this person approved % already', asked.id
        USING ERRCODE = 'check_violation';
END IF;
RETURN NEW;
"""


class ApprovalAct(models.Model):
    """What one person did with a request. Append-only.

    `digest` is what the actor saw; a decision names the digest asked for. `on_behalf_of` is the
    absent colleague whose right was used. Four eyes, and one person once over all steps, are held
    by a trigger whoever writes the row.
    """

    id = identity()
    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="acts")
    round = models.PositiveIntegerField(default=1)
    step_number = models.PositiveIntegerField(default=1)
    verb = models.CharField(max_length=16, choices=ApprovalVerb.choices())
    actor = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    on_behalf_of = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    delegate = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    digest = sha256()
    words = models.TextField(blank=True)
    is_visible_to_owner = models.BooleanField(default=False)
    document = models.ForeignKey(
        Document, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    acted_at = instant()

    class Meta:
        ordering = ("acted_at",)
        indexes = [models.Index(fields=["request", "acted_at"], name="approval_act_order")]
        triggers = [
            *append_only("approval_act"),
            pgtrigger.Trigger(
                name="approval_four_eyes",
                operation=pgtrigger.Insert,
                when=pgtrigger.Before,
                declare=[("asked", "governance_approvalrequest%ROWTYPE")],
                func=_FOUR_EYES,
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                name="approval_act_one_approval_a_person",
                fields=["request", "round", "actor"],
                condition=Q(verb=ApprovalVerb.APPROVE),
            ),
            models.CheckConstraint(
                name="approval_act_has_an_actor",
                condition=Q(actor__isnull=False) | Q(verb=ApprovalVerb.VOID),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} by {self.actor}"


class ApprovalDelegation(models.Model):
    """A colleague decides in somebody's place between two instants; `kinds` null is all kinds."""

    id = identity()
    giver = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="delegations_given")
    taker = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="delegations_taken")
    kinds = words(null=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)
    recorded_at = instant()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-starts_at",)
        triggers = [
            pgtrigger.Protect(
                name="approval_delegation_never_edited",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    "giver", "taker", "kinds", "starts_at", "ends_at", "reason"
                ),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="approval_delegation_to_another", condition=~Q(giver=F("taker"))
            ),
            models.CheckConstraint(
                name="approval_delegation_ends_after_it_starts",
                condition=Q(ends_at__gt=F("starts_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.giver} → {self.taker}"

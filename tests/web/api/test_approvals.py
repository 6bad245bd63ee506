"""REST of approvals: lists for staff, acts under four eyes, threads, routes, absences."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from governance.models import ApprovalRequest

pytestmark = pytest.mark.django_db


@pytest.fixture
def plays(story) -> ApprovalRequest:
    return ApprovalRequest.objects.get(subject_id=story.waiting_licence.pk)


def post(client, path, **body):
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def test_requests_are_listed_and_filtered_for_staff_alone(by, plays):
    for name, expected in (("celia", 200), ("edda", 200), ("aude", 200), ("ada", 404)):
        assert by(name).get("/api/v1/approvals").status_code == expected, name
    found = by("celia").get("/api/v1/approvals?state=open&kind=licence").json()["results"]
    assert [row["id"] for row in found] == [str(plays.pk)]
    assert found[0]["steps"][0]["needed"] == 1
    assert by("celia").get("/api/v1/approvals?overdue=true").json()["results"] == []
    assert by("ada").get(f"/api/v1/approvals/{plays.pk}").status_code == 404


def test_a_request_is_discussed_paused_and_signed(by, plays):
    celia = by("celia")
    path = f"approvals/{plays.pk}"
    assert post(celia, f"{path}/comments", words="Why so long?").status_code == 201
    assert post(celia, f"{path}/pause", words="Holiday").json()["paused_at"]
    assert post(celia, f"{path}/resume").json()["paused_at"] is None
    file = SimpleUploadedFile("memo.txt", b"memo", content_type="text/plain")
    attached = celia.post(f"/api/v1/{path}/attachments", {"file": file})
    assert attached.status_code == 201
    signed = post(celia, f"{path}/approve", words="Read").json()
    assert signed["state"] == "approved"
    assert [act["verb"] for act in signed["acts"]] == [
        "submit", "comment", "pause", "resume", "attach", "approve",
    ]  # fmt: skip


def test_returning_without_words_names_the_field(by, plays):
    answer = post(by("celia"), f"approvals/{plays.pk}/return")
    assert answer.status_code == 422
    assert list(answer.json()["fields"]) == ["words"]


def test_engineers_and_auditors_do_not_decide_what_waits_for_legal(by, plays):
    assert post(by("edda"), f"approvals/{plays.pk}/approve").status_code == 403
    assert post(by("aude"), f"approvals/{plays.pk}/approve").status_code == 404


def test_a_request_is_handed_over_but_not_to_its_requester(by, plays):
    path = f"approvals/{plays.pk}/hand-over"
    assert post(by("celia"), path, to="cato@example.org").json()["code"] == "four_eyes"
    assert post(by("celia"), path, to="nobody@example.org").status_code == 404


def test_a_key_is_asked_for_and_a_waiver(by, story):
    asked = {"consumer": "dara", "label": "web", "purposes": ["research"]}
    found = post(by("cato"), "approvals/keys", **asked)
    assert found.status_code == 201
    assert found.json()["content"]["consumer"] == "dara"
    again = post(by("cato"), "approvals/keys", **asked)
    assert again.status_code == 409
    waiver = {"revision": str(story.audited.pk), "words": "Needed"}
    made = post(by("edda"), "approvals/waivers", **waiver)
    assert made.json()["steps"][0]["needed"] == 2
    assert post(by("edda"), f"approvals/{made.json()['id']}/withdraw").json()["state"] == (
        "withdrawn"
    )


def test_routes_are_read_and_proposed(by):
    celia = by("celia")
    shipped = {row["key"]: row["version"] for row in celia.get("/api/v1/approval-routes").json()}
    assert shipped["licence"] == 0
    step = {"title": "Both", "role": "legal", "needed": 2}
    body = {"key": "licence", "kind": "licence", "title": "Two", "steps": [step]}
    assert post(celia, "approval-routes", **body).json()["kind"] == "route"
    wrong = post(celia, "approval-routes", **{**body, "is_on": False})
    assert (wrong.status_code, list(wrong.json()["fields"])) == (422, ["is_on"])


def test_an_absence_is_recorded_for_oneself(by):
    now = timezone.now()
    body = {
        "taker": "celia@example.org",
        "starts_at": now.isoformat(),
        "ends_at": (now + timedelta(days=1)).isoformat(),
    }
    assert post(by("cato"), "absences", **body).status_code == 201
    assert len(by("celia").get("/api/v1/absences").json()["results"]) == 1

"""Engineers see every expert, run, build and runner, and order what is missing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import Build, Expert, FollowUp
from governance.vocabulary import BuildState, FollowUpKind, FollowUpState, RevisionState
from modelops.training.recipe import ExpertRecipe
from tests import factories

HTMX = {"HX-Request": "true"}
TRAINING = {
    "corpus_path": "/data/news/train.jsonl.xz",
    "heldout_path": "/data/news/heldout.jsonl.xz",
    "steps": "280",
    "batch_windows": "4",
    "context": "256",
    "peak_lr": "0.01",
    "seed": "3",
}


def text_of(answer) -> str:
    return answer.content.decode()


def test_an_expert_is_proposed(by):
    asked = {"name": "plays", "title": "Plays", "corpus": "plays-texts"}
    assert by("edda").post("/engineer/experts/", asked).url == "/engineer/experts/plays/"
    assert Expert.objects.get(name="plays").owner.slug == "alder-press"


@pytest.mark.parametrize("name", ["code", "public", "Plays", "1st"])
def test_a_name_that_is_taken_or_odd_is_refused_at_the_field(by, name):
    asked = {"name": name, "title": "Plays", "corpus": "plays-texts"}
    answer = by("edda").post("/engineer/experts/", asked)
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == ["name"]


def test_the_page_of_an_expert_shows_its_audit(by):
    page = text_of(by("edda").get("/engineer/experts/news/"))
    for said in ("Revision 1", "0.0010", "Request activation"):
        assert said in page


def test_what_is_blocked_and_not_yet_rebuilt_away_is_shown_as_both(by):
    rows = text_of(by("edda").get("/engineer/experts/")).split("<tr>")
    said = {name: row for row in rows for name in ("code", "poems") if f">{name}</a>" in row}
    assert "In the build, blocked" in said["poems"]
    assert "blocked" not in said["code"]


def test_a_training_order_is_one_a_worker_can_carry_out(by):
    from worker.tasks.contributions import recipe_of

    assert by("edda").post("/engineer/experts/news/training/", TRAINING).url == "/engineer/runs/"
    order = FollowUp.objects.get(kind=FollowUpKind.TRAIN).order
    recipe = recipe_of(ExpertRecipe, order["recipe"])
    assert (recipe.schedule.steps, recipe.context, recipe.seed) == (280, 256, 3)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"corpus_path": ""}, "corpus_path"),
        ({"steps": "1"}, "steps"),
        ({"peak_lr": "7"}, "peak_lr"),
    ],
)
def test_a_training_without_sense_is_refused_at_the_field(by, change, field):
    answer = by("edda").post("/engineer/experts/news/training/", {**TRAINING, **change})
    assert answer.status_code == 422
    assert list(answer.context["training_form"].errors) == [field]
    assert not FollowUp.objects.filter(kind=FollowUpKind.TRAIN).exists()


def test_what_was_taken_back_is_not_trained(by):
    answer = by("edda").post("/engineer/experts/poems/training/", TRAINING)
    assert answer.status_code == 422
    assert not FollowUp.objects.filter(kind=FollowUpKind.TRAIN).exists()


def test_a_revision_is_audited_again(by, story):
    asked = {"members_path": "/m", "controls_path": "/c", "windows": "300", "seed": "1"}
    path = f"/engineer/revisions/{story.audited.pk}/audit/"
    before = FollowUp.objects.filter(kind=FollowUpKind.AUDIT).count()
    assert by("edda").post(path, asked).url == "/engineer/runs/"
    assert FollowUp.objects.filter(kind=FollowUpKind.AUDIT).count() == before + 1


def test_an_audit_without_documents_is_refused_at_the_field(by, story):
    path = f"/engineer/revisions/{story.audited.pk}/audit/"
    answer = by("edda").post(path, {"members_path": "/m", "windows": "300", "seed": "1"})
    assert answer.status_code == 422
    assert "revision-1-controls_path_error" in text_of(answer)


def test_an_activation_is_requested_by_an_engineer_and_decided_by_no_engineer(by, story):
    path = f"/engineer/revisions/{story.audited.pk}/activation/"
    by("edda").post(path)
    story.audited.refresh_from_db()
    assert story.audited.state == RevisionState.ACTIVATION_REQUESTED
    decided = by("edda").post(f"/legal/revisions/{story.audited.pk}/approve/")
    assert decided.status_code == 404


def test_runs_are_live_while_one_is_under_way(by):
    page = text_of(by("edda").get("/engineer/runs/"))
    assert 'hx-trigger="every 1s"' in page
    assert 'max="300" value="120"' in page
    assert "news r1" in page


def test_runs_that_are_over_ask_for_nothing(by):
    page = text_of(by("edda").get("/engineer/runs/?state=failed"))
    assert "expected 1.2 GB free" in page
    assert "hx-trigger" not in page.split('id="runs"')[1]


def test_an_unknown_filter_filters_nothing(by):
    assert "news r1" in text_of(by("edda").get("/engineer/runs/?state=x&kind=y&page=z"))


def test_the_live_rows_come_alone(by):
    for path, mark in (("/engineer/runs/", "runs"), ("/engineer/runners/", "runners")):
        answer = by("edda").get(path, headers=HTMX)
        assert text_of(answer).lstrip().startswith(f'<div id="{mark}"')


def test_a_rebuild_is_planned_from_what_is_active(by):
    answer = by("edda").post("/engineer/builds/", {"reason": "A new anchor"})
    assert answer.url == "/engineer/builds/"
    build = Build.objects.latest("number")
    assert (build.state, build.reason) == (BuildState.PLANNED, "A new anchor")
    assert [entry["name"] for entry in build.experts] == ["code", "languages"]


def test_a_rebuild_without_a_reason_is_refused(by):
    answer = by("edda").post("/engineer/builds/", {"reason": ""})
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == ["reason"]


def test_a_build_shows_its_proof_as_it_is(by, story):
    page = text_of(by("edda").get(f"/engineer/builds/{story.build.number}/"))
    assert "&quot;masked_equals_rebuilt&quot;: true" in page
    assert "&amp;quot;" not in page


def test_a_runner_that_stopped_renewing_is_stale(by):
    shown = by("edda").get("/engineer/runners/").context["rows"]
    rows = {lease.runner: state for lease, state in shown}
    assert rows == {"runner-1": "serving", "runner-2": "stale"}


def test_a_gate_refusal_says_what_to_do(by, story):
    factories.revision(
        expert=story.cast.experts["news"],
        state=RevisionState.REFUSED,
        submitted_at=timezone.now() - timedelta(hours=1),
        gate_report={
            "passed": False,
            "refusals": [
                {
                    "code": "not_finite",
                    "tensor": "model.layers.0.mlp.router_row",
                    "expected": "finite numbers",
                    "found": "3 NaN",
                    "remedy": "Train again with a lower rate.",
                }
            ],
        },
    )
    page = text_of(by("edda").get("/engineer/experts/news/"))
    assert "expected finite numbers, found 3 NaN" in page
    assert "Train again with a lower rate." in page


def test_a_failed_run_keeps_its_reason(by):
    failed = FollowUp.objects.get(state=FollowUpState.FAILED)
    assert failed.last_error[:20] in text_of(by("edda").get("/engineer/runs/"))


def test_the_playground_offers_what_policy_permits_and_says_why_not(by, story):
    dara = story.cast.dara
    factories.api_key(consumer=dara, scopes=["playground"], purposes=["research"], prefix="own")
    page = by("edda").get("/playground/")
    lines = {line.name: [why.value for why in line.why] for line in page.context["lines"]}
    assert lines == {"code": [], "languages": [], "poems": ["WITHDRAWN"]}
    (_, purpose), *_ = page.context["form"].fields["purpose"].choices
    assert purpose == "Research"
    part = by("edda").get("/playground/?key=own&purpose=academic_research", headers=HTMX)
    assert "<html" not in text_of(part)
    assert part.context["form"].initial == {"key": "own", "purpose": "academic_research"}


def test_the_playground_says_what_is_missing(by, story):
    assert "No key for the playground" in text_of(by("edda").get("/playground/"))

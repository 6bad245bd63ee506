"""Every page for every person: its own people get 200, everyone else 404, strangers the log-in."""

from __future__ import annotations

import pytest

LEGAL = ("cato", "celia")
ENGINEER = ("edda",)
AUDITOR = ("aude",)
ALDER = ("ada",)
EVERYONE = ("ada", "bela", "cato", "celia", "edda", "aude", "mallory")

PAGES = {
    "/legal/": LEGAL,
    "/legal/owners/": LEGAL,
    "/legal/owners/alder-press/": LEGAL,
    "/legal/licences/": LEGAL,
    "/legal/licences/?state=approved&sort=ends_at": LEGAL,
    "/legal/licences/new/": LEGAL,
    "/legal/licences/code-texts-v1/": LEGAL,
    "/legal/consumers/": LEGAL,
    "/legal/consumers/dara/": LEGAL,
    "/legal/approvals/": LEGAL + ENGINEER + AUDITOR,
    "/legal/approvals/routes/": LEGAL,
    "/legal/approvals/routes/new/": LEGAL,
    "/legal/approvals/routes/licence/": LEGAL,
    "/legal/approvals/absence/": LEGAL + ENGINEER,
    "/legal/approvals/ask/key/": LEGAL,
    "/legal/approvals/ask/export/3/": LEGAL + ENGINEER,
    "/legal/due/": LEGAL,
    "/legal/log/": LEGAL + AUDITOR,
    "/owner/": (*ALDER, "bela"),
    "/owner/withdrawals/": (*ALDER, "bela"),
    "/owner/experts/code/": ALDER,
    "/owner/experts/poems/": ALDER,
    "/owner/experts/languages/": ("bela",),
    "/engineer/experts/": ENGINEER,
    "/engineer/experts/code/": ENGINEER,
    "/engineer/runs/": ENGINEER,
    "/engineer/builds/": ENGINEER,
    "/engineer/builds/1/": ENGINEER,
    "/engineer/runners/": ENGINEER,
    "/engineer/audits/": ENGINEER,
    "/playground/": LEGAL + ENGINEER,
    "/api/": EVERYONE,
    "/design/": EVERYONE,
}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_there_for_its_people_and_for_nobody_else(by, path):
    for name in EVERYONE:
        expected = 200 if name in PAGES[path] else 404
        assert by(name).get(path).status_code == expected, name


@pytest.mark.parametrize("path", [path for path in PAGES if PAGES[path] != EVERYONE])
def test_a_stranger_is_sent_to_the_log_in_and_back(by, path):
    answer = by("").get(path)
    assert answer.status_code == 302
    assert answer.url.startswith("/account/login/?next=/")


@pytest.mark.parametrize(
    "path",
    [
        "/legal/owners/nobody/",
        "/legal/licences/none-v1/",
        "/owner/experts/none/",
        "/owner/withdrawals/00000000-0000-0000-0000-000000000000/",
        "/engineer/builds/999/",
        "/engineer/experts/none/",
        "/legal/consumers/none/",
    ],
)
def test_what_is_not_there_and_what_is_not_yours_answer_alike(by, path):
    for name in EVERYONE:
        assert by(name).get(path).status_code == 404


def test_a_withdrawal_is_its_owners_alone(by, story):
    path = f"/owner/withdrawals/{story.withdrawal.pk}/"
    for name in EVERYONE:
        expected = 200 if name == "ada" else 404
        assert by(name).get(path).status_code == expected, name
        assert by(name).get(f"{path}certificate.zip").status_code == 404  # none is issued yet


ACTS = {
    "/legal/licences/plays-texts-v1/approve/": LEGAL,
    "/legal/licences/plays-texts-v1/reject/": LEGAL,
    "/legal/licences/code-texts-v1/end/": LEGAL,
    "/legal/licences/code-texts-v1/resume/": LEGAL,
    "/legal/log/verify/": LEGAL + AUDITOR,
    "/owner/experts/code/withdraw/": ALDER,
    "/owner/experts/code/consent/code-texts-v1/": ALDER,
    "/engineer/experts/code/training/": ENGINEER,
    "/playground/answer/": LEGAL + ENGINEER,
}


@pytest.mark.parametrize("path", ACTS)
def test_an_act_is_refused_to_everyone_but_its_people(by, path):
    for name in EVERYONE:
        if name not in ACTS[path]:
            assert by(name).post(path).status_code == 404, name


@pytest.mark.parametrize("path", ACTS)
def test_an_act_cannot_be_done_by_following_a_link(by, path):
    assert by(ACTS[path][0]).get(path).status_code == 405


@pytest.mark.parametrize("path", ACTS)
def test_an_act_needs_the_pages_own_form(by, path):
    assert by(ACTS[path][0], enforce_csrf_checks=True).post(path).status_code == 403


def test_what_was_pressed_while_logged_out_leads_home_after_the_log_in(by):
    answer = by("").post("/owner/experts/code/withdraw/")
    assert (answer.status_code, answer.url) == (302, "/account/login/?next=/")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("cato", "/legal/"),
        ("edda", "/engineer/experts/"),
        ("aude", "/legal/log/"),
        ("ada", "/owner/"),
    ],
)
def test_each_role_lands_on_its_own_first_page(by, name, url):
    assert by(name).get("/").url == url


def test_somebody_without_a_role_is_told_so(by):
    answer = by("mallory").get("/")
    assert answer.status_code == 200
    assert "Alder" not in answer.content.decode()

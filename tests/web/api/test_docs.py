"""The examples of docs/api.md, run as they stand against the real application."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from governance.models import DataOwner
from governance.services import personal_keys
from tests.browser.sites import serving
from tests.web import stories

DOCS = Path(__file__).resolve().parents[3] / "docs" / "api.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)


@pytest.fixture
def shell(transactional_db):
    """Runs an example as Cato, who asked for the licence the last one approves."""
    cato, at = stories.tell().cast.cato, timezone.now()
    key = personal_keys.issue(
        cato, label="docs", may_write=True, expires_at=at + timedelta(1), by=cato, at=at
    )
    with serving() as url:
        environ = {**os.environ, "RECLAIM_URL": url, "RECLAIM_KEY": key.secret}

        def run(example: str):
            command = re.sub(r"^export .*\n", "", example)
            ran = subprocess.run(
                ["sh", "-c", command], env=environ, capture_output=True, text=True, check=True
            )
            return json.loads(ran.stdout)

        yield run


def test_every_example_of_the_docs_does_what_is_said(shell):
    me, page, changed, refused = EXAMPLES
    assert shell(me)["email"] == "cato@example.org"
    rows = shell(page)
    assert [row["name"] for row in rows["results"]] == ["poems", "news"]
    assert rows["next"]
    for _ in range(2):
        assert shell(changed)["dpo_name"] == "Dee"
    assert DataOwner.objects.get(slug="alder-press").changes.count() == 2
    problem = shell(refused)
    assert (problem["status"], problem["code"]) == (403, "four_eyes")
    assert "expected" in problem["detail"]

"""`reclaim` over REST, against the real application on a real socket."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from typer.testing import CliRunner

from governance.models import Expert, Licence
from governance.services import personal_keys
from governance.vocabulary import ExpertState, LicenceState
from tests.browser.sites import serving
from tests.web import stories
from worker import remote
from worker.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def ask(transactional_db, monkeypatch):
    """`ask("cato", "licences", "list")` with a key of Cato's that may change things."""
    story = stories.tell()
    keys = {}

    def asked(name: str, *words: str, may_write: bool = True):
        if (name, may_write) not in keys:
            account, at = getattr(story.cast, name), timezone.now()
            keys[name, may_write] = personal_keys.issue(
                account, label="cli", may_write=may_write, expires_at=at + timedelta(1),
                by=account, at=at,
            ).secret  # fmt: skip
        monkeypatch.setenv("RECLAIM_KEY", keys[name, may_write])
        return CliRunner().invoke(app, list(words))

    with serving() as url:
        monkeypatch.setenv("RECLAIM_URL", url + "/")
        yield asked


def told(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_verb_is_an_operation_of_the_schema():
    schema = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    for verb in remote.VERBS:
        pattern = re.compile("/api/v1/" + re.sub(r"{\w+}", "[^/]+", verb.path) + r"\Z")
        found = [path for path in schema if pattern.match(_written(schema, path, verb))]
        assert found, verb.command
        assert any(verb.method.lower() in schema[path] for path in found), verb.command
    assert len({verb.command for verb in remote.VERBS}) == len(remote.VERBS)


def _written(schema, path, verb):
    """A path with the verb of the command in it, where it takes one."""
    return path.replace("{verb}", verb.path.rsplit("/", 1)[-1])


def test_reading_the_way_an_officer_asks(ask):
    """Each list and thing the table names, for machines and for people."""
    for verb in remote.VERBS:
        if verb.method == "GET" and not verb.names and verb.command != "decisions why-not":
            assert isinstance(told(ask("cato", *verb.command.split(), "--json")), list | dict)
            assert ask("cato", *verb.command.split()).stdout.strip(), verb.command
    table = ask("cato", "licences", "list", "state=requested").stdout.splitlines()
    assert table[0].split()[:3] == ["reference", "corpus", "state"]
    assert table[1].split()[:3] == ["plays-texts-v1", "plays-texts", "requested"]
    assert "reference: code-texts-v1" in ask("ada", "licences", "show", "code-texts-v1").stdout
    in_force = told(ask("cato", "in-force", "--json"))
    assert "plays-texts-v1" not in {row["reference"] for row in in_force}
    assert told(ask("cato", "in-force", "as_of=2001-01-01T00:00:00Z", "--json")) == []


def test_a_list_goes_over_its_pages_as_far_as_wanted(ask):
    names = [row["name"] for row in told(ask("cato", "experts", "list", "--json"))]
    assert len(names) == 5
    paged = told(ask("cato", "experts", "list", "limit=2", "--json"))
    assert [row["name"] for row in paged] == names
    assert len(told(ask("cato", "experts", "list", "limit=2", "--limit", "3", "--json"))) == 3


def test_a_licence_is_asked_for_decided_and_ended(ask):
    made = told(
        ask("cato", "licences", "request", "corpus=plays-texts", "uses=train", "uses=answer",
            'purposes=["education"]', "starts_at=2026-01-01T00:00:00Z", "--json")
    )  # fmt: skip
    reference = made["reference"]
    own = ask("cato", "licences", "approve", reference, "note=Mine")
    assert own.exit_code == remote.REFUSED
    assert "expected" in own.stderr
    approved = told(ask("celia", "licences", "approve", reference, "note=Read", "--json"))
    assert approved["state"] == LicenceState.APPROVED
    assert "sentences" in told(ask("cato", "licences", "effect", reference, "--json"))
    told(ask("cato", "licences", "end", reference, "instrument=revoke", "--json"))
    assert Licence.objects.get(reference=reference).endings.count() == 1


def test_an_owner_withdraws_and_nobody_else(ask):
    refused = ask("cato", "experts", "withdraw", "code")
    assert refused.exit_code == remote.REFUSED
    assert Expert.objects.get(name="code").state == ExpertState.ACTIVE
    reading = ask("ada", "experts", "withdraw", "code", may_write=False)
    assert "found one that may read" in reading.stderr
    told(ask("ada", "experts", "withdraw", "code", "reason=Sold", "--json"))
    assert Expert.objects.get(name="code").state != ExpertState.ACTIVE


def test_a_policy_file_is_planned_and_applied(ask, tmp_path):
    example = re.search(r"```yaml\n(.*?)```", (DOCS / "policy-as-code.md").read_text(), re.S)[1]
    file = tmp_path / "policy.yaml"
    # The story has described these plays, and somebody waits for a decision about them.
    file.write_text(example.replace("plays-texts", "sonnets"))
    planned = told(ask("cato", "plan", str(file), "--json"))
    assert not Licence.objects.filter(corpus__slug="sonnets").exists()
    applied = told(ask("cato", "apply", str(file), "--json"))
    assert applied == planned
    assert Licence.objects.get(corpus__slug="sonnets").state == LicenceState.REQUESTED
    shown = ask("cato", "apply", str(file))
    assert shown.exit_code == 0
    assert "= keep     licence sonnets-v1 (waits for a second person)" in shown.stdout
    assert "· unlisted corpus code-texts" in shown.stdout
    file.write_text(file.read_text().replace("tokens: 40", "tokens: 55"))
    assert ask("cato", "plan", str(file)).exit_code == 1
    assert ask("edda", "plan", str(file)).exit_code == remote.REFUSED


def test_a_mistake_in_a_file_is_told_with_its_line(ask, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("reclaim: 1\nowners:\n  elm:\n    legal_name: Elm\n    jurisdiction: Holland\n")
    refused = ask("cato", "apply", str(file))
    assert refused.exit_code == remote.REFUSED
    assert "owners.elm.jurisdiction: policy.yaml, line 5: Expected" in refused.stderr
    assert "found 'Holland'" in refused.stderr


# ── Wrong usage and no answer ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words", [["licences", "show"], ["licences", "show", "a=b"], ["licences", "list", "requested"]]
)
def test_wrong_words_are_wrong_usage(words, monkeypatch):
    monkeypatch.setenv("RECLAIM_KEY", "rp_x_y")
    assert CliRunner().invoke(app, words).exit_code == 2


def test_without_a_key_it_says_where_to_make_one(monkeypatch):
    monkeypatch.delenv("RECLAIM_KEY", raising=False)
    result = CliRunner().invoke(app, ["me"])
    assert (result.exit_code, "/api/keys/" in result.stderr) == (2, True)


def test_a_site_that_does_not_answer_has_its_own_exit_code(monkeypatch):
    monkeypatch.setenv("RECLAIM_KEY", "rp_x_y")
    monkeypatch.setenv("RECLAIM_URL", "http://127.0.0.1:9")
    result = CliRunner().invoke(app, ["me"])
    assert (result.exit_code, "found no answer" in result.stderr) == (remote.UNREACHED, True)


def test_a_key_that_opens_nothing_is_refused(ask, monkeypatch):
    ask("cato", "me")
    monkeypatch.setenv("RECLAIM_KEY", "rp_x_y")
    result = CliRunner().invoke(app, ["me"])
    assert result.exit_code == remote.REFUSED
    assert "401: This key is unknown" in result.stderr

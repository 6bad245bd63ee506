"""Lists: what a filter finds, saving it, exporting all of it, acting on all of it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import openpyxl
import pytest
from django.http import QueryDict
from django.utils import timezone

from governance.errors import UnlawfulMove
from governance.models import DecisionRecord, Expert, SavedFilter
from governance.vocabulary import Role
from tests import factories
from web import access
from web.ui.lists import listing as listings
from web.ui.lists.experts import ExpertFilter
from web.ui.lists.export import cell
from web.ui.lists.listing import BulkAct, Column, Listing

PAGE = "/engineer/experts/"


@pytest.fixture
def many(story):
    corpus = factories.corpus(owner=story.cast.birch)
    for number in range(30):
        factories.expert(name=f"odes-{number:02}", title="=HYPERLINK(1)", corpus=corpus)
    factories.expert(name="odes-gone", state="withdrawn", corpus=corpus)


@pytest.fixture
def renaming():
    """A listing with one act, which refuses the expert named odes-07."""

    def rename(row, *, by, at, reason):
        if row.name == "odes-07":
            raise UnlawfulMove("expected a short poem, found an epic.")
        Expert.objects.filter(pk=row.pk).update(title=f"{reason} by {by} at {at:%Y}")

    def rows(request):
        access.staff(request, Role.ENGINEER)
        return Expert.objects.all()

    made = Listing(
        name="poems", noun="poems", address="engineer:experts", rows=rows, filters=ExpertFilter,
        sorts={"name": "name"}, default_sort="name", columns=(Column("Name", str),),
        acts=(BulkAct("rename", "Rename", "Gives each a title.", rename, asks_reason="Reason"),),
    )  # fmt: skip
    yield made
    del listings._LISTINGS[made.name]


def confirmed(looked, **changes) -> dict:
    """What the button of the page that asks for confirmation sends."""
    return {
        "act": looked.context["act"].code,
        "query": looked.context["query"],
        "confirmed": looked.context["count"],
        "row": [str(row.pk) for row in looked.context["rows"]],
        **changes,
    }


def names_on(answer) -> list[str]:
    return [expert.name for expert in answer.context["shown"].rows]


def test_a_filter_finds_every_word_and_the_state(by, many):
    edda = by("edda")
    assert names_on(edda.get(PAGE, {"find": "odes gone"})) == ["odes-gone"]
    assert names_on(edda.get(PAGE, {"find": "odes birch", "state": "withdrawn"})) == ["odes-gone"]
    assert names_on(edda.get(PAGE, {"find": "nothing of the kind"})) == []


def test_pages_of_an_ordered_list_never_overlap_whatever_ties_there_are(by, many):
    edda, seen = by("edda"), []
    for page in (1, 2):
        seen += names_on(edda.get(PAGE, {"find": "odes", "sort": "-state", "page": page}))
    assert len(seen) == len(set(seen)) == 31


@pytest.mark.parametrize(
    ("name", "path", "word"),
    [("edda", PAGE, "Corpus"), ("cato", "/legal/statements/", "Choose an owner")],
)
def test_a_form_that_lists_every_row_is_there_when_asked_for(by, story, name, path, word):
    client = by(name)
    assert word in client.get(path, {"new": "yes"}).content.decode()
    assert "<dialog" not in client.get(path).content.decode()
    assert word in client.post(path, {"owner": "nobody"}).content.decode()


def test_an_unknown_order_is_the_usual_one(by, many):
    found = names_on(by("edda").get(PAGE, {"find": "odes-0", "sort": "owner__password"}))
    assert found == sorted(found)


def test_a_saved_filter_is_ones_own_and_comes_back(by, story, many):
    edda = by("edda")
    query = "find=odes&state=active&page=2&sort=-name"
    edda.post("/lists/experts/save/", {"called": "Live odes", "query": query})
    saved = SavedFilter.objects.get()
    assert saved.query == "find=odes&state=active&sort=-name"  # a page is no filter
    assert "Live odes" in edda.get(PAGE).content.decode()
    assert SavedFilter.objects.filter(account=story.cast.edda).exists()
    edda.post("/lists/experts/save/", {"called": "Live odes", "query": "find=odes"})
    assert SavedFilter.objects.get().query == "find=odes"  # the same name replaces
    assert by("cato").post(f"/lists/saved/{saved.pk}/forget/").status_code == 404
    edda.post(f"/lists/saved/{saved.pk}/forget/")
    assert not SavedFilter.objects.exists()


def test_an_export_holds_every_row_of_the_filter_and_runs_no_formula(by, many):
    edda = by("edda")
    answer = edda.get("/lists/experts/export.csv", {"find": "odes", "state": "active"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["Name"] for row in rows] == [f"odes-{number:02}" for number in range(30)]
    assert {row["Title"] for row in rows} == {"'=HYPERLINK(1)"}
    answer = edda.get("/lists/experts/export.xlsx", {"find": "odes", "state": "active"})
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
    assert sheet.max_row == 31
    assert {each.data_type for each in sheet["B"]} == {"s"}
    assert edda.get("/lists/experts/export.exe").status_code == 404


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "yes"),
        (["a", "b"], "a b"),
        ("-1+cmd", "'-1+cmd"),
        ("＝1", "'＝1"),
        ("\n=1", "'\n=1"),
        (-1, -1),
        ("a", "a"),
    ],
)
def test_cells_say_what_they_hold(value, shown):
    assert cell(value) == shown


def test_an_export_of_too_many_rows_is_refused_and_never_cut_off(by, many, monkeypatch):
    monkeypatch.setattr("web.ui.lists.export.MAX_ROWS", 5)
    answer = by("edda").get("/lists/experts/export.csv", {"find": "odes"}, follow=True)
    assert "Expected at most 5 rows" in answer.content.decode()
    few = by("edda").get("/lists/experts/export.csv", {"find": "odes-00"})
    assert few["Content-Type"].startswith("text/csv")


def decided(at, **fields) -> str:
    """A recorded decision; its identity."""
    told = {"path": "p", "requested_by": "k", "policy_epoch": 1, "input": {}, "result": {}}
    return str(DecisionRecord.objects.create(timestamp=at, **{**told, **fields}).pk)


def test_a_list_without_end_is_walked_by_place_there_and_back(by, story):
    now = timezone.now()
    made = [decided(now - timedelta(seconds=number // 2)) for number in range(60)]
    aude, url, walked = by("aude"), "/legal/decisions/", []
    while url:
        page = aude.get(url).context["shown"].page
        walked.append([str(one.pk) for one in page.object_list])
        back, url = page.previous_url, page.next_url
    assert [len(rows) for rows in walked] == [25, 25, 10]
    assert sorted(one for rows in walked for one in rows) == sorted(made)
    before = aude.get(back).context["shown"].page
    assert [str(one.pk) for one in before.object_list] == walked[1]


def test_a_list_without_end_is_counted_as_far_as_it_helps(by, story, monkeypatch):
    monkeypatch.setattr("web.ui.lists.paging.MOST_COUNTED", 3)
    for number in range(5):
        decided(timezone.now(), input={"consumer": f"c{number}"})
    aude = by("aude")
    assert "More than 3 decisions" in aude.get("/legal/decisions/").content.decode()
    assert "1 decisions" in aude.get("/legal/decisions/", {"consumer": "c1"}).content.decode()


@pytest.mark.parametrize("place", ["x", "cD1h", "cD0yMDI2LTEzLTAx"])
def test_a_place_nobody_gave_out_is_not_found(by, story, place):
    assert by("aude").get("/legal/decisions/", {"from_row": place}).status_code == 404


def test_decisions_are_found_by_every_expert_they_speak_of(by, story):
    now = timezone.now()
    allowed = decided(now, result={"allowed": ["odes"], "denied": {}})
    denied = decided(now, result={"allowed": [], "denied": {"odes": ["PURPOSE"]}})
    decided(now, result={"allowed": ["epics"], "denied": {"ballads": ["PURPOSE"]}})
    found = by("aude").get("/legal/decisions/", {"expert": "odes"}).context["shown"].rows
    assert {str(one.pk) for one in found} == {allowed, denied}


@pytest.mark.parametrize("name", ["mallory", "ada", "cato"])
def test_whoever_may_not_see_a_list_can_do_nothing_with_it(by, many, renaming, name):
    client = by(name)
    assert client.get("/lists/experts/export.csv").status_code == 404
    assert client.post("/lists/experts/save/", {"called": "x"}).status_code == 404
    act = {"act": "rename", "which": "all", "confirmed": "31", "reason": "x"}
    assert client.post("/lists/poems/act/", act).status_code == 404
    assert not SavedFilter.objects.exists()
    assert not Expert.objects.filter(title__startswith="x").exists()


def test_an_act_says_first_what_it_would_do_and_then_does_it_row_by_row(by, many, renaming):
    edda = by("edda")
    asked = {"act": "rename", "which": "all", "query": "find=odes-0", "reason": "Ode"}
    looked = edda.post("/lists/poems/act/", asked)
    assert (looked.context["count"], len(looked.context["rows"])) == (10, 10)
    assert not Expert.objects.filter(title__startswith="Ode").exists()
    done = edda.post("/lists/poems/act/", confirmed(looked, reason="Ode"))
    assert [each.refusal != "" for each in done.context["outcomes"]].count(True) == 1
    assert Expert.objects.filter(title__startswith="Ode by Edda").count() == 9


def test_only_the_rows_that_were_shown_are_acted_on(by, story, many, renaming):
    edda = by("edda")
    asked = {"act": "rename", "which": "all", "query": "find=odes-0&state=active"}
    looked = edda.post("/lists/poems/act/", asked)
    newcomer = factories.expert(name="odes-0-new", corpus=factories.corpus(owner=story.cast.birch))
    edda.post("/lists/poems/act/", confirmed(looked, reason="Ode"))
    assert Expert.objects.filter(title__startswith="Ode").count() == 9
    newcomer.refresh_from_db()
    assert not newcomer.title.startswith("Ode")


def test_nothing_is_done_where_a_row_left_the_filter_meanwhile(by, many, renaming):
    edda = by("edda")
    looked = edda.post(
        "/lists/poems/act/", {"act": "rename", "which": "all", "query": "find=odes-0&state=active"}
    )
    Expert.objects.filter(name="odes-03").update(state="withdrawn")
    again = edda.post("/lists/poems/act/", confirmed(looked, reason="Ode"))
    assert "The rows changed since you looked" in again.content.decode()
    assert not Expert.objects.filter(title__startswith="Ode").exists()


def test_a_key_that_is_none_is_no_row(by, many, renaming):
    asked = {"act": "rename", "row": ["x", "7"], "confirmed": "2", "reason": "Ode"}
    assert "No row picked" in by("edda").post("/lists/poems/act/", asked).content.decode()


def test_ticked_rows_outside_the_filter_are_left_alone(by, many, renaming):
    keys = [str(one.pk) for one in Expert.objects.filter(name__in=["odes-01", "odes-gone"])]
    asked = {"act": "rename", "row": keys, "query": "state=active", "reason": "Ode"}
    by("edda").post("/lists/poems/act/", {**asked, "confirmed": "1"})
    changed = Expert.objects.filter(title__startswith="Ode").values_list("name", flat=True)
    assert list(changed) == ["odes-01"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": "find=none-such"}, "No row picked"),
        ({"reason": ""}, "Reason is missing"),
    ],
)
def test_an_act_that_lacks_something_says_what(by, many, renaming, changes, said):
    edda = by("edda")
    looked = edda.post(
        "/lists/poems/act/", {"act": "rename", "which": "all", "query": "find=odes-0"}
    )
    answer = edda.post("/lists/poems/act/", confirmed(looked, **{"reason": "Ode", **changes}))
    assert said in answer.content.decode()
    assert not Expert.objects.filter(title__startswith="Ode").exists()


def test_more_rows_than_anybody_looked_at_are_refused(by, many, renaming, monkeypatch):
    monkeypatch.setattr("web.ui.lists.pages.MAX_ACTED_ON", 5)
    asked = {"act": "rename", "which": "all", "query": "find=odes", "reason": "Ode"}
    answer = by("edda").post("/lists/poems/act/", asked)
    assert "Expected at most 5, found 31" in answer.content.decode()
    assert not Expert.objects.filter(title__startswith="Ode").exists()


def test_a_listing_is_declared_once():
    with pytest.raises(ValueError, match="found 'experts' twice"):
        Listing(
            name="experts", noun="", address="", rows=lambda _: None, filters=ExpertFilter,
            sorts={}, default_sort="", columns=(),
        )  # fmt: skip


def test_the_query_of_a_page_drops_its_number_and_what_is_empty():
    assert listings.filter_query(QueryDict("page=3&state=&find=a&sort=b&from_row=x")) == (
        "find=a&sort=b"
    )
    assert not listings.is_narrowed("sort=b")

"""The playground in a real browser: words in the tint and pattern of who spoke, and every end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from governance.models import ApiKey, DecisionRecord
from modelops.contract import Delta, Done, EndCause, FinishReason, Tally
from tests import factories
from tests.browser.test_pages_axe import SETTLE, findings
from tests.web.gateway.stub_runner import StubRunner

pytestmark = pytest.mark.browser
SHARES = (("with ", "code"), ("words ", "languages"), ("of all.", "public"))


def traced(order):
    """Three words; each expert that is permitted leads its own, the public expert the others'."""
    names = [expert.name for expert in order.allowed]
    for word, name in SHARES:
        first = name if name in names else "public"
        shares = dict.fromkeys(("public", *names), 0.2 / max(len(names), 1)) | {first: 0.8}
        yield Delta(order.order_id, word, (7,), routing=(shares,))
    mass = {"public": 3.0} | dict.fromkeys(names, 1.0)
    yield Done(order.order_id, FinishReason.STOP, Tally(5, 3, {"public": 3}, mass),
               order.policy_epoch)  # fmt: skip


def untold(order):
    """A runner that knows nothing of shares."""
    yield Delta(order.order_id, "Plain words.", (7, 8))
    yield Done(order.order_id, FinishReason.LENGTH, Tally(5, 2, {"public": 2}, {"public": 1.0}),
               order.policy_epoch)  # fmt: skip


def withdrawn(order):
    yield Delta(order.order_id, "Up to here", (7,), routing=({"code": 1.0},))
    yield Done(order.order_id, FinishReason.CONTENT_FILTER, Tally(5, 1), order.policy_epoch + 1,
               EndCause.CONSENT_WITHDRAWN, "code")  # fmt: skip


def outlived(order):
    yield Delta(order.order_id, "Up to here, ", (7,), routing=({"code": 1.0},))
    yield Delta(order.order_id, "", recomputed_without=("code",))
    yield Delta(order.order_id, "and on.", (8,), routing=({"languages": 1.0},))
    yield Done(order.order_id, FinishReason.STOP, Tally(5, 2, {"public": 2}, {"public": 1.0}),
               order.policy_epoch + 1)  # fmt: skip


def endless(order):
    while True:
        yield Delta(order.order_id, "on ", (7,), routing=({"code": 1.0},))
        yield 0.02


@pytest.fixture
def runner(site, monkeypatch):
    """The stub in the place of the runner, and a key for the playground."""
    from web.gateway import views
    from web.gateway.policy_feed import PolicyFeed

    factories.api_key(
        consumer=site.story.cast.dara,
        scopes=["playground"],
        purposes=["research", "education"],
        label="own",
    )
    monkeypatch.setattr(views, "feed", PolicyFeed(lease_s=10))
    with tempfile.TemporaryDirectory() as folder, StubRunner(Path(folder) / "r.sock") as stub:
        monkeypatch.setattr(views, "port", views.RunnerPool((stub.url,), quiet_s=5))
        stub.script = traced
        yield stub


def ask(page, prompt: str = "What did the river say?"):
    """Ask, by keyboard."""
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Ask", exact=True).press("Enter")


def looks(span) -> tuple[str, ...]:
    """How a word is drawn: tint, pattern and colour of its line."""
    style = "() => ['backgroundColor', 'textDecorationStyle', 'textDecorationColor']"
    return tuple(span.evaluate(f"e => ({style})().map(name => getComputedStyle(e)[name])"))


@pytest.mark.parametrize("name", ["edda", "cato"])
def test_each_word_shows_who_spoke_in_colour_pattern_and_words(site, runner, name):
    page = site.page_of(name, reduced_motion="reduce")
    page.goto("/playground/")
    expect(page.get_by_label("poems")).to_be_disabled()
    expect(page.get_by_text("The owner has withdrawn this expert.")).to_be_visible()
    page.get_by_label("Compare").select_option("code")
    ask(page)
    told, untold = page.get_by_label("With code", exact=True), page.get_by_label("Without code")
    expect(page.get_by_text("Ended by itself", exact=True)).to_have_count(2)
    first, second, third = told.locator(".token").all()
    assert len({looks(first), looks(second), looks(third)}) == 3
    assert len({looks(one)[1] for one in (first, second)}) == 2, "patterns, not colours alone"
    assert looks(untold.locator(".token").first) == looks(third), "the public expert's is plain"
    expect(told.get_by_role("listitem").filter(has_text="code")).to_contain_text("in 1 of 3 tokens")
    assert {order.sampling.seed for order in runner.orders} == {7}
    assert sorted(len(order.allowed) for order in runner.orders) == [1, 2]
    words = page.get_by_role("group", name="With code")
    words.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    shares = "Word 2 of 3, “words”: languages 80 %, public 10 %, code 10 %."
    expect(page.locator("#announcer")).to_have_text(shares)
    page.get_by_label("Tint by the licensed expert").check()
    assert looks(third) != looks(untold.locator(".token").last)
    wrong = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.evaluate(SETTLE)
        wrong += [f"{theme} {found}" for found in findings(page)]
    page.set_viewport_size({"width": 320, "height": 640})
    page.wait_for_function("innerWidth === 320")
    page.evaluate(SETTLE)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert wrong + findings(page) == []
    links = page.get_by_role("link", name=str(DecisionRecord.objects.latest("timestamp").pk))
    assert links.count() == (name == "cato")


def test_a_withdrawal_in_mid_answer_is_said_as_what_it_is(site, runner):
    runner.script = withdrawn
    page = site.page_of("edda")
    page.goto("/playground/")
    ask(page)
    expect(page.get_by_text("Consent for code was withdrawn in the middle")).to_have_count(2)
    expect(page.locator(".answer-text")).to_have_text("Up to here")
    expect(page.get_by_role("log")).to_contain_text("Consent for code was withdrawn")


def test_an_answer_that_outlives_an_expert_is_marked_where_it_was_computed_again(site, runner):
    runner.script = outlived
    page = site.page_of("edda")
    page.goto("/playground/")
    ask(page)
    mark = page.locator(".notice", has_text="Goes on without an expert")
    expect(mark).to_have_count(1)
    expect(mark).to_contain_text("code was withdrawn")
    assert mark.get_attribute("data-tone") == "waiting"
    expect(page.get_by_text("Ended by itself", exact=True)).to_be_visible()
    expect(page.locator(".answer-text")).to_have_text("Up to here, and on.")
    expect(page.get_by_role("log")).to_contain_text("Up to here, code was withdrawn.")
    before, after = page.locator(".token").all()
    assert looks(before) != looks(after)


def test_it_can_be_stopped_and_the_runner_hears_of_it(site, runner):
    runner.script = endless
    page = site.page_of("edda")
    page.goto("/playground/")
    ask(page)
    expect(page.locator(".answer-text")).to_contain_text("on on")
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator(".chip", has_text="Stopped")).to_be_visible()
    assert runner.hung_up.wait(5)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()


def test_a_runner_that_tells_no_shares_gives_plain_words_and_totals(site, runner):
    runner.script = untold
    page = site.page_of("edda")
    page.goto("/playground/")
    ask(page)
    expect(page.get_by_text("No shares by word")).to_be_visible()
    expect(page.get_by_role("list").filter(has_text="public 100 %")).to_be_visible()
    assert page.locator("[data-hue]").count() == 0


def test_a_refusal_lists_every_reason_and_purposes_change_what_can_be_ticked(site, runner):
    page = site.page_of("edda")
    page.goto("/playground/")
    page.get_by_label("Purpose").select_option("education")
    expect(page.get_by_label("code", exact=True)).to_be_disabled()
    page.get_by_label("Purpose").select_option("research")
    expect(page.get_by_label("code", exact=True)).to_be_enabled()
    ApiKey.objects.filter(scopes__contains=["playground"]).update(purposes=["education"])
    ask(page)
    expect(page.locator(".notice", has_text="This key was issued for education")).to_be_visible()
    expect(page.locator(".chip", has_text="Refused")).to_be_visible()
    assert runner.orders == []

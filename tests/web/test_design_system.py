"""The design system: words, tones, and components that cannot leak or carry inline code."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from django import forms
from django.core.paginator import Paginator
from django.template import engines
from django.test import RequestFactory
from django.test.html import parse_html
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from governance import vocabulary
from web import environment, logs
from web.templatetags import design
from web.ui.forms.fields import LongSelect

WEB = Path(design.__file__).parent.parent
STATIC = WEB / "static/web"
SHOWN = (
    vocabulary.ExpertState,
    vocabulary.RevisionState,
    vocabulary.LicenceState,
    vocabulary.BuildState,
    vocabulary.Verdict,
    vocabulary.FollowUpState,
    vocabulary.Instrument,
    vocabulary.CertificateStage,
    vocabulary.QuiescedBy,
    vocabulary.ConsentEventKind,
    vocabulary.ApprovalState,
    vocabulary.RemarkKind,
    vocabulary.OwnerStatus,
    vocabulary.ConsumerStatus,
    vocabulary.HoldState,
    vocabulary.DeliveryState,
)


def render(source: str, query: str = "", **context: object) -> str:
    # Cotton compiles files as they load; a string goes through its compiler by hand.
    from django_cotton.compiler_regex import CottonCompiler

    request = RequestFactory().get(f"/{query}")
    template = engines["django"].from_string(CottonCompiler().process(source))
    return template.render(context, request)


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch):
    from django.contrib.auth.models import AnonymousUser

    monkeypatch.setattr("django.http.HttpRequest.user", AnonymousUser(), raising=False)


# ── Words and tones ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("member", [member for shown in SHOWN for member in shown])
def test_every_state_a_page_shows_has_a_tone_of_its_own_choosing(member):
    assert member.value in design._TONES


def test_a_tone_is_kept_for_no_value_that_does_not_exist():
    known = {member.value for shown in SHOWN for member in shown}
    derived = {"serving", "stale", "ended", "issued"}
    assert set(design._TONES) <= known | derived
    assert known >= design._HOLLOW


def test_disabled_and_erased_never_look_alike():
    shown = {
        state: render('<c-status :value="state" />', state=state)
        for state in (vocabulary.ExpertState.WITHDRAWN, vocabulary.ExpertState.ERASED)
    }
    withdrawn, erased = shown.values()
    assert "Withdrawn" in withdrawn
    assert "data-hollow" not in withdrawn
    assert "Erased" in erased
    assert "data-hollow" in erased


def test_a_reason_is_said_in_its_own_sentence():
    assert design.words("WITHDRAWN") == vocabulary.Why.WITHDRAWN.label
    assert design.words("in_review") == "In review"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "now"),
        (59, "in 59 s"),
        (60, "in 1 min"),
        (3 * 86_400 - 1, "in 2 days"),
        (86_400, "in 1 day"),
        (-7_300, "2 h overdue"),
    ],
)
def test_a_deadline_is_cut_down_to_its_largest_unit(seconds, said):
    assert design.distance_words(timedelta(seconds=seconds), "overdue") == said


@limits(deadline=None)
@given(st.integers(1, 10**8))
def test_a_deadline_never_looks_further_off_than_it_is(seconds):
    said = design.distance_words(timedelta(seconds=seconds), "overdue")
    count, unit = re.fullmatch(r"in (\d+) (days?|h|min|s)", said).groups()
    assert int(count) * {"d": 86_400, "h": 3_600, "m": 60, "s": 1}[unit[0]] <= seconds


def test_a_clock_turns_as_its_deadline_nears():
    now = timezone.now()
    assert design.due_tone(now + timedelta(days=30)) == "neutral"
    assert design.due_tone(now + timedelta(days=2)) == "waiting"
    assert design.due_tone(now - timedelta(seconds=1)) == "stopped"


@limits(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_only_all_of_it_is_a_hundred_percent(done, total):
    said = design.share(done, total)
    assert (said == "100 %") == (done >= total)


@limits(deadline=None)
@given(st.integers(1, 400), st.data())
def test_the_pager_names_first_last_and_neighbours_and_gaps_only_between(pages, data):
    number = data.draw(st.integers(1, pages))
    shown = list(design.page_numbers(Paginator(range(pages), 1).page(number)))
    named = [entry for entry in shown if entry]
    assert named == sorted(set(named))
    assert {1, pages, number} <= set(named)
    for before, entry, after in zip(shown, shown[1:], shown[2:], strict=False):
        if entry is None:
            assert after - before > 2


# ── Components ───────────────────────────────────────────────────────────────────────────────────


def test_a_component_cannot_see_what_the_page_did_not_hand_it():
    assert "hidden" not in render('<c-chip>{{ "shown" }}</c-chip>', tone="hidden")
    assert 'data-tone="neutral"' in render("<c-chip>x</c-chip>", tone="good")


class Seen(HTMLParser):
    """The tags and attributes a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


HOSTILE = "<img src=x onerror=alert(1)>\"' {{ 7|add:7 }}"


@pytest.mark.parametrize(
    "source",
    [
        '<c-notice :title="text">{{ text }}</c-notice>',
        '<c-card :title="text">{{ text }}</c-card>',
        '<c-stat :label="text" :value="text" :note="text" />',
        '<c-fact :label="text">{{ text }}</c-fact>',
        '<c-code :value="text" :label="text" />',
        '<c-digest :value="text" :label="text" />',
        '<c-event :title="text">{{ text }}</c-event>',
        '<c-empty :title="text">{{ text }}</c-empty>',
        '<c-head :title="text" :lead="text" />',
        '<c-status :value="text" />',
        '<c-button :data-name="text">{{ text }}</c-button>',
        '<c-dialog id="d" :title="text">{{ text }}</c-dialog>',
    ],
)
def test_text_from_outside_stays_text(source):
    shown = render(source, text=HOSTILE)
    seen = Seen()
    seen.feed(shown)
    assert "img" not in seen.tags
    assert "onerror" not in seen.attributes
    assert "14" not in shown


def test_a_column_head_turns_its_order_round_and_keeps_the_filter():
    source = '<c-th sort="ends">Ends</c-th>'
    first = render(source, "?state=active&page=3")
    assert "?state=active&amp;sort=ends" in first
    assert "aria-sort" not in first
    ascending = render(source, "?sort=ends")
    assert 'aria-sort="ascending"' in ascending
    assert "?sort=-ends" in ascending
    assert 'aria-sort="descending"' in render(source, "?sort=-ends")


def test_a_field_ties_its_help_and_its_errors_to_the_control():
    from web.ui.design import SampleForm

    shown = render('<c-field :field="field" />', field=SampleForm({})["legal_name"])
    described = re.search(r'aria-describedby="([^"]+)"', shown).group(1).split()
    assert described == ["id_legal_name_helptext", "id_legal_name_error"]
    assert all(f'id="{name}"' in shown for name in described)
    assert 'aria-invalid="true"' in shown


@pytest.mark.parametrize("value", ["", "b", HOSTILE])
def test_a_long_choice_reads_like_any_other(value):
    choices = [("", "Choose"), ("b", "Birch & Sons"), (HOSTILE, HOSTILE)]
    attributes = {"id": "id_owner", "required": True, "aria-describedby": HOSTILE}
    usual = forms.Select(choices=choices).render("owner", value, attributes)
    long = LongSelect(choices=choices).render("owner", value, attributes)
    assert parse_html(long) == parse_html(usual)


def test_a_form_carries_its_token_only_when_posted():
    from web.ui.design import SampleForm

    posted = render('<c-form :form="form" />', form=SampleForm())
    assert re.search(r'name="csrfmiddlewaretoken" value="\w{20,}"', posted)
    assert "csrfmiddlewaretoken" not in render(
        '<c-form :form="form" method="get" />', form=SampleForm()
    )


def test_instants_are_said_in_utc_whatever_zone_they_come_in():
    at = datetime(2026, 11, 21, 10, 4, tzinfo=UTC).astimezone(
        timezone.get_fixed_timezone(timedelta(hours=9))
    )
    shown = render('<c-instant :at="at" />', at=at)
    assert 'datetime="2026-11-21T10:04:00Z"' in shown
    assert "21 Nov 2026, 10:04 UTC" in shown


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def test_no_template_carries_inline_style_or_script():
    templates = list((WEB / "templates").rglob("*.html"))
    assert len(templates) > 40
    for template in templates:
        text = template.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=\"|javascript:|<style", text), template
        for script in re.findall(r"<script\b[^>]*>", text):
            assert "src=" in script, template


def test_nothing_is_fetched_from_elsewhere():
    for file in (*STATIC.iterdir(), *(WEB / "templates").rglob("*.html")):
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text), file


def test_every_colour_and_size_named_is_a_token():
    tokens = set(re.findall(r"(--[a-z0-9-]+):", (STATIC / "tokens.css").read_text()))
    own = {"--tone", "--tone-dot", "--tone-soft", "--spinner", "--bar"}
    own |= {"--pattern", "--weight", "--hue", "--hue-soft"}
    for name in ("base.css", "components.css", "playground.css"):
        used = set(re.findall(r"var\((--[a-z0-9-]+)", (STATIC / name).read_text()))
        assert used <= tokens | own, name


def blocks(selector: str) -> dict[str, str]:
    text = (STATIC / "tokens.css").read_text()
    body = text[text.index(selector) :].split("{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"(--[a-z0-9-]+):\s*([^;]+);", body))


def test_both_ways_into_the_dark_give_the_same_colours():
    assert blocks(':root:not([data-theme="light"])') == blocks(':root[data-theme="dark"]')


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"]'])
def test_text_can_be_read_on_every_ground(theme):
    colours = blocks(theme)
    pairs = [
        (f"--{text}", f"--{ground}")
        for text in ("ink", "ink-soft", "ink-faint", "accent", "stopped", "waiting", "good")
        for ground in ("ground", "surface", "sunken")
    ]
    pairs += [
        (f"--{tone}", f"--{tone}-soft")
        for tone in ("good", "waiting", "stopped", "info", "neutral")
    ]
    pairs += [("--on-accent", "--accent"), ("--on-danger", "--danger-fill")]
    low = {
        pair: contrast(colours[pair[0]], colours[pair[1]])
        for pair in pairs
        if contrast(colours[pair[0]], colours[pair[1]]) < 4.5
    }
    assert not low
    assert contrast(colours["--control-line"], colours["--surface"]) >= 3


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"]'])
def test_an_experts_words_can_be_read_and_its_pattern_seen(theme):
    colours = blocks(theme)
    for number in range(1, 8):
        mark, tint = colours[f"--expert-{number}"], colours[f"--expert-{number}-soft"]
        assert contrast(colours["--ink"], tint) >= 4.5, number
        assert contrast(mark, tint) >= 3, number
        assert contrast(mark, colours["--surface"]) >= 3, number


# ── Log lines ────────────────────────────────────────────────────────────────────────────────────


def fail_with(password: str) -> None:
    spelled = "-".join(password)
    raise ValueError(f"broke at length {len(spelled)}")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_logged_failure_shows_no_local_variable(as_json):
    stream = StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.arrange(environment.Lines("INFO", as_json=as_json), stream)
        try:
            fail_with("hunter2")
        except ValueError:
            logging.getLogger("reclaim.test").exception("failed")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert "broke" in stream.getvalue()
    assert "hunter2" not in stream.getvalue().replace('fail_with("hunter2")', "")
    assert "h-u-n-t-e-r" not in stream.getvalue()

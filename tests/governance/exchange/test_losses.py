"""Every format: a term that was agreed is in the file, or it is named as lost."""

import json

import pytest
from hypothesis import given, settings

from governance.errors import InvalidTerms
from governance.exchange import FORMATS, Direction, export, load
from governance.exchange.rights import normal, spoken
from tests.governance.exchange.generated import TERMS

READ = [code for code, each in FORMATS.items() if each.load]
WRITTEN_ONLY = [code for code in FORMATS if code not in READ]


@pytest.mark.parametrize("code", READ)
@settings(max_examples=60, deadline=None)
@given(terms=TERMS)
def test_a_term_comes_back_or_is_named_as_lost(code, terms):
    out = export(code, terms)
    back = normal(load(code, out.body).terms_fields)
    lost = {loss.term for loss in out.losses}
    for name, value in spoken(terms).items():
        assert back[name] == value or name in lost, name


@pytest.mark.parametrize("code", WRITTEN_ONLY)
@settings(max_examples=60, deadline=None)
@given(terms=TERMS)
def test_a_term_not_named_as_lost_stands_in_the_file(code, terms):
    out = export(code, terms)
    lost = {loss.term for loss in out.losses}
    text = out.body.decode()
    for name, value in spoken(terms).items():
        if name in lost:
            continue
        assert value.strftime("%Y-%m-%dT%H:%M:%S") in text, name


@pytest.mark.parametrize("code", ["rsl", "tdmrep", "aipref"])
@settings(max_examples=60, deadline=None)
@given(terms=TERMS)
def test_the_file_of_a_poorer_vocabulary_never_grants_a_use_the_licence_does_not(code, terms):
    back = load(code, export(code, terms).body).terms_fields
    assert set(back["uses"]) <= set(terms["uses"]) - set(terms["prohibited_uses"])


@pytest.mark.parametrize("code", READ)
@settings(max_examples=40, deadline=None)
@given(terms=TERMS)
def test_no_import_reports_that_it_widened(code, terms):
    imported = load(code, export(code, terms).body)
    assert all(loss.direction is not Direction.WIDER for loss in imported.losses)


def test_a_limit_the_file_cannot_say_is_marked_as_wider():
    terms = {"uses": ["train"], "starts_at": None, "purposes": [], "consumers": ["dara"]}
    directions = {loss.term: loss.direction for loss in export("rsl", terms).losses}
    assert directions == {"consumers": Direction.WIDER}


def test_a_licence_for_everyone_and_nothing_else_lets_the_public_know():
    open_to_all = {"uses": ["train"], "payment_type": "free"}
    assert export("aipref", open_to_all).body == b"Content-Usage: train-ai=y\n"
    assert json.loads(export("tdmrep", open_to_all).body)[0]["tdm-reservation"] == 0
    for bound in ({"territories": ["NL"]}, {"payment_type": "use"}, {"requires_attribution": True}):
        terms = {**open_to_all, **bound}
        assert export("aipref", terms).body == b"Content-Usage: train-ai=n\n"
        assert json.loads(export("tdmrep", terms).body)[0]["tdm-reservation"] == 1


def test_an_unknown_format_is_refused_with_those_there_are():
    with pytest.raises(InvalidTerms, match=r"expected one of odrl, rsl.* found pdf"):
        export("pdf", {"uses": ["train"]})
    with pytest.raises(InvalidTerms, match=r"can be read \(odrl, rsl"):
        load("spdx", b"{}")

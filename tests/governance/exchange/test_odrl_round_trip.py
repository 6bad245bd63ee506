"""A licence goes out as ODRL and comes back whole, whatever its terms are."""

import json
from dataclasses import MISSING, fields

from hypothesis import HealthCheck, given, settings

from governance.exchange import export, load, odrl, of
from governance.exchange.rights import ABSENT, normal
from governance.services.terms import Terms
from tests.governance.exchange.generated import _FIELDS, TERMS


def test_every_term_of_a_licence_is_known_to_the_exchange_with_its_default():
    assert set(ABSENT) == {field.name for field in fields(Terms)} == set(_FIELDS)
    for field in fields(Terms):
        default = field.default_factory() if field.default is MISSING and (
            field.default_factory is not MISSING
        ) else field.default  # fmt: skip
        if default is not MISSING:
            value = list(default) if isinstance(default, tuple) else default
            assert ABSENT[field.name] == value, field.name


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TERMS)
def test_a_licence_comes_back_from_odrl_with_every_term_and_no_loss(terms):
    out = export("odrl", terms)
    back = load("odrl", out.body)
    assert out.losses == ()
    assert back.losses == ()
    assert normal(back.terms_fields) == terms


@settings(max_examples=50, deadline=None)
@given(TERMS)
def test_a_policy_written_twice_is_the_same_policy(terms):
    first = export("odrl", terms).body
    again = export("odrl", load("odrl", first).terms_fields).body
    assert json.loads(first) == json.loads(again)


def test_a_policy_says_whose_and_about_what():
    policy = odrl.export({"uses": ["train"], "purposes": []})
    assert policy["@type"] == "Offer"
    assert policy["conflict"] == "prohibit"
    assert policy["permission"][0]["action"] == "reclaim:train-expert"
    assert of({"uses": ["train"]}).reference == ""

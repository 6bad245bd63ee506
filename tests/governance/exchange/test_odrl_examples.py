"""Policies of others, built after the examples of the ODRL Information Model 2.2.

Parties, assets and numbers are ours; the structure is that of the example named. What each may
bring, and what it may not, follows from one law: an import never widens.
"""

import json
from datetime import UTC, datetime

import pytest

from governance.errors import InvalidTerms
from governance.exchange import Direction, load
from governance.exchange.odrl.words import PROFILE
from governance.vocabulary import Purpose, Use

CONTEXT = "http://www.w3.org/ns/odrl.jsonld"
TRAIN = "reclaim:train-expert"
ANSWER = "reclaim:route-inference"
PREFIX = {"reclaim": PROFILE}
ALL_PURPOSES = sorted(str(purpose) for purpose in Purpose if purpose.parent is None)
BIRCH = "https://birch.example/archive"
LETTERS = "https://birch.example/letters"


def policy(kind="Offer", /, **fields):
    context = [CONTEXT, PREFIX]
    base = {"@context": context, "@type": kind, "uid": "https://birch.example/policy/1"}
    return {**base, **fields}


def permission(action="use", /, **fields):
    return {"target": LETTERS, "assigner": BIRCH, "action": action, **fields}


def limit(left, operator, right, **fields):
    return {"leftOperand": left, "operator": operator, "rightOperand": right, **fields}


def read(found):
    return load("odrl", json.dumps(found).encode())


def directions(imported):
    return {loss.term: loss.direction for loss in imported.losses}


def grants_nothing(imported):
    return imported.terms_fields["uses"] == []


def test_example_1_a_set_with_one_use_is_read_as_training_and_answering():
    found = read(policy("Set", permission=[permission()]))
    assert found.terms_fields["uses"] == ["answer", "train"]
    assert found.terms_fields["purposes"] == ALL_PURPOSES
    assert directions(found) == {"uses": Direction.CONFIRM}


def test_example_2_an_offer_to_play_grants_nothing_we_do():
    found = read(policy(permission=[permission("play")]))
    assert grants_nothing(found)
    assert directions(found) == {"uses": Direction.REFUSED}


def test_example_3_an_agreement_names_somebody_who_must_be_confirmed():
    who = "https://birch.example/person/tove"
    found = read(policy("Agreement", permission=[permission("ai-training", assignee=who)]))
    assert found.terms_fields["uses"] == ["train"]
    assert directions(found)["assignee"] is Direction.CONFIRM
    assert who in {loss.value for loss in found.losses}


def test_example_5_a_collection_as_a_whole_is_read():
    target = {"@type": "AssetCollection", "uid": f"{BIRCH}/all"}
    found = read(policy("Policy", permission=[permission("data-mining", target=target)]))
    assert found.terms_fields["uses"] == ["train"]


def test_example_9_parties_with_vcards_are_read_by_their_uid():
    context = [CONTEXT, {"vcard": "http://www.w3.org/2006/vcard/ns#"}]
    who = {
        "@type": ["Party", "vcard:Organization"],
        "uid": "https://quill.example/",
        "vcard:fn": "Q",
    }
    rule = permission("use", assignee=who)
    found = read({**policy("Agreement", permission=[rule]), "@context": context})
    assert found.terms_fields["uses"] == ["answer", "train"]
    assert "https://quill.example/" in {loss.value for loss in found.losses}


def test_example_13_a_last_date_becomes_the_end():
    before = limit("dateTime", "lt", {"@value": "2029-01-01", "@type": "xsd:date"})
    found = read(policy(permission=[permission("ai-training", constraint=[before])]))
    assert found.terms_fields["ends_at"] == datetime(2029, 1, 1, tzinfo=UTC)
    assert directions(found)["period"] is Direction.CONFIRM


def test_example_14_a_refined_action_is_not_taken_over():
    refined = {
        "rdf:value": {"@id": "odrl:ai-training"},
        "refinement": [limit("resolution", "lteq", {"@value": "1200", "@type": "xsd:integer"})],
    }
    found = read(policy(permission=[permission([refined])]))
    assert grants_nothing(found)
    assert "refined" in found.losses[0].reason


def test_example_15_a_choice_of_constraints_is_not_taken_over():
    choice = {"xone": {"@list": [{"@id": "https://birch.example/c1"}]}}
    found = read(policy(permission=[permission("ai-training", constraint=[choice])]))
    assert grants_nothing(found)


def test_example_16_a_part_of_a_collection_is_not_the_collection():
    target = {
        "@type": "AssetCollection",
        "source": BIRCH,
        "refinement": [limit("runningTime", "lt", {"@value": "60"})],
    }
    found = read(policy(permission=[permission("ai-training", target=target)]))
    assert grants_nothing(found)
    assert "only a part" in found.losses[0].reason


def test_example_17_a_refined_party_is_not_everyone_in_it():
    who = {
        "@type": "PartyCollection",
        "source": "https://birch.example/friends",
        "refinement": [limit("foaf:age", "gt", {"@value": "17"})],
    }
    found = read(policy("Agreement", permission=[permission("ai-training", assignee=who)]))
    assert grants_nothing(found)


def test_example_18_a_last_day_is_taken_whole():
    until = limit("dateTime", "lteq", {"@value": "2028-12-31", "@type": "xsd:date"})
    found = read(policy(permission=[permission("ai-training", constraint=[until])]))
    assert found.terms_fields["ends_at"] == datetime(2029, 1, 1, tzinfo=UTC)


def test_example_19_a_prohibition_we_cannot_place_forbids_everything():
    rules = {"permission": [permission("ai-training")], "prohibition": [permission("archive")]}
    found = read(policy("Agreement", conflict="prohibit", **rules))
    assert grants_nothing(found)
    assert directions(found)["prohibited_uses"] is Direction.NARROWER


def test_example_20_an_obligation_to_pay_a_sum_is_kept_in_words():
    pay = {
        "rdf:value": {"@id": "odrl:compensate"},
        "refinement": [
            limit("payAmount", "eq", {"@value": "500.00"}, unit="http://dbpedia.org/resource/Euro")
        ],
    }
    rules = {"permission": [permission("ai-training")], "obligation": [{"action": [pay]}]}
    found = read(policy("Agreement", **rules))
    assert found.terms_fields["uses"] == ["train"]
    owed = {"action": "compensate", "about": "payAmount eq 500.00 EUR"}
    assert found.terms_fields["duties"] == [owed]
    assert directions(found)["duties"] is Direction.CONFIRM


def test_example_21_the_consequence_of_a_breach_is_named_as_unsaid():
    duty = {"action": "delete", "target": LETTERS, "consequence": [{"action": "compensate"}]}
    found = read(policy(permission=[permission("ai-training")], obligation=[duty]))
    assert found.terms_fields["duties"] == [{"action": "delete"}]
    assert directions(found)["consequence"] is Direction.UNSAID


def test_example_22_a_duty_before_use_keeps_its_condition_in_words():
    duty = {
        "action": "compensate",
        "constraint": [limit("event", "lt", {"@id": "odrl:policyUsage"})],
    }
    found = read(policy(permission=[permission("ai-training", duty=[duty])]))
    assert "event lt" in found.terms_fields["duties"][0]["about"]


def test_example_23_credit_becomes_required_and_tracking_is_unsaid():
    duty = {
        "action": "attribute",
        "attributedParty": "https://birch.example/",
        "consequence": [{"action": "acceptTracking"}],
    }
    found = read(policy("Agreement", permission=[permission("ai-training", duty=[duty])]))
    assert found.terms_fields["requires_attribution"] is True
    assert found.terms_fields["attribution_text"] == "https://birch.example/"
    assert directions(found)["consequence"] is Direction.UNSAID


def test_example_24_a_remedy_is_named_as_unsaid():
    rule = permission("distribute", remedy=[{"action": "anonymize"}])
    found = read(policy(permission=[permission("ai-training")], prohibition=[rule]))
    assert found.terms_fields["uses"] == ["train"]
    assert found.terms_fields["prohibited_uses"] == ["redistribute"]
    assert directions(found)["remedy"] is Direction.UNSAID


def test_example_26_several_actions_are_taken_one_by_one():
    found = read(policy("Policy", permission=[permission(["play", "ai-training"])]))
    assert found.terms_fields["uses"] == ["train"]
    assert Direction.REFUSED in {loss.direction for loss in found.losses}


def test_example_28_what_rules_share_stands_at_the_policy():
    shared = {"target": LETTERS, "assigner": BIRCH, "action": "ai-training"}
    rules = [{"assignee": "https://a.example/"}, {"assignee": "https://b.example/"}]
    found = read(policy("Policy", **shared, permission=rules))
    assert found.terms_fields["uses"] == ["train"]


def test_example_30_descriptions_of_a_policy_limit_nothing():
    context = [CONTEXT, {"dc": "http://purl.org/dc/terms/"}]
    about = {"dc:creator": "Birch Archive", "dc:coverage": {"@id": "urn:x"}}
    found = read({**policy("Policy", permission=[permission()], **about), "@context": context})
    assert found.terms_fields["uses"] == ["answer", "train"]


def test_example_31_and_32_what_is_inherited_is_not_here_so_nothing_is_taken():
    inherit = {"inheritFrom": "https://birch.example/policy/default"}
    found = read(policy("Agreement", permission=[permission()], **inherit))
    assert grants_nothing(found)
    assert "inherits" in found.losses[0].reason


def test_example_35_where_permissions_win_there_prohibitions_win_here():
    rules = {"permission": [permission("ai-training")], "prohibition": [permission("ai-training")]}
    found = read(policy(conflict="perm", **rules))
    assert grants_nothing(found)
    assert directions(found)["conflict"] is Direction.NARROWER


def test_a_policy_that_contradicts_itself_without_a_rule_is_void():
    rules = {"permission": [permission(TRAIN)], "prohibition": [permission(TRAIN)]}
    found = read(policy(**rules))
    assert found.terms_fields == {"uses": [], "purposes": []}
    assert directions(found)["conflict"] is Direction.REFUSED


@pytest.mark.parametrize("kind", ["Request", "Ticket", "Assertion", "Wish"])
def test_a_policy_that_grants_nothing_grants_nothing(kind):
    assert grants_nothing(read(policy(kind, permission=[permission()])))


@pytest.mark.parametrize(
    "action", ["nextPolicy", "obtainConsent", "reviewPolicy", "acceptTracking"]
)
def test_an_obligation_we_cannot_keep_refuses_the_policy(action):
    found = read(policy(permission=[permission()], obligation=[{"action": action}]))
    assert grants_nothing(found)
    assert directions(found)["duties"] is Direction.REFUSED


UNREADABLE = [
    limit("purpose", "eq", "https://elsewhere.example/purpose/unheard-of"),
    limit("purpose", "isAllOf", [f"{PROFILE}purpose-research", f"{PROFILE}purpose-education"]),
    limit("purpose", "isNoneOf", "https://elsewhere.example/purpose/unheard-of"),
    limit("spatial", "eq", "https://sws.geonames.org/2921044/"),
    limit("recipient", "eq", "https://elsewhere.example/party"),
    limit("count", "lteq", "5"),
    limit("dateTime", "eq", "2028-01-01"),
    limit("dateTime", "lt", "soon"),
    limit("elapsedTime", "lteq", "P30D"),
    limit("meteredTime", "lteq", "PT5H"),
    limit("system", "eq", "https://elsewhere.example/system"),
    limit("version", "lt", "2"),
    {"leftOperand": "purpose", "operator": "eq", "rightOperandReference": "https://a.example/"},
    {"@id": "https://birch.example/constraint/7"},
    "https://birch.example/constraint/7",
    {"or": [limit("spatial", "eq", "reclaim:EU")]},
    {**limit("spatial", "eq", "reclaim:EU"), "ex:unlessRaining": True},
]


@pytest.mark.parametrize("constraint", UNREADABLE, ids=str)
def test_a_permission_with_a_limit_we_cannot_keep_is_not_taken_over(constraint):
    limited = permission(TRAIN, constraint=[constraint])
    found = read(policy(permission=[limited, permission(ANSWER)]))
    assert found.terms_fields["uses"] == ["answer"]
    assert directions(found)["permission"] is Direction.REFUSED


def test_an_unknown_property_of_a_permission_takes_it_along():
    found = read(policy(permission=[permission(TRAIN, embargo="P1Y")]))
    assert grants_nothing(found)


def test_an_unknown_property_of_a_policy_takes_everything_along():
    assert grants_nothing(read(policy(permission=[permission()], embargo="P1Y")))
    assert grants_nothing(read(policy(permission=[permission()], **{"reclaim:embargo": "P1Y"})))


def test_of_a_list_of_purposes_the_unknown_ones_are_left_out():
    known = f"{PROFILE}purpose-research"
    some = limit("purpose", "isAnyOf", [known, "https://elsewhere.example/p"])
    found = read(policy(permission=[permission(TRAIN, constraint=[some])]))
    assert found.terms_fields["purposes"] == ["research"]
    assert directions(found)["purposes"] is Direction.NARROWER


def test_permissions_that_differ_are_all_held_to_the_strictest():
    here = limit(
        "spatial", "isAnyOf", ["reclaim:EU", "https://www.iso.org/obp/ui/#iso:code:3166:US"]
    )
    there = limit("spatial", "eq", "https://www.iso.org/obp/ui/#iso:code:3166:NL")
    early = limit("dateTime", "lt", "2027-01-01T00:00:00Z")
    rules = [
        permission(TRAIN, constraint=[here]),
        permission(ANSWER, constraint=[there, early]),
    ]
    found = read(policy(permission=rules))
    assert found.terms_fields["territories"] == ["NL"]
    assert found.terms_fields["ends_at"] == datetime(2027, 1, 1, tzinfo=UTC)
    assert directions(found)["territories"] is Direction.NARROWER


def test_a_purpose_of_the_privacy_vocabulary_is_read():
    research = limit("purpose", "isA", {"@id": "dpv:AcademicResearch"})
    context = [CONTEXT, PREFIX, {"dpv": "https://w3id.org/dpv#"}]
    rule = permission("ai-training", constraint=[research])
    found = read({**policy(permission=[rule]), "@context": context})
    assert found.terms_fields["purposes"] == ["academic_research"]


def test_a_prohibition_of_a_purpose_or_a_place_bars_it_alone():
    ads = limit("purpose", "eq", f"{PROFILE}purpose-advertising")
    place = limit("spatial", "eq", "http://www.itu.int/tML/tML-ISO-3166:it")
    bars = [permission("use", constraint=[ads]), permission("use", constraint=[place])]
    found = read(policy(conflict="prohibit", permission=[permission(TRAIN)], prohibition=bars))
    assert found.terms_fields["uses"] == ["train"]
    assert found.terms_fields["prohibited_purposes"] == ["advertising"]
    assert found.terms_fields["excluded_territories"] == ["IT"]


def test_a_prohibition_with_a_limit_we_cannot_keep_forbids_without_limit():
    unknown = limit("event", "gt", "https://birch.example/flood")
    bar = permission(TRAIN, constraint=[unknown])
    rules = {"permission": [permission(TRAIN), permission(ANSWER)], "prohibition": [bar]}
    found = read(policy(conflict="prohibit", **rules))
    assert found.terms_fields["uses"] == ["answer"]


def test_every_use_of_ours_has_an_action():
    rules = [permission(f"reclaim:{name}") for name in ("merge-build", "quantise", "distil")]
    found = read(policy(permission=rules))
    assert found.terms_fields["uses"] == [Use.DISTIL, Use.MERGE, Use.QUANTISE]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (b"not json", "no JSON"),
        (b"\xff\xfe", "0xff"),
        (b"[]", "expanded form"),
        (b"3", "a bare value"),
        (b"[" * 100_000, "no JSON"),
        (b"x" * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
def test_what_is_no_policy_is_refused_with_a_reason(found, problem):
    with pytest.raises(InvalidTerms, match=problem):
        load("odrl", found)


@pytest.mark.parametrize(
    "context",
    [
        None,
        "https://schema.org",
        [CONTEXT, "https://elsewhere.example/context.jsonld"],
        [CONTEXT, {"permission": "http://www.w3.org/ns/odrl/2/prohibition"}],
        [CONTEXT, {"use": "https://elsewhere.example/vocabulary#"}],
        [CONTEXT, {"@vocab": "https://elsewhere.example/vocabulary#"}],
        [CONTEXT, {"odrl": "https://elsewhere.example/vocabulary#"}],
        [CONTEXT, {"x": {"@id": "https://elsewhere.example/", "@type": "@id"}}],
    ],
)
def test_a_context_that_could_change_what_words_mean_is_refused(context):
    with pytest.raises(InvalidTerms, match="context"):
        read({**policy(permission=[permission()]), "@context": context})


@pytest.mark.parametrize(
    "spoilt",
    [
        {"reclaim:notice": "a month"},
        {"reclaim:clauses": "§ 3"},
        {"reclaim:paymentType": "barter"},
        {"reclaim:note": 7},
    ],
)
def test_our_own_terms_with_what_they_cannot_hold_are_refused(spoilt):
    with pytest.raises(InvalidTerms, match="Correct the file"):
        read(policy(profile=PROFILE, permission=[permission(TRAIN)], **spoilt))

"""The law of imports: whatever is added to a policy to narrow it, the import grants no more."""

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from governance.exchange import export, load
from governance.exchange.odrl.words import PROFILE
from governance.exchange.rights import normal
from governance.vocabulary import Purpose, TerritoryGroup
from tests.factories import NOW, after
from tests.governance.exchange.generated import TERMS
from tests.governance.exchange.test_odrl_examples import UNREADABLE, limit

_COUNTRY = "https://www.iso.org/obp/ui/#iso:code:3166:"
READABLE = [
    limit("purpose", "isAnyOf", [f"{PROFILE}purpose-research", f"{PROFILE}purpose-justice"]),
    limit("purpose", "neq", f"{PROFILE}purpose-advertising"),
    limit("spatial", "isAnyOf", [f"{PROFILE}EU", f"{_COUNTRY}US"]),
    limit("spatial", "isNoneOf", [f"{_COUNTRY}NL"]),
    limit("dateTime", "lt", "2027-06-01T00:00:00Z"),
    limit("dateTime", "gteq", "2026-06-01T00:00:00Z"),
    limit("industry", "isAnyOf", ["A", "P"]),
    limit("recipient", "eq", "urn:reclaim:consumer:dara"),
    limit("count", "lteq", "100", unit={"@id": f"{PROFILE}token"}),
    limit("version", "eq", f"sha256:{'a' * 64}"),
]
CHANGES = st.lists(
    st.tuples(st.just("constraint"), st.sampled_from(READABLE + UNREADABLE))
    | st.tuples(st.just("prohibition"), st.sampled_from(["use", "derive", "sell", "unheard-of"]))
    | st.tuples(st.just("bar"), st.sampled_from(READABLE + UNREADABLE))
    | st.tuples(st.just("duty"), st.sampled_from(["attribute", "delete", "obtainConsent"])),
    min_size=1,
    max_size=3,
)


def narrowed(policy, changes):
    found = copy.deepcopy(policy)
    for kind, what in changes:
        if kind == "constraint":
            for rule in found["permission"]:
                rule.setdefault("constraint", []).append(what)
        elif kind == "prohibition":
            found.setdefault("prohibition", []).append({"action": what})
        elif kind == "bar":
            rule = {"action": "use", "constraint": [what]}
            found.setdefault("prohibition", []).append(rule)
        else:
            found.setdefault("obligation", []).append({"action": what})
    return found


def within(codes, wider, *, part=lambda a, b: a == b):
    """Whether each of `codes` lies in one of `wider`; None is everything."""
    if wider is None:
        return True
    return codes is not None and all(any(part(a, b) for b in wider) for a in codes)


def countries(codes):
    if codes is None:
        return None
    found = set()
    for code in codes:
        found |= TerritoryGroup(code).countries if code in set(TerritoryGroup) else {code}
    return found


def is_part(one, other):
    return Purpose(one).is_part_of(Purpose(other))


def grants_no_more(inner, outer):
    uses = [set(each["uses"]) - set(each["prohibited_uses"]) for each in (inner, outer)]
    if not uses[0]:
        return True
    if not uses[0] <= uses[1]:
        return False
    lists = ("consumers", "recipient_classes", "sectors")
    against = [name for name in outer if name.startswith(("prohibited_", "excluded_"))]
    ends = (inner["ends_at"], outer["ends_at"])
    return (
        # Purposes are those of whoever asks: without answering they grant nothing.
        ("answer" not in uses[0] or within(inner["purposes"], outer["purposes"], part=is_part))
        and all(within(inner[name], outer[name]) for name in lists)
        and within(countries(inner["territories"]), countries(outer["territories"]))
        and all(set(outer[name]) <= set(inner[name]) for name in against)
        and inner["starts_at"] >= outer["starts_at"]
        and (ends[1] is None or (ends[0] is not None and ends[0] <= ends[1]))
        and all(
            outer[name] is None or (inner[name] is not None and inner[name] <= outer[name])
            for name in ("max_tokens", "max_answers")
        )
        and inner["max_extraction_rate"] <= outer["max_extraction_rate"]
        and outer["expert_digest"] in ("", inner["expert_digest"])
    )


@settings(max_examples=300, deadline=None)
@given(TERMS, CHANGES)
def test_a_policy_with_more_limits_never_grants_more(terms, changes):
    policy = json.loads(export("odrl", terms).body)
    found = load("odrl", json.dumps(narrowed(policy, changes)).encode())
    assert grants_no_more(normal(found.terms_fields), terms)


def test_the_measure_itself_sees_a_wider_grant():
    # A law tested with a measure that is always content would be no law.
    narrow = normal({"uses": ["answer"], "purposes": ["teaching"], "territories": ["NL"],
                     "starts_at": NOW})  # fmt: skip
    wider = [
        {"uses": ["train", "answer"]},
        {"purposes": ["education"]},
        {"territories": ["EU"]},
        {"territories": None},
        {"starts_at": after(-1)},
        {"max_extraction_rate": 0.5},
    ]
    assert grants_no_more(narrow, narrow)
    assert not any(grants_no_more({**narrow, **change}, narrow) for change in wider)

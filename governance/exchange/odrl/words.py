"""The words of our ODRL profile, and what words of others mean in ours.

Our own terms live under `PROFILE`. Sources: ODRL Information Model 2.2 (W3C Recommendation, 15
February 2018), ODRL Vocabulary & Expression 2.2, the draft AI vocabulary of the ODRL community
group (ai-training, data-mining, gen-ai), Data Privacy Vocabulary 2 (purposes).
"""

from __future__ import annotations

from governance.vocabulary import Purpose, Use

ODRL = "http://www.w3.org/ns/odrl/2/"
CONTEXT = "http://www.w3.org/ns/odrl.jsonld"
PROFILE = "https://reclaim.example/ns/odrl#"
PREFIXES = {
    "odrl": ODRL,
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
"""Prefixes the ODRL context brings along; our own is declared in each file."""
OWN = "reclaim:"
URN = "urn:reclaim:"
COUNTRY = "https://www.iso.org/obp/ui/#iso:code:3166:"
CURRENCY = "urn:iso:std:iso:4217:"

ACTIONS = {
    Use.TRAIN: "train-expert",
    Use.ANSWER: "route-inference",
    Use.MERGE: "merge-build",
    Use.AUDIT: "run-audit",
    Use.TUNE_ROUTER: "router-train-on-proxy",
    Use.QUANTISE: "quantise",
    Use.DISTIL: "distil",
    Use.FINE_TUNE: "fine-tune-downstream",
    Use.REDISTRIBUTE: "redistribute-weights",
}
"""The local name, in our profile, of the action that is each use."""
USES = {f"{PROFILE}{name}": use for use, name in ACTIONS.items()}

PERMITTED = {
    **{iri: (use,) for iri, use in USES.items()},
    f"{ODRL}use": (Use.TRAIN, Use.ANSWER),
    f"{ODRL}ai-training": (Use.TRAIN,),
    f"{ODRL}data-mining": (Use.TRAIN,),
    f"{ODRL}gen-ai": (Use.TRAIN,),
}
"""What a permission of an action lets us do: never more than the action covers."""

_LEARNING = (Use.TRAIN, Use.TUNE_ROUTER, Use.DISTIL, Use.FINE_TUNE)
_HANDING_ON = (Use.REDISTRIBUTE,)
FORBIDDEN = {
    **{iri: (use,) for iri, use in USES.items()},
    **{f"{ODRL}{name}": _LEARNING for name in ("ai-training", "data-mining", "gen-ai", "derive")},
    **{
        f"{ODRL}{name}": _HANDING_ON
        for name in ("distribute", "sell", "give", "lend", "lease", "transfer", "share", "grantUse")
    },
}
"""What a prohibition of an action forbids us; an action not listed forbids everything."""

_DPV = "https://w3id.org/dpv#"
PURPOSES = {
    **{f"{PROFILE}purpose-{purpose}": purpose for purpose in Purpose},
    f"{_DPV}ResearchAndDevelopment": Purpose.RESEARCH,
    f"{_DPV}AcademicResearch": Purpose.ACADEMIC_RESEARCH,
    f"{_DPV}CommercialResearch": Purpose.INDUSTRIAL_RESEARCH,
    f"{_DPV}CommercialPurpose": Purpose.COMMERCIAL,
    f"{_DPV}Advertising": Purpose.ADVERTISING,
}
"""Purposes of others that mean exactly one of ours, or less."""
TOP_PURPOSES = tuple(purpose for purpose in Purpose if purpose.parent is None)

PLAIN_TERMS = {
    "quotaPeriod": "quota_period",
    "paymentType": "payment_type",
    "currency": "currency",
    "attributionText": "attribution_text",
    "onWithdrawal": "on_withdrawal",
    "governingLaw": "governing_law",
    "survival": "survival",
    "contractDigest": "contract_digest",
    "note": "note",
}
"""Properties of the policy in our profile that hold a text, and the terms they are."""
DAY_TERMS = {"notice": "notice_days", "windDown": "wind_down_days"}
"""Properties of the policy in our profile that hold a duration in days."""
DUTY_ACTIONS = {f"{ODRL}{name}": name for name in ("attribute", "inform", "compensate", "delete")}

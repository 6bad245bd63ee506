"""A second evaluator, as plain as it can be: loops over the JSON body, one question at a time.

It shares no code with `governance.policy` beyond the vocabulary's words, and it is slow on
purpose: whoever doubts a decision can follow it with a finger.
"""

from __future__ import annotations

import re
from datetime import datetime

_IN_ORDER = (
    "WITHDRAWN VOIDED SUSPENDED NO_LICENCE PURPOSE CONSUMER JURISDICTION NOT_YET EXPIRED QUOTA "
    "RECIPIENT AUDIT REVISION LEASE EPOCH_STALE LICENCE_UNREADABLE UNKNOWN_EXPERT "
    "EXCLUDED_BY_REQUEST"
)
ORDER = tuple(_IN_ORDER.split())


# The tree, written out: what a purpose includes besides itself.
BELOW = {
    "research": ["academic_research", "industrial_research"],
    "education": ["teaching", "examination"],
    "commercial": ["internal_business", "customer_product", "advertising"],
    "public_service": ["public_administration", "healthcare", "justice"],
    "evaluation": ["benchmarking", "safety_testing"],
}
CLASSES = ["commercial", "non_commercial", "education", "government", "personal"]
SECTORS = list("ABCDEFGHIJKLMNOPQRSTU")


def judged(body, ask, at, exhausted=()):
    """`(allowed names, {denied name: reasons})`, without looking at what the ask requires."""
    allowed, denied = [], {}
    for expert in body["experts"]:
        reasons = reasons_for(expert, body, ask, at, exhausted)
        if reasons:
            denied[expert["name"]] = tuple(code for code in ORDER if code in reasons)
        else:
            allowed.append(expert["name"])
    return allowed, denied


def covers(body, ask, at, exhausted=()):
    """`{allowed name: references of the licences that cover it, the charged one first}`."""
    found = {}
    for expert in body["experts"]:
        if reasons_for(expert, body, ask, at, exhausted):
            continue
        standing = next(one for one in body["standings"] if one["name"] == expert["name"])
        fitting = [
            grant
            for grant in body["grants"]
            if grant["expert"] == expert["name"]
            and "answer" in grant["uses"]
            and not grant_reasons(grant, standing, ask, at, exhausted)
        ]
        fitting.sort(key=lambda grant: grant["licence"])
        fitting.sort(key=lambda grant: instant(grant["starts_at"]), reverse=True)
        found[expert["name"]] = tuple(grant["licence"] for grant in fitting)
    return found


def outlived(body, covered):
    """Names whose loss an answer outlives: the grant of the licence charged for them says so."""
    return {
        grant["expert"]
        for grant in body["grants"]
        if grant["on_withdrawal"] == "recompute"
        and covered.get(grant["expert"], ("",))[0] == grant["licence"]
    }


def reasons_for(expert, body, ask, at, exhausted):
    name = expert["name"]
    reasons = set()
    standing = next((one for one in body["standings"] if one["name"] == name), None)
    gaps = [gap for gap in body["gaps"] if gap["expert"] == name]
    if gaps or standing is None:
        reasons.add("LICENCE_UNREADABLE")
    if standing is not None:
        reasons |= standing_reasons(standing, expert, ask, at)
    grants = [grant for grant in body["grants"] if grant["expert"] == name]
    answering = [grant for grant in grants if "answer" in grant["uses"]]
    if not answering and "LICENCE_UNREADABLE" not in reasons:
        reasons.add("NO_LICENCE")
    failures = [grant_reasons(grant, standing, ask, at, exhausted) for grant in answering]
    if all(failures):
        for failed in failures:
            reasons |= failed
    for grant in grants:
        if in_written_period(grant, at):
            reasons |= prohibitions(grant, ask)
    if name in ask.exclude:
        reasons.add("EXCLUDED_BY_REQUEST")
    return reasons


def standing_reasons(standing, expert, ask, at):
    reasons = stop_reasons(standing["stops"], ask, at)
    if standing["state"] in ("withdrawn", "erased"):
        reasons.add("WITHDRAWN")
    elif standing["state"] == "suspended":
        reasons.add("SUSPENDED")
    elif standing["state"] != "active":
        reasons.add("AUDIT")
    if standing["verdict"] != "pass":
        reasons.add("AUDIT")
    if standing["digest"] != expert["digest"]:
        reasons.add("REVISION")
    return reasons


def grant_reasons(grant, standing, ask, at, exhausted):
    reasons = stop_reasons(grant["stops"], ask, at) | misfits(grant, ask)
    if grant["licence"] in exhausted:
        reasons.add("QUOTA")
    if at < instant(grant["starts_at"]):
        reasons.add("NOT_YET")
    if grant["ends_at"] is not None and at >= instant(grant["ends_at"]):
        reasons.add("EXPIRED")
    rate = None if standing is None else standing["extraction_rate"]
    if rate is None or rate > grant["max_extraction_rate"]:
        reasons.add("AUDIT")
    held = None if standing is None else standing["digest"]
    if grant["revision"] is not None and grant["revision"] != held:
        reasons.add("REVISION")
    return reasons


def misfits(grant, ask):
    """In what the request says it does not fit the licence."""
    reasons = set()
    if not is_within(ask.purpose, grant["purposes"]) or is_within(
        ask.purpose, grant["prohibited_purposes"]
    ):
        reasons.add("PURPOSE")
    if not consumer_fits(grant, ask.consumer):
        reasons.add("CONSUMER")
    if not territory_fits(grant, ask.territory):
        reasons.add("JURISDICTION")
    if not recipient_class_fits(grant, ask.recipient_class):
        reasons.add("RECIPIENT")
    if not sector_fits(grant, ask.sector):
        reasons.add("RECIPIENT")
    return reasons


def prohibitions(grant, ask):
    """What the licence forbids everyone who asks like this, whatever other licences say."""
    reasons = set()
    if "answer" in grant["prohibited_uses"]:
        reasons.add("NO_LICENCE")
    if is_within(ask.purpose, grant["prohibited_purposes"]):
        reasons.add("PURPOSE")
    if ask.consumer in grant["excluded_consumers"]:
        reasons.add("CONSUMER")
    if ask.territory in grant["excluded_territories"]:
        reasons.add("JURISDICTION")
    if ask.sector in grant["excluded_sectors"]:
        reasons.add("RECIPIENT")
    if grant["excluded_sectors"] and ask.sector == "":
        reasons.add("RECIPIENT")
    return reasons


def stop_reasons(stops, ask, at):
    reasons = set()
    for stop in stops:
        begun = at >= instant(stop["starts_at"])
        over = stop["ends_at"] is not None and at >= instant(stop["ends_at"])
        if begun and not over and is_hit(stop, ask):
            code = {"suspend": "SUSPENDED", "withdraw": "WITHDRAWN", "invalidate": "VOIDED"}
            reasons.add(code.get(stop["instrument"], "EXPIRED"))
    return reasons


def is_hit(stop, ask):
    if stop["purposes"] is not None and not is_within(ask.purpose, stop["purposes"]):
        return False
    if stop["consumers"] is not None and ask.consumer not in stop["consumers"]:
        return False
    return ask.consumer not in stop["spares"]


def is_within(purpose, named):
    return any(purpose == wide or purpose in BELOW.get(wide, []) for wide in named)


def consumer_fits(grant, consumer):
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(consumer)):
        return False
    if consumer in grant["excluded_consumers"]:
        return False
    return grant["consumers"] is None or consumer in grant["consumers"]


def territory_fits(grant, territory):
    if not re.fullmatch(r"[A-Z]{2}", str(territory)) or territory == "EU":
        return False
    if territory in grant["excluded_territories"]:
        return False
    return grant["territories"] is None or territory in grant["territories"]


def recipient_class_fits(grant, recipient_class):
    if grant["recipient_classes"] is None:
        return recipient_class == "" or recipient_class in CLASSES
    return recipient_class in grant["recipient_classes"]


def sector_fits(grant, sector):
    if sector == "":
        return grant["sectors"] is None and not grant["excluded_sectors"]
    if sector not in SECTORS or sector in grant["excluded_sectors"]:
        return False
    return grant["sectors"] is None or sector in grant["sectors"]


def in_written_period(grant, at):
    ends_at = grant["ends_at"]
    return instant(grant["starts_at"]) <= at and (ends_at is None or at < instant(ends_at))


def instant(text):
    return datetime.fromisoformat(text)

"""A second evaluator, as plain as it can be: loops over the JSON body, one question at a time.

It shares no code with `governance.policy` beyond the vocabulary's words, and it is slow on
purpose: whoever doubts a decision can follow it with a finger.
"""

from __future__ import annotations

import re
from datetime import datetime

_IN_ORDER = (
    "WITHDRAWN SUSPENDED NO_LICENCE PURPOSE CONSUMER JURISDICTION NOT_YET EXPIRED QUOTA AUDIT "
    "REVISION LEASE EPOCH_STALE LICENCE_UNREADABLE UNKNOWN_EXPERT EXCLUDED_BY_REQUEST"
)
ORDER = tuple(_IN_ORDER.split())


def judged(body, ask, at):
    """`(allowed names, {denied name: reasons})`, without looking at what the ask requires."""
    allowed, denied = [], {}
    for expert in body["experts"]:
        reasons = reasons_for(expert, body, ask, at)
        if reasons:
            denied[expert["name"]] = tuple(code for code in ORDER if code in reasons)
        else:
            allowed.append(expert["name"])
    return allowed, denied


def reasons_for(expert, body, ask, at):
    name = expert["name"]
    reasons = set()
    standing = next((one for one in body["standings"] if one["name"] == name), None)
    gaps = [gap for gap in body["gaps"] if gap["expert"] == name]
    if gaps or standing is None:
        reasons.add("LICENCE_UNREADABLE")
    if standing is not None:
        reasons |= standing_reasons(standing, expert, at)
    grants = [
        grant for grant in body["grants"] if grant["expert"] == name and "answer" in grant["uses"]
    ]
    if not grants and "LICENCE_UNREADABLE" not in reasons:
        reasons.add("NO_LICENCE")
    failures = [grant_reasons(grant, standing, ask, at) for grant in grants]
    if all(failures):
        for failed in failures:
            reasons |= failed
    for grant in grants:
        if ask.consumer in grant["excluded_consumers"] and in_written_period(grant, at):
            reasons.add("CONSUMER")
    if name in ask.exclude:
        reasons.add("EXCLUDED_BY_REQUEST")
    return reasons


def standing_reasons(standing, expert, at):
    reasons = stop_reasons(standing["stops"], at)
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


def grant_reasons(grant, standing, ask, at):
    reasons = stop_reasons(grant["stops"], at)
    if ask.purpose not in grant["purposes"]:
        reasons.add("PURPOSE")
    if not consumer_fits(grant, ask.consumer):
        reasons.add("CONSUMER")
    if not territory_fits(grant, ask.territory):
        reasons.add("JURISDICTION")
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


def stop_reasons(stops, at):
    reasons = set()
    for stop in stops:
        begun = at >= instant(stop["starts_at"])
        over = stop["ends_at"] is not None and at >= instant(stop["ends_at"])
        if begun and not over:
            code = {"suspend": "SUSPENDED", "withdraw": "WITHDRAWN"}
            reasons.add(code.get(stop["instrument"], "EXPIRED"))
    return reasons


def consumer_fits(grant, consumer):
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(consumer)):
        return False
    if consumer in grant["excluded_consumers"]:
        return False
    return grant["consumers"] is None or consumer in grant["consumers"]


def territory_fits(grant, territory):
    if not re.fullmatch(r"[A-Z]{2}", str(territory)):
        return False
    return grant["territories"] is None or territory in grant["territories"]


def in_written_period(grant, at):
    ends_at = grant["ends_at"]
    return instant(grant["starts_at"]) <= at and (ends_at is None or at < instant(ends_at))


def instant(text):
    return datetime.fromisoformat(text)

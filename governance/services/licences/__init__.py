"""Licences: requested by one person, decided by another, ended by a named instrument.

A licence's own window needs no republishing and its expiry no job: the window is compiled into
the grant, and `decide` is given the instant.
"""

from governance.services.licences.contracts import (
    check_contract,
    contract_is_confirmed,
    contract_of,
    countersign,
    read_contract,
)
from governance.services.licences.decisions import approve, reject, send_back
from governance.services.licences.endings import end, resume
from governance.services.licences.requests import request
from governance.services.licences.templates import Template, save_template, template, templates
from governance.services.terms import Terms, plain_words

__all__ = [
    "Template",
    "Terms",
    "approve",
    "check_contract",
    "contract_is_confirmed",
    "contract_of",
    "countersign",
    "end",
    "plain_words",
    "read_contract",
    "reject",
    "request",
    "resume",
    "save_template",
    "send_back",
    "template",
    "templates",
]

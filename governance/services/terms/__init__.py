"""The terms of a licence: a value, checked field by field, said in plain words, held side by side.

Nothing here writes.
"""

from governance.services.terms.checks import check, wrong_fields
from governance.services.terms.differences import Difference, differences
from governance.services.terms.labels import GROUPS, LABELS, TermGroup, said
from governance.services.terms.value import LISTS, Terms, columns, digest, of
from governance.services.terms.words import Sentence, plain_words, sentences, words_of

__all__ = [
    "GROUPS",
    "LABELS",
    "LISTS",
    "Difference",
    "Sentence",
    "TermGroup",
    "Terms",
    "check",
    "columns",
    "differences",
    "digest",
    "of",
    "plain_words",
    "said",
    "sentences",
    "words_of",
    "wrong_fields",
]

"""Corpora: described, committed to, and never held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, Corpus, DataOwner
from governance.vocabulary import EventTag


@transaction.atomic
def describe(
    owner: DataOwner,
    *,
    slug: str,
    title: str,
    source_licence: str,
    languages: Sequence[str],
    document_count: int,
    text_bytes: int,
    merkle_root: str = "",
    description: str = "",
    by: Account | None,
    at: datetime,
) -> Corpus:
    """Write down what an owner's data is, without the data.

    Args:
        languages: BCP 47 codes.
        merkle_root: commitment to the documents, 64 hexadecimal characters; blank if none yet.

    Raises:
        InvalidTerms: the slug is taken, a number is negative or the root is no digest.
    """
    fields = {}
    if Corpus.objects.filter(slug=slug).exists():
        fields["slug"] = "A corpus of this name is described already."
    if document_count < 0:
        fields["document_count"] = "A count is not negative."
    if text_bytes < 0:
        fields["text_bytes"] = "A size is not negative."
    if merkle_root and not _is_digest(merkle_root):
        fields["merkle_root"] = "64 lowercase hexadecimal characters, or nothing."
    if fields:
        found = "; ".join(f"{name}: {message}" for name, message in fields.items())
        raise InvalidTerms(f"expected a new and plausible corpus, found {found}", fields=fields)
    corpus = Corpus.objects.create(
        owner=owner,
        slug=slug,
        title=title,
        description=description,
        source_licence=source_licence,
        languages=list(languages),
        document_count=document_count,
        text_bytes=text_bytes,
        merkle_root=merkle_root,
        described_at=at,
    )
    events.stage(
        EventTag.CORPUS_DESCRIBED,
        subject=f"corpus:{slug}",
        by=by,
        at=at,
        details={
            "owner": owner.slug,
            "document_count": document_count,
            "text_bytes": text_bytes,
            "merkle_root": merkle_root,
        },
    )
    return corpus


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")

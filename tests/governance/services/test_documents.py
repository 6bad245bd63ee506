"""Files handed in as evidence: whole, named by content, of kinds that are what they say."""

import json

import pytest

from governance.canonical import sha256_hex
from governance.errors import InvalidTerms
from governance.models import Document, StagedEvent
from governance.models.documents import MAX_BYTES
from governance.services import documents
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db
PDF = b"%PDF-1.7\nsigned by Alder Press"


def test_a_file_is_kept_under_its_digest_and_one_event_tells_of_it():
    cato = factories.account("Cato")
    kept = documents.store(PDF, name="c.pdf", media_type="application/pdf", by=cato, at=NOW)
    assert kept.pk == sha256_hex(PDF)
    assert bytes(Document.objects.get().content) == PDF
    [event] = [json.loads(bytes(row.body)) for row in StagedEvent.objects.all()]
    assert (event["tag"], event["subject"]) == ("document.stored", f"document:{kept.pk}")


def test_the_same_bytes_again_are_the_same_file():
    first = documents.store(PDF, name="a.pdf", media_type="application/pdf", by=None, at=NOW)
    again = documents.store(PDF, name="b.pdf", media_type="application/pdf", by=None, at=NOW)
    assert (again.pk, again.name) == (first.pk, "a.pdf")
    assert StagedEvent.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "media_type", "problem"),
    [
        (b"", "text/plain", "found 0 bytes"),
        (b"x" * (MAX_BYTES + 1), "text/plain", "20 MiB"),
        (b"<html>", "text/html", "expected one of"),
        (b"<html>", "application/pdf", "found other bytes"),
        (b"\xff\xfe", "text/plain", "found other bytes"),
        (b"a\0b", "text/plain", "found other bytes"),
    ],
)
def test_other_files_are_refused_with_what_was_found(content, media_type, problem):
    with pytest.raises(InvalidTerms, match=problem) as refusal:
        documents.store(content, name="f", media_type=media_type, by=None, at=NOW)
    assert "file" in refusal.value.fields
    assert not Document.objects.exists()

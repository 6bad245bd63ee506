"""Pages of corpora and of exchange: what is known without the data, what a file would bring."""

import json
from datetime import date

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from governance import exchange
from governance.models import Corpus, Licence
from governance.services.corpora import SCHEME

SKETCH = {"scheme": SCHEME, "minima": [7] * 512, "document_count": 3, "shingle_words": 8}
CORPUS = "/legal/corpora/code-texts/"


def upload(name, content):
    return SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)


def sketch_file():
    return upload("sketch.json", json.dumps(SKETCH))


def test_the_list_shows_every_corpus_and_finds_by_owner(story, by):
    page = by("cato").get("/legal/corpora/").content.decode()
    assert "Code texts" in page
    assert "Languages texts" in page
    found = by("cato").get("/legal/corpora/", {"find": "Birch"}).content.decode()
    assert "Code texts" not in found
    assert "Languages texts" in found


def test_a_source_limits_and_is_struck_again(story, by):
    cato = by("cato")
    noted = {"title": "Leaves", "licence": "CC-BY-NC-4.0", "languages": "en nl"}
    assert cato.post(f"{CORPUS}sources/", noted).status_code == 302
    page = cato.get(CORPUS).content.decode()
    assert "Not for commercial." in page
    row = Corpus.objects.get(slug="code-texts").sources.get()
    assert row.languages == ["en", "nl"]
    assert cato.post(f"{CORPUS}sources/{row.pk}/strike/").status_code == 302
    assert "Not for commercial." not in cato.get(CORPUS).content.decode()


def test_a_refused_source_is_shown_at_its_field(story, by):
    noted = {"title": "x", "licence": "own", "period_from": "2020-01-02", "period_to": "2020-01-01"}
    page = by("cato").post(f"{CORPUS}sources/", noted)
    assert page.status_code == 422
    assert "Ends before it begins (2020-01-02)." in page.content.decode()


def test_sketches_of_two_owners_are_compared_with_their_error(story, by):
    cato = by("cato")
    for slug in ("code-texts", "languages-texts"):
        answer = cato.post(f"/legal/corpora/{slug}/sketches/", {"sketch": sketch_file()})
        assert answer.status_code == 302
    page = cato.get(CORPUS).content.decode()
    assert "100.0% ± 0.7% in common" in page
    assert "does not clear the others" in page


def test_what_is_no_sketch_is_refused(story, by):
    for content in ("no json", "[]", json.dumps({**SKETCH, "scheme": "x"})):
        answer = by("cato").post(f"{CORPUS}sketches/", {"sketch": upload("s.json", content)})
        assert answer.status_code == 422


def test_a_reservation_against_a_public_source_opens_a_notice(story, by):
    cato = by("cato")
    cato.post(f"{CORPUS}sources/", {"title": "Leaves", "licence": "CC0-1.0"})
    signal = {"kind": "aipref", "url": "https://leaves.example/", "raw": "train-ai=n",
              "seen_on": "2026-01-01"}  # fmt: skip
    assert cato.post(f"{CORPUS}signals/", signal).status_code == 302
    page = cato.get(CORPUS).content.decode()
    assert "speaks against a source that claims to be public" in page
    assert "train-ai=n" in page


def test_a_period_and_sensitivity_are_noted(story, by):
    cato = by("cato")
    cato.post(f"{CORPUS}profile/", {"period_from": "1999-01-01", "sensitive": ["minors"]})
    page = cato.get(CORPUS).content.decode()
    assert "1999-01-01" in page
    assert "Minors" in page


def test_a_manifest_goes_out_and_describes_another_corpus(story, by):
    cato = by("cato")
    cato.post(f"{CORPUS}sources/", {"title": "Leaves", "licence": "CC-BY-4.0"})
    cato.post(f"{CORPUS}sketches/", {"sketch": sketch_file()})
    manifest = json.loads(cato.get(f"{CORPUS}manifest/").content)
    manifest |= {"identifier": "copied", "temporalCoverage": "2001-01-01/2001-12-31"}
    posted = {"owner": "birch-archive", "manifest": upload("m.json", json.dumps(manifest))}
    assert cato.post("/legal/corpora/new/", posted).status_code == 302
    made = Corpus.objects.get(slug="copied")
    assert made.sources.get().licence == "CC-BY-4.0"
    assert made.sketches.get().minima == [7] * 512
    assert made.profiles.get().period_to == date(2001, 12, 31)


def test_a_bad_manifest_describes_nothing(story, by):
    before = Corpus.objects.count()
    spoilt = {"conformsTo": "http://mlcommons.org/croissant/1.1", "identifier": "a b", "name": "x"}
    for content in ("{}", "[1]", json.dumps(spoilt)):
        posted = {"owner": "birch-archive", "manifest": upload("m.json", content)}
        assert by("cato").post("/legal/corpora/new/", posted).status_code == 422
    assert Corpus.objects.count() == before


def test_auditors_read_corpora_and_change_none(story, by):
    aude = by("aude")
    assert "Write down a source" not in aude.get(CORPUS).content.decode()
    assert aude.post(f"{CORPUS}sources/", {"title": "x", "licence": "own"}).status_code == 404


@pytest.mark.parametrize("address", ["/legal/corpora/", CORPUS, "/legal/exchange/"])
@pytest.mark.parametrize("name", ["ada", "edda", "mallory"])
def test_others_see_none_of_these_pages(story, by, address, name):
    assert by(name).get(address).status_code == 404


def test_a_file_is_read_shown_and_not_stored(story, by):
    before = Licence.objects.count()
    policy = exchange.export("odrl", story.licence("code")).body
    cato = by("cato")
    page = cato.post("/legal/exchange/", {"format": "odrl", "file": upload("p.json", policy)})
    text = page.content.decode()
    assert page.status_code == 200
    assert "Nothing is lost" in text
    assert "Request this licence" in text
    assert Licence.objects.count() == before


def test_a_pasted_file_tells_what_is_refused(story, by):
    pasted = {"format": "aipref", "content": "Content-Usage: train-ai=y"}
    text = by("cato").post("/legal/exchange/", pasted).content.decode()
    assert "This file grants us nothing" in text
    assert "no licence: it grants nothing" in text


@pytest.mark.parametrize("pasted", [{"format": "odrl"}, {"format": "odrl", "content": "{}"}])
def test_what_cannot_be_read_is_said_at_the_form(story, by, pasted):
    page = by("cato").post("/legal/exchange/", pasted)
    assert page.status_code == 422
    assert "Expected" in page.content.decode() or "Choose a file" in page.content.decode()


def test_reading_leads_to_the_request_form(story, by):
    policy = exchange.export("odrl", story.licence("code")).body.decode()
    page = by("cato").post(reverse("legal:licence-import"), {"format": "odrl", "content": policy})
    assert page.status_code == 200
    assert "Nothing is stored yet" in page.content.decode()


def test_a_licence_says_what_ending_it_does_not_clear(story, by):
    cato = by("cato")
    for slug in ("code-texts", "languages-texts"):
        cato.post(f"/legal/corpora/{slug}/sketches/", {"sketch": sketch_file()})
    page = cato.get(f"/legal/licences/{story.licence('code').reference}/").content.decode()
    assert "does not clear Languages texts of Birch Archive (100.0% ± 0.7% in common)" in page


def test_the_page_says_which_vocabularies_are_read(story, by):
    page = by("cato").get("/legal/exchange/").content.decode()
    assert page.count("<td>Yes</td>") == len(exchange.FORMATS) + sum(
        each.is_readable for each in exchange.FORMATS.values()
    )

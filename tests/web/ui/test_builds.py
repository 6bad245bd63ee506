"""A build's page: what its promotion waits for, and its files handed out as one archive."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile

import pytest
from django.test import AsyncRequestFactory, RequestFactory
from django.utils import timezone

from governance.errors import UnlawfulMove
from governance.models import ApprovalRequest, HandOut, Licence
from governance.services import approvals, signoffs
from governance.services.approvals import subjects
from governance.vocabulary import ApprovalKind, Role
from tests import factories
from web.ui import archives

CONTENT = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9}


@pytest.fixture
def files(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}


@pytest.fixture
def build(story, tmp_path, files):
    """Of the public expert alone, which needs nobody's licence."""
    return factories.build(
        number=700, state="retired", export_path=str(tmp_path), export_files=files
    )


def adopt(story, kind) -> None:
    step = approvals.Step("Legal", role=Role.LEGAL)
    asked = approvals.propose(
        kind.value, kind=kind, title="t", steps=[step], by=story.cast.cato, at=timezone.now()
    )
    signoffs.approve(asked, by=story.cast.celia, at=timezone.now())


def read(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member))
        }


def hand_out(client, number=700, recipient="Northern Centre"):
    return client.post(f"/engineer/builds/{number}/hand-out/", {"recipient": recipient})


def test_a_copy_is_handed_out_as_an_archive_and_listed(by, build):
    answer = hand_out(by("edda"))
    assert answer["Content-Disposition"] == 'attachment; filename="build-0700.tar"'
    found = read(b"".join(answer.streaming_content))
    assert found == {f"build-0700/{name}": content for name, content in CONTENT.items()}
    page = by("edda").get("/engineer/builds/700/").content.decode()
    assert "Northern Centre" in page
    listed = by("aude").get("/api/v1/builds/700/hand-outs").json()["results"]
    assert [(row["recipient"], row["by"]) for row in listed] == [
        ("Northern Centre", "edda@example.org")
    ]


def test_experts_no_licence_lets_go_are_named_at_the_form(by, story):
    answer = hand_out(by("edda"), story.build.number)
    assert answer.status_code == 422
    assert not HandOut.objects.exists()
    assert not Licence.objects.filter(uses__contains=["redistribute"]).exists()


def test_who_is_not_fresh_confirms_first(by, build):
    client = by("edda")
    session = client.session
    session["reclaim_logged_in_at"] = 0
    session.save()
    assert hand_out(client).url.startswith("/account/reauthenticate/")
    assert not HandOut.objects.exists()


def test_other_bytes_break_the_archive_off(tmp_path, files):
    (tmp_path / "config.json").write_bytes(b"[]")
    pieces = archives.pieces_of(tmp_path, files, under="b")
    with pytest.raises(UnlawfulMove, match=r"config\.json"):
        b"".join(pieces)


def test_an_archive_is_made_while_it_is_sent(tmp_path, files, monkeypatch):
    """One piece at a time, under ASGI too, where Django would read an ordinary iterator whole."""
    monkeypatch.setattr(archives, "PIECE_BYTES", 100)
    plain = archives.download(RequestFactory().get("/"), tmp_path, files, name="b")
    pieces = list(plain.streaming_content)
    assert max(map(len, pieces)) <= 2 * tarfile.BLOCKSIZE
    served = archives.download(AsyncRequestFactory().get("/"), tmp_path, files, name="b")

    async def received() -> bytes:
        return b"".join([piece async for piece in served])

    assert served.is_async
    assert asyncio.run(received()) == b"".join(pieces)


def test_a_promotion_that_waits_is_asked_for_from_its_page(by, story):
    build = factories.build(number=701, state="assembled")
    page = "/engineer/builds/701/"
    ask = "/legal/approvals/ask/promotion/701/"
    assert ask not in by("edda").get(page).content.decode()
    assert by("edda").get("/api/v1/builds/701").json()["waits_for_approval"] is False
    adopt(story, ApprovalKind.PROMOTION)
    assert ask in by("edda").get(page).content.decode()
    assert by("edda").get("/api/v1/builds/701").json()["waits_for_approval"] is True
    assert by("edda").get(ask).status_code == 200
    answer = by("edda").post(ask, {"words": "It answers better"})
    request = ApprovalRequest.objects.get(kind=ApprovalKind.PROMOTION)
    assert answer.url == f"/legal/approvals/{request.pk}/"
    assert request.digest == subjects.promotion(build).digest
    board = by("celia").get("/legal/approvals/").content.decode()
    assert "Promotion of build 701" in board
    assert by("edda").get("/legal/approvals/ask/promotion/700/").status_code == 404


def test_an_export_is_asked_for_approved_and_then_handed_out(by, story, build):
    adopt(story, ApprovalKind.EXPORT)
    ask = "/legal/approvals/ask/export/700/"
    assert ask in by("edda").get("/engineer/builds/700/").content.decode()
    by("edda").post(ask, {"recipient": "Northern  Centre", "words": ""})
    assert hand_out(by("edda")).status_code == 422
    request = ApprovalRequest.objects.get(kind=ApprovalKind.EXPORT)
    page = by("celia").get(f"/legal/approvals/{request.pk}/").content.decode()
    assert "go to Northern Centre" in page
    signoffs.approve(request, by=story.cast.celia, at=timezone.now())
    assert hand_out(by("edda"), recipient="Somebody else").status_code == 422
    answer = hand_out(by("edda"))
    assert read(b"".join(answer.streaming_content))
    assert hand_out(by("edda")).status_code == 422


@pytest.mark.parametrize(
    ("kind", "path", "form"),
    [
        ("owner", "owners", {"legal_name": "Cedar House", "jurisdiction": "FR"}),
        ("consumer", "consumers", {"name": "Nova", "territory": "FR"}),
    ],
)
def test_a_party_that_waits_says_so_and_is_asked_for_anew(by, story, kind, path, form):
    adopt(story, ApprovalKind(kind))
    made = by("cato").post(f"/api/v1/{path}", form, content_type="application/json").json()
    assert made["status"] == "prospect"
    page, ask = f"/legal/{path}/{made['slug']}/", f"/legal/approvals/ask/{kind}/{made['slug']}/"
    assert ask in by("cato").get(page).content.decode()
    assert "is asked for already" in by("cato").post(ask, {"words": ""}).content.decode()
    signoffs.take_back(
        ApprovalRequest.objects.get(kind=kind), by=story.cast.cato, at=timezone.now()
    )
    assert by("cato").get(ask).status_code == 200
    asked = by("cato").post(ask, {"words": ""})
    assert asked.status_code == 302
    newest = ApprovalRequest.objects.get(kind=kind, state="open")
    signoffs.approve(newest, by=story.cast.celia, at=timezone.now())
    assert ask not in by("cato").get(page).content.decode()
    assert by("cato").get(ask).status_code == 404


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("promotions", {"build": 701}),
        ("exports", {"build": 700, "recipient": "A"}),
        ("owners", {"slug": "cedar"}),
        ("consumers", {"slug": "nova"}),
    ],
)
def test_the_same_is_asked_for_over_rest(by, build, what, said):
    factories.build(number=701, state="assembled")
    factories.owner(slug="cedar", status="prospect")
    factories.consumer(slug="nova", status="prospect")
    path = f"/api/v1/approvals/{what}"
    answer = by("cato").post(path, said, content_type="application/json")
    assert (answer.status_code, answer.json()["kind"]) == (201, what[:-1])
    nothing = {**said, **({"build": 9} if "build" in said else {"slug": "none"})}
    assert by("cato").post(path, nothing, content_type="application/json").status_code == 404
    assert by("ada").post(path, said, content_type="application/json").status_code == 404

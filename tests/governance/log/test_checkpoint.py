"""Signed tree heads in the C2SP formats."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from governance.canonical import Verifier
from governance.errors import SignatureInvalid
from governance.log import checkpoint
from governance.log.checkpoint import Checkpoint
from tests.governance.log.conftest import signer_of

HEAD = Checkpoint("reclaim.example/log", 20852, bytes(range(32)))


def test_the_published_example_of_the_note_format_verifies():
    # the example note and key of Go's golang.org/x/mod/sumdb/note
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    signature = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    public = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    name, verifier = "PeterNeumann", Verifier(public)
    assert checkpoint.published_key(name, verifier) == (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    )
    checkpoint.verify_note(text, [(name, signature)], name, verifier)
    with pytest.raises(SignatureInvalid):
        checkpoint.verify_note(text + "\n", [(name, signature)], name, verifier)


def test_a_signed_head_opens_to_itself():
    note = checkpoint.sign(HEAD, signer_of(1))
    assert checkpoint.opened(note, HEAD.origin, signer_of(1).verifier) == HEAD
    assert note.startswith("reclaim.example/log\n20852\nAAECAwQF")


def test_openssl_accepts_the_signature(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    note = checkpoint.sign(HEAD, signer_of(1))
    text, _, tail = note.rpartition("\n\n")
    key = Ed25519PublicKey.from_public_bytes(signer_of(1).verifier.public)
    (tmp_path / "key.pem").write_bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (tmp_path / "text").write_text(text + "\n")
    (tmp_path / "sig").write_bytes(base64.b64decode(tail.split()[-1])[4:])
    done = subprocess.run(
        [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "key.pem",
            "-rawin",
            "-in",
            "text",
            "-sigfile",
            "sig",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_flipped_bit_of_a_note_is_refused():
    note = checkpoint.sign(HEAD, signer_of(1)).encode()
    for at in range(len(note) * 8):
        flipped = bytearray(note)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises((SignatureInvalid, UnicodeDecodeError)):
            checkpoint.opened(flipped.decode(), HEAD.origin, signer_of(1).verifier)


def test_the_right_key_under_another_origin_is_refused():
    note = checkpoint.sign(HEAD, signer_of(1))
    with pytest.raises(SignatureInvalid, match="found none"):
        checkpoint.opened(note, "other.example/log", signer_of(1).verifier)
    with pytest.raises(SignatureInvalid, match="found none"):
        checkpoint.opened(note, HEAD.origin, signer_of(2).verifier)


def test_signatures_of_witnesses_are_let_by():
    note = checkpoint.sign(HEAD, signer_of(1))
    witness = checkpoint.sign(Checkpoint("witness.example/w", 1, HEAD.root), signer_of(2))
    both = note + witness.split("\n\n")[1]
    assert checkpoint.opened(both, HEAD.origin, signer_of(1).verifier) == HEAD


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "a\u00a0b"])
def test_a_name_that_would_break_the_note_is_refused(origin):
    with pytest.raises(ValueError, match="log origin"):
        checkpoint.sign(Checkpoint(origin, 1, HEAD.root), signer_of(1))

"""Keys in files: made once, kept private, the same for everyone who comes."""

from __future__ import annotations

import stat
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from governance import keys
from governance.errors import SignatureInvalid


def test_a_key_is_made_once_and_read_again(tmp_path):
    first = keys.load_or_create(tmp_path / "keys", keys.LOG_KEY)
    again = keys.load_or_create(tmp_path / "keys", keys.LOG_KEY)
    assert first.key_id == again.key_id
    again.verifier.verify(first.sign(b"message"), b"message")


def test_keys_of_different_names_differ(tmp_path):
    log = keys.load_or_create(tmp_path, keys.LOG_KEY)
    certificate = keys.load_or_create(tmp_path, keys.CERTIFICATE_KEY)
    assert log.key_id != certificate.key_id
    assert keys.public_keys(tmp_path) == {"certificate": certificate.verifier, "log": log.verifier}


def test_only_the_owner_may_read_key_and_folder(tmp_path):
    keys.load_or_create(tmp_path / "keys", keys.LOG_KEY)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys/log.pem").stat().st_mode) == 0o600
    assert [file.name for file in (tmp_path / "keys").iterdir()] == ["log.pem"]


def test_a_key_that_others_may_read_is_refused(tmp_path):
    keys.load_or_create(tmp_path, keys.LOG_KEY)
    (tmp_path / "log.pem").chmod(0o644)
    with pytest.raises(SignatureInvalid, match="found mode 644"):
        keys.load_or_create(tmp_path, keys.LOG_KEY)


def test_many_that_start_together_get_one_key(tmp_path):
    found: list[str] = []
    start = threading.Barrier(8)

    def come() -> None:
        start.wait()
        found.append(keys.load_or_create(tmp_path / "keys", keys.LOG_KEY).key_id)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_and_not_replaced(tmp_path, content):
    path = tmp_path / "log.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SignatureInvalid, match="expected an Ed25519 private key"):
        keys.load_or_create(tmp_path, keys.LOG_KEY)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path):
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "log.pem").write_bytes(pem)
    (tmp_path / "log.pem").chmod(0o600)
    with pytest.raises(SignatureInvalid, match=r"found EC|EllipticCurve"):
        keys.load_or_create(tmp_path, keys.LOG_KEY)


@pytest.mark.parametrize("name", ["", "../log", "Log", "a/b", "log.pem"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="key name"):
        keys.load_or_create(tmp_path, name)


def test_a_folder_that_is_not_there_has_no_keys(tmp_path):
    assert keys.public_keys(tmp_path / "nowhere") == {}
    assert not (tmp_path / "nowhere").exists()

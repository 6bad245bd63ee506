"""Keys in files: made once, readable by their owner alone, never in a database or its backup.

Two keys sign: "log" tree heads, "certificate" statements and receipts. Two secrets make hashes
that a copy of the database cannot be searched for: "pepper" those of API keys, "suppression" those
of what was erased. Folders and names come in by the door; a key is a PKCS #8 PEM without a
passphrase and a secret 32 bytes in hexadecimal, so the folder itself must be kept. A lost pepper
ends every API key; a lost suppression secret forgets what must not come back.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from governance.canonical import Signer, Verifier
from governance.errors import SignatureInvalid

LOG_KEY = "log"
CERTIFICATE_KEY = "certificate"
PEPPER = "pepper"
SUPPRESSION = "suppression"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


def load_or_create(folder: Path, name: str) -> Signer:
    """The key `name` of `folder`; made (mode 0600, folder 0700) if it is not there yet.

    Two processes that start together end up with the same key: the file appears whole or not at
    all, and the one that comes second reads it.

    Raises:
        SignatureInvalid: the file is no Ed25519 key, or others may read it.
    """
    path = _path(folder, name)
    if not path.exists():
        _create(path)
    _check_private(path)
    return Signer(_read(path))


@functools.cache
def secret(folder: Path, name: str) -> bytes:
    """The 32 secret bytes `name` of `folder`, read once a process; made if they are not there yet.

    Raises:
        SignatureInvalid: the file holds something else, or others may read it.
    """
    path = _path(folder, name).with_suffix(".secret")
    if not path.exists():
        _place_once(path, secrets.token_hex(32).encode())
    _check_private(path)
    try:
        found = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        found = b""
    if len(found) != 32:
        raise SignatureInvalid(
            f"expected 32 bytes in hexadecimal in {path}, found something else; restore the file "
            "from its own copy"
        )
    return found


def public_keys(folder: Path) -> dict[str, Verifier]:
    """The public halves of the keys in `folder`, by name. Nothing is created."""
    found = sorted(folder.glob("*.pem")) if folder.is_dir() else []
    return {path.stem: Signer(_read(path)).verifier for path in found if _NAME.fullmatch(path.stem)}


def _path(folder: Path, name: str) -> Path:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"expected a key name of lowercase letters, found {name!r}")
    return folder / f"{name}.pem"


def _check_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise SignatureInvalid(
            f"expected {path} to be readable by its owner alone, found mode "
            f"{path.stat().st_mode & 0o777:o}; chmod 600 it, and replace the key if others read it"
        )


def _create(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _place_once(path, pem)


def _place_once(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # refuses to replace a key that another process just made
        except FileExistsError:
            return
    finally:
        fresh.unlink()


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(
            f"expected an Ed25519 private key in {path}, found none ({error}); restore it from its "
            "own copy, or move it away to begin with a new key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureInvalid(
            f"expected an Ed25519 private key in {path}, found {type(key).__name__}; "
            "move it away to begin with a new key"
        )
    return key

"""The one place where bytes to be signed or hashed are made, signed and opened.

Canonical JSON here is: UTF-8, keys sorted by code point, no spaces, no NaN or infinities, every
key a string. It is made for our own documents, which only grow: a new field comes last in the
dataclass with a default, and bytes once signed are stored and never serialised again.

Envelopes are DSSE (Dead Simple Signing Envelope, v1), through securesystemslib; the signature
covers the payload's type and its exact bytes, so opening needs no canonical form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined] # exported, not declared
    CryptoSigner,
    Key,
    SSlibKey,
)

from governance.errors import SignatureInvalid

IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of in-toto statements (in-toto attestation framework, envelope v1)."""


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises:
        ValueError: a NaN, an infinity, a lone surrogate, or a key that is not a string.
        TypeError: a value JSON does not know; pass it through `plain` first.
    """
    _check_keys(value)
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def _check_keys(value: Any) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"expected text as a key, found {key!r}; name it with a string")  # noqa: TRY004
            _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: instants in ISO 8601, UUIDs and decimals as text, sets sorted."""
    match value:
        case Enum():
            return plain(value.value)
        case datetime():
            if value.tzinfo is None:
                raise ValueError(f"expected an instant with its offset, found {value!r}")
            return value.isoformat()
        case date():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case Mapping():
            return {str(plain(key)): plain(inner) for key, inner in value.items()}
        case set() | frozenset():
            return sorted((plain(inner) for inner in value), key=canonical_json)
        case list() | tuple():
            return [plain(inner) for inner in value]
        case _:
            return value


def sha256_hex(content: bytes) -> str:
    """SHA-256 as 64 lowercase hexadecimal characters."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Verifier:
    """An Ed25519 public key, 32 raw bytes (RFC 8032)."""

    public: bytes

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw public key, in hexadecimal."""
        return sha256_hex(self.public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` over `message` is this key's.

        Raises:
            SignatureInvalid: it is not.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalid(
                f"expected a signature by key {self.key_id[:16]}…, found bytes it did not sign; "
                "do not rely on them"
            ) from error


class Signer:
    """An Ed25519 private key. It never shows itself: `repr` names the key id only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifier = Verifier(private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"Signer({self.key_id[:16]}…)"

    @property
    def key_id(self) -> str:
        """The id of the public half."""
        return self.verifier.key_id

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 signature over `message` itself."""
        return self._private.sign(message)

    def for_envelopes(self) -> CryptoSigner:
        """This key as securesystemslib takes it."""
        return CryptoSigner(self._private, _as_library_key(self.verifier))


def _as_library_key(verifier: Verifier) -> SSlibKey:
    public = Ed25519PublicKey.from_public_bytes(verifier.public)
    return SSlibKey.from_crypto(public, keyid=verifier.key_id)


def seal(payload_type: str, payload: bytes, signers: Iterable[Signer]) -> dict[str, Any]:
    """A DSSE envelope of `payload`, signed by every one of `signers`.

    Raises:
        ValueError: no signer, or one twice.
    """
    signers = list(signers)
    if not signers or len({signer.key_id for signer in signers}) != len(signers):
        raise ValueError(f"expected one or more different signers, found {signers!r}")
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer.for_envelopes())
    sealed: dict[str, Any] = envelope.to_dict()
    return sealed


def open_envelope(
    envelope: Mapping[str, Any], verifiers: Iterable[Verifier], *, payload_type: str = IN_TOTO
) -> bytes:
    """The payload, if it is of `payload_type` and every signature is by a known key and holds.

    Signatures by unknown keys are refused too: an envelope says who signed it, and all of it must
    be true. Base64 is read strictly, so one statement has one spelling.

    Raises:
        SignatureInvalid: anything else was found.
    """
    keys = {verifier.key_id: _as_library_key(verifier) for verifier in verifiers}
    try:
        read = _read_envelope(envelope, payload_type, keys)
        signed_by: list[Key] = [keys[key_id] for key_id in read.signatures]
        read.verify(signed_by, threshold=len(signed_by))
    except (KeyError, TypeError, ValueError, AttributeError, VerificationError) as error:
        raise SignatureInvalid(
            "expected an envelope that its signers sealed, found one that does not hold "
            f"({error}); do not rely on it"
        ) from error
    payload: bytes = read.payload
    return payload


def _read_envelope(
    envelope: Mapping[str, Any], payload_type: str, keys: Mapping[str, SSlibKey]
) -> Envelope:
    if set(envelope) != {"payload", "payloadType", "signatures"}:
        raise ValueError(f"expected a DSSE envelope's three fields, found {sorted(envelope)}")
    signatures = [dict(found) for found in envelope["signatures"]]
    for text in (envelope["payload"], *(found["sig"] for found in signatures)):
        from_base64(text)
    if any(set(found) != {"keyid", "sig"} for found in signatures):
        raise ValueError("expected keyid and sig in each signature, found other fields")
    read = Envelope.from_dict({**envelope, "signatures": signatures})
    if read.payload_type != payload_type:
        raise ValueError(f"expected payload type {payload_type!r}, found {read.payload_type!r}")
    unknown = sorted(read.signatures.keys() - keys.keys())
    if unknown or not read.signatures:
        raise ValueError(f"expected signatures by known keys, found {unknown or 'none'}")
    return read


_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def from_base64(text: str) -> bytes:
    """Standard base64 with padding, in its one canonical spelling.

    Raises:
        ValueError: any other spelling.
    """
    try:
        if _BASE64.fullmatch(text) is None:
            raise ValueError("found other characters")
        found = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected standard base64, {error}") from error
    if to_base64(found) != text:
        raise ValueError("expected base64 in its one canonical spelling, found another")
    return found


def to_base64(content: bytes) -> str:
    """Standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(content).decode("ascii")

"""Signed tree heads: a C2SP tlog-checkpoint in a C2SP signed note (Ed25519, type 0x01). Pure.

    reclaim.example/log
    20852
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — reclaim.example/log Az3grlgtz…

The key's name is the log's origin. Notes are read strictly: one spelling, nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from governance.canonical import Signer, Verifier, from_base64, to_base64
from governance.errors import SignatureInvalid

_ED25519 = b"\x01"
_ROOT_BYTES = 32
_KEY_ID_BYTES = 4
_MARK = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: so many leaves, with this root, in the log of this origin."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text, the bytes that are signed."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"


def check_origin(origin: str) -> str:
    """`origin`, if it can name a log and its key.

    Raises:
        ValueError: it is empty or holds white space, a plus sign or control characters.
    """
    if not origin or "+" in origin or any(c.isspace() or ord(c) < 0x20 for c in origin):
        raise ValueError(
            f"expected a log origin like 'reclaim.example/log', found {origin!r}; "
            "leave out spaces and plus signs"
        )
    return origin


def key_id(name: str, verifier: Verifier) -> bytes:
    """The four bytes by which a signed note names its key."""
    named = name.encode() + b"\n" + _ED25519 + verifier.public
    return hashlib.sha256(named).digest()[:_KEY_ID_BYTES]


def published_key(name: str, verifier: Verifier) -> str:
    """The key as others configure it: `name+hex key id+base64(type and key)`."""
    encoded = to_base64(_ED25519 + verifier.public)
    return f"{name}+{key_id(name, verifier).hex()}+{encoded}"


def sign(checkpoint: Checkpoint, signer: Signer) -> str:
    """The signed note of `checkpoint`."""
    origin = check_origin(checkpoint.origin)
    text = checkpoint.text()
    signature = key_id(origin, signer.verifier) + signer.sign(text.encode())
    return f"{text}\n{_MARK}{origin} {to_base64(signature)}\n"


def opened(note: str, origin: str, verifier: Verifier) -> Checkpoint:
    """The checkpoint in `note`, signed by the log of `origin`. Signatures of others are skipped.

    Raises:
        SignatureInvalid: no signature of that key, one that does not hold, or another origin.
    """
    text, signatures = _taken_apart(note)
    verify_note(text, signatures, origin, verifier)
    checkpoint = read_unverified(note)
    if checkpoint.origin != origin:
        raise SignatureInvalid(
            f"expected a checkpoint of {origin!r}, found one of {checkpoint.origin!r}; "
            "ask for this log's own"
        )
    return checkpoint


def verify_note(
    text: str, signatures: list[tuple[str, bytes]], name: str, verifier: Verifier
) -> None:
    """Return if one of `signatures` is by this key, and all by this key hold.

    Raises:
        SignatureInvalid: otherwise.
    """
    wanted = key_id(name, verifier)
    ours = [
        signature[_KEY_ID_BYTES:]
        for signed_by, signature in signatures
        if signed_by == name and signature[:_KEY_ID_BYTES] == wanted
    ]
    if not ours:
        raise SignatureInvalid(
            f"expected a signature by {name} with key id {wanted.hex()}, found none; "
            "do not rely on this note"
        )
    for signature in ours:
        verifier.verify(signature, text.encode())


def read_unverified(note: str) -> Checkpoint:
    """What `note` says, whoever signed it: to compare sizes, never to rely on.

    Raises:
        SignatureInvalid: it does not read like a checkpoint.
    """
    text, _ = _taken_apart(note)
    try:
        origin, size, root = text.split("\n")[:-1]
        checkpoint = Checkpoint(check_origin(origin), int(size), from_base64(root))
    except ValueError as error:
        raise _odd(f"({error})") from error
    if checkpoint.text() != text or len(checkpoint.root) != _ROOT_BYTES or checkpoint.size < 0:
        raise _odd("")
    return checkpoint


def _taken_apart(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, gap, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    is_whole = gap and lines[-1] == "" and len(lines) > 1
    if not is_whole or any(ord(c) < 0x20 and c != "\n" for c in note):
        raise _odd("")
    return text + "\n", [_signature(line) for line in lines[:-1]]


def _signature(line: str) -> tuple[str, bytes]:
    if not line.startswith(_MARK):
        raise _odd(f"in the line {line[:40]!r}")
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    try:
        return name, from_base64(encoded)
    except ValueError as error:
        raise _odd(f"({error})") from error


def _odd(what: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"expected a signed checkpoint, found other text {what}; fetch it again from the log"
    )

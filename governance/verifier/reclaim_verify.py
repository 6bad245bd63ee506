"""Check a withdrawal certificate, a consent receipt or a log, without the party that issued it.

    python verify.py certificate.zip [--log-key KEY] [--certificate-key ID]
    python verify.py receipt.json [--certificate-key ID]
    python verify.py log-tiles-folder --log-key KEY

Needs Python 3.11 or later and the package `cryptography`; no network, no database, none of the
issuer's code. It prints each claim with OK or FAILED and ends with 0 only if everything holds.

What it checks: every statement is signed (DSSE, Ed25519) by a key of the bundle; the log entry of
its issue names its exact bytes; the entry is in the log (RFC 6962 inclusion proof); and the log's
head is signed (C2SP checkpoint). What it cannot know: whose keys these are. Compare the printed
ones with those you were given in another way, or pass them as options.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.exit("expected the package cryptography, found none; run: pip install cryptography")

STAGES = ("blocked", "unloaded", "rebuilt", "backups")
PREDICATE = "https://reclaim.example/withdrawal/v1"
STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
RECEIPT = "https://reclaim.example/consent-receipt/v1"
RECEIPT_PAYLOAD_TYPE = "application/vnd.reclaim.consent-receipt+json"
PROOF_HEADING = "c2sp.org/tlog-proof@v1"
MEMBER_LIMIT_BYTES = 16 * 2**20


class Failed(Exception):
    """A check that did not hold; the message says which."""


@dataclass(frozen=True)
class Head:
    """The head of a log: so many entries, with this root."""

    origin: str
    size: int
    root: bytes


@dataclass
class Outcome:
    """What was checked so far, in the order of checking."""

    lines: list[str] = field(default_factory=list)
    is_sound: bool = True

    def check(self, claim: str, look: Callable[[], Any]) -> Any:
        """Run one check, note how it went, and give back what it found (None if it failed)."""
        try:
            found = look()
        except Exception as error:  # noqa: BLE001 - whatever a hostile file provokes is a failure
            self.is_sound = False
            self.lines.append(f"FAILED  {claim}: {error or type(error).__name__}")
            return None
        self.lines.append(f"OK      {claim}")
        return found

    def say(self, line: str) -> None:
        """Add a line that claims nothing."""
        self.lines.append(f"        {line}")


# ── strict reading ───────────────────────────────────────────────────────────────────────────────


def need(held: object, told: str) -> None:
    """Fail with `told` unless `held`."""
    if not held:
        raise Failed(told)


def from_base64(text: str) -> bytes:
    """Standard base64, in its one canonical spelling."""
    need(isinstance(text, str) and text.isascii(), "base64 is not text")
    found = base64.b64decode(text, validate=True)
    need(base64.b64encode(found).decode() == text, "base64 is not in canonical spelling")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len(dict(pairs)) == len(pairs), "a JSON key stands twice")
    return dict(pairs)


def from_json(content: bytes) -> Any:
    """JSON in canonical form: sorted keys, no spaces, nothing twice."""
    found = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    again = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    need(again.encode() == content, "JSON is not in canonical form")
    return found


def verify_signature(public: bytes, signature: bytes, message: bytes, whose: str) -> None:
    """Fail unless `signature` over `message` is by `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Failed(f"the signature of {whose} does not hold") from error


# ── the log: RFC 6962 hashes, C2SP notes and proofs ──────────────────────────────────────────────


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962, 2.1: the hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """RFC 9162, 2.1.3.2: the root to which an inclusion proof leads."""
    need(0 <= index < size, f"there is no entry {index} in a log of {size}")
    node, last = leaf, size - 1
    for sibling in path:
        need(last > 0, "the inclusion proof is too long")
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    need(last == 0, "the inclusion proof is too short")
    return node


def published_key(text: str) -> tuple[str, bytes, bytes]:
    """A C2SP verifier key: its name, its four bytes of id, and the raw public key."""
    name, key_id, encoded = text.split("+", 2)
    key = from_base64(encoded)
    need(key[:1] == b"\x01" and len(key) == 33, "the log key is not an Ed25519 key")
    wanted = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    need(wanted.hex() == key_id and name, "the log key does not match its own id")
    return name, wanted, key[1:]


def open_checkpoint(note: str, log_key: str) -> Head:
    """The head in a signed note, if the key signed it and nothing else stands in the note."""
    name, key_id, public = published_key(log_key)
    text, gap, tail = note.rpartition("\n\n")
    need(gap and tail.endswith("\n"), "the checkpoint is not a signed note")
    lines = tail[:-1].split("\n")
    ours = [line for line in lines if line.startswith(f"— {name} ")]
    need(len(ours) == 1 and len(lines) == 1, "expected exactly the log's own signature")
    signature = from_base64(ours[0].removeprefix(f"— {name} "))
    need(signature[:4] == key_id, "the checkpoint names another key")
    verify_signature(public, signature[4:], (text + "\n").encode(), "the log")
    origin, size, root = text.split("\n")
    need(origin == name and size == str(int(size)), "the checkpoint is not of this log")
    return Head(origin, int(size), from_base64(root))


def read_proof(content: bytes) -> tuple[int, list[bytes], str]:
    """A C2SP tlog-proof: the entry's index, the path, and the checkpoint it carries."""
    first, gap, note = content.decode("utf-8").partition("\n\n")
    heading, index, *path = first.split("\n")
    need(gap and heading == PROOF_HEADING, "this is not a tlog-proof")
    number = index.removeprefix("index ")
    need(index == f"index {int(number)}", "the proof does not say which entry it is of")
    return int(number), [from_base64(line) for line in path], note


# ── a certificate bundle ─────────────────────────────────────────────────────────────────────────


def members(path: Path) -> dict[str, bytes]:
    """The files of a bundle, none of them twice, none of them unexpected."""
    with zipfile.ZipFile(path) as bundle:
        names = bundle.namelist()
        need(len(set(names)) == len(names), "a file stands twice in the bundle")
        for entry in bundle.infolist():
            need(entry.file_size <= MEMBER_LIMIT_BYTES, f"{entry.filename} is too large")
        found = {name: bundle.read(name) for name in names}
    expected = {"README.txt", "verify.py", "keys.json", "checkpoint"}
    for stem in stems(found):
        expected |= {f"statements/{stem}.json", f"events/{stem}.json", f"proofs/{stem}.tlog-proof"}
    need(set(found) == expected, f"unexpected or missing files: {sorted(set(found) ^ expected)}")
    need(stems(found), "there is no statement in the bundle")
    return found


def stems(found: Mapping[str, bytes]) -> list[str]:
    """The stages a bundle speaks of, as `1-blocked`, in order."""
    return [
        f"{number}-{stage}"
        for number, stage in enumerate(STAGES, start=1)
        if f"statements/{number}-{stage}.json" in found
    ]


def read_keys(content: bytes) -> tuple[dict[str, bytes], str]:
    """The certificate keys by id, and the log's key."""
    found = from_json(content)
    need(set(found) == {"certificate_keys", "log_key"}, "keys.json holds something else")
    by_id = {}
    for key in found["certificate_keys"]:
        need(set(key) == {"key_id", "public"}, "a key in keys.json holds something else")
        public = from_base64(key["public"])
        need(hashlib.sha256(public).hexdigest() == key["key_id"], "a key does not match its id")
        by_id[key["key_id"]] = public
    published_key(found["log_key"])
    return by_id, found["log_key"]


def open_envelope(content: bytes, keys: Mapping[str, bytes], payload_type: str) -> dict[str, Any]:
    """The statement in a DSSE envelope whose every signature is by one of `keys`."""
    envelope = from_json(content)
    need(set(envelope) == {"payload", "payloadType", "signatures"}, "this is not an envelope")
    payload = from_base64(envelope["payload"])
    need(envelope["payloadType"] == payload_type, "the payload is of another type")
    signed = b"DSSEv1 %d %b %d %b" % (
        len(payload_type),
        payload_type.encode(),
        len(payload),
        payload,
    )
    need(envelope["signatures"], "nobody signed the statement")
    for signature in envelope["signatures"]:
        need(set(signature) == {"keyid", "sig"}, "a signature holds something else")
        need(signature["keyid"] in keys, "a signature is by a key that is not known")
        key = keys[signature["keyid"]]
        verify_signature(key, from_base64(signature["sig"]), signed, "the statement")
    statement: dict[str, Any] = from_json(payload)
    return statement


def open_statement(content: bytes, keys: Mapping[str, bytes]) -> tuple[dict[str, Any], set[str]]:
    """The in-toto statement in a DSSE envelope, and the ids of the keys that signed it."""
    statement = open_envelope(content, keys, PAYLOAD_TYPE)
    need(statement["_type"] == STATEMENT, "the payload is not an in-toto statement")
    need(statement["predicateType"] == PREDICATE, "the statement is about something else")
    return statement, {signature["keyid"] for signature in from_json(content)["signatures"]}


def check_logged(stem: str, found: Mapping[str, bytes], head: Head) -> None:
    """The log holds an event of issue that names this very statement."""
    entry = found[f"events/{stem}.json"]
    event = from_json(entry)
    need(event["tag"] == "certificate.issued", "the log entry is of another act")
    digest = hashlib.sha256(found[f"statements/{stem}.json"]).hexdigest()
    need(event["details"]["digest"] == digest, "the log entry names another statement")
    need(event["details"]["stage"] == stem[2:], "the log entry names another stage")
    index, path, note = read_proof(found[f"proofs/{stem}.tlog-proof"])
    need(note.encode() == found["checkpoint"], "the proof is for another checkpoint")
    root = root_of_inclusion(leaf_hash(entry), index, head.size, path)
    need(root == head.root, "the proof does not lead to the log's root")


def check_bundle(path: Path, log_key: str | None, certificate_key: str | None) -> Outcome:
    """Check a whole bundle."""
    outcome = Outcome()
    found = outcome.check("the bundle is whole", lambda: members(path))
    keys = found and outcome.check("the keys can be read", lambda: read_keys(found["keys.json"]))
    if not keys:
        return outcome
    by_id, shipped_key = keys
    outcome.say(f"log key          {shipped_key}")
    for key_id in by_id:
        outcome.say(f"certificate key  {key_id}")
    _check_pins(outcome, by_id, shipped_key, log_key, certificate_key)
    head = outcome.check(
        "the log's head is signed",
        lambda: open_checkpoint(found["checkpoint"].decode("utf-8"), shipped_key),
    )
    if head is None:
        return outcome
    outcome.say(f"log {head.origin} with {head.size} entries")
    statements = []
    used: set[str] = set()
    for stem in stems(found):
        opened = _check_stage(outcome, stem, found, by_id, head)
        if opened:
            statements.append(opened[0])
            used |= opened[1]
    outcome.check("the statements belong together", lambda: check_together(statements))
    outcome.check("every key signed a statement", lambda: need(used == set(by_id), "one did not"))
    return outcome


def _check_pins(
    outcome: Outcome,
    by_id: Mapping[str, bytes],
    shipped_key: str,
    log_key: str | None,
    certificate_key: str | None,
) -> None:
    if log_key:
        outcome.check(
            "the log key is the one you gave", lambda: need(shipped_key == log_key, "it is not")
        )
    if certificate_key:
        outcome.check(
            "the certificate key is the one you gave",
            lambda: need(set(by_id) == {certificate_key}, "it is not"),
        )
    if not (log_key and certificate_key):
        outcome.say("these keys came with the bundle: compare them with ones you got elsewhere")


def _check_stage(
    outcome: Outcome, stem: str, found: Mapping[str, bytes], keys: Mapping[str, bytes], head: Head
) -> tuple[dict[str, Any], set[str]] | None:
    opened: tuple[dict[str, Any], set[str]] | None = outcome.check(
        f"{stem}: signed", lambda: open_statement(found[f"statements/{stem}.json"], keys)
    )
    if opened is None:
        return None
    predicate = opened[0]["predicate"]
    outcome.check(f"{stem}: in the log", lambda: check_logged(stem, found, head))
    outcome.check(
        f"{stem}: {predicate['claim']}",
        lambda: need(predicate["stage"] == stem[2:], "the statement is of another stage"),
    )
    for line in predicate["not_claimed"]:
        outcome.say(f"not claimed: {line}")
    return opened


def check_together(statements: Sequence[Mapping[str, Any]]) -> None:
    """All statements are about one withdrawal."""
    need(statements, "there is none that holds")
    withdrawals = {json.dumps(one["predicate"]["withdrawal"], sort_keys=True) for one in statements}
    need(len(withdrawals) == 1, "they are about different withdrawals")
    need(
        len({json.dumps(one["subject"], sort_keys=True) for one in statements}) == 1,
        "they are about different bytes",
    )


# ── a consent receipt ────────────────────────────────────────────────────────────────────────────


def key_of_receipt(content: bytes) -> dict[str, bytes]:
    """The key a receipt names as its signer's, by its id."""
    told = from_json(from_base64(from_json(content)["payload"]))["signed_by"]
    public = from_base64(told["public"])
    need(hashlib.sha256(public).hexdigest() == told["key_id"], "the key does not match its id")
    return {told["key_id"]: public}


def check_receipt(path: Path, certificate_key: str | None) -> Outcome:
    """Check a consent receipt: who signed it, and that nothing in it was changed since."""
    outcome = Outcome()
    content = outcome.check("there is a receipt", path.read_bytes)
    keys = content and outcome.check("its key can be read", lambda: key_of_receipt(content))
    if not keys:
        return outcome
    outcome.say(f"certificate key  {next(iter(keys))}")
    if certificate_key:
        given = "the certificate key is the one you gave"
        outcome.check(given, lambda: need(set(keys) == {certificate_key}, "it is not"))
    else:
        outcome.say("this key came with the receipt: compare it with one you got elsewhere")
    told = outcome.check(
        "the receipt is signed", lambda: open_envelope(content, keys, RECEIPT_PAYLOAD_TYPE)
    )
    if told is None:
        return outcome
    outcome.check("it is a consent receipt", lambda: need(told["_type"] == RECEIPT, "it is not"))
    notice = told["receipt"]["notice"]
    outcome.check(
        "the notice is the one that was hashed",
        lambda: need(
            hashlib.sha256(notice["text"].encode()).hexdigest() == notice["digest"], "it is not"
        ),
    )
    outcome.say(f"{told['receipt']['service']}: {told['receipt']['state']}, {told['issued_at']}")
    for line in told["not_claimed"]:
        outcome.say(f"not claimed: {line}")
    return outcome


# ── a published log ──────────────────────────────────────────────────────────────────────────────


def tile_path(kind: str, index: int, width: int) -> str:
    """C2SP tlog-tiles: where a tile or a bundle of entries lies."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03d}")
    partial = "" if width == 256 else f".p/{width}"
    return f"tile/{kind}/{'/'.join(groups)}{partial}"


def entries(folder: Path, size: int) -> Iterator[bytes]:
    """Every entry of a published log, in order."""
    for begin in range(0, size, 256):
        width = min(256, size - begin)
        full, part = (folder / tile_path("entries", begin // 256, w) for w in (256, width))
        bundle = (full if full.exists() else part).read_bytes()
        at = 0
        for seq in range(begin, begin + width):
            length = int.from_bytes(bundle[at : at + 2], "big")
            entry = bundle[at + 2 : at + 2 + length]
            need(len(bundle) >= at + 2 and len(entry) == length, f"entry {seq} is cut short")
            at += 2 + length
            yield entry


def root_of(leaves: Iterator[bytes]) -> bytes:
    """RFC 6962, 2.1: the Merkle tree hash over leaf hashes, in one pass."""
    peaks: list[bytes] = []
    for place, leaf in enumerate(leaves):
        peaks.append(leaf)
        merging = place
        while merging & 1:
            right = peaks.pop()
            peaks[-1] = node_hash(peaks[-1], right)
            merging >>= 1
    if not peaks:
        return hashlib.sha256(b"").digest()
    root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop(), root)
    return root


def check_log(folder: Path, log_key: str) -> Outcome:
    """Check every entry of a published log against its signed head."""
    outcome = Outcome()
    note = outcome.check("there is a checkpoint", (folder / "checkpoint").read_text)
    if note is None:
        return outcome
    head = outcome.check("the log's head is signed", lambda: open_checkpoint(note, log_key))
    if head is None:
        return outcome
    outcome.check(
        f"all {head.size} entries give the root that was signed",
        lambda: need(
            root_of(leaf_hash(entry) for entry in entries(folder, head.size)) == head.root,
            "they give another: an entry was changed, moved, added or removed",
        ),
    )
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the command line names; 0 if everything holds."""
    parser = argparse.ArgumentParser(description="Check a certificate, a receipt or a log.")
    parser.add_argument("path", type=Path, help="certificate.zip, receipt.json or log tiles")
    parser.add_argument("--log-key", help="the log's key as you know it: name+id+key")
    parser.add_argument("--certificate-key", help="the certificate key's id as you know it")
    chosen = parser.parse_args(arguments)
    if chosen.path.is_dir():
        if not chosen.log_key:
            parser.error("a log is checked against a key you know: give --log-key")
        outcome = check_log(chosen.path, chosen.log_key)
    elif chosen.path.suffix == ".json":
        outcome = check_receipt(chosen.path, chosen.certificate_key)
    else:
        outcome = check_bundle(chosen.path, chosen.log_key, chosen.certificate_key)
    print("\n".join(outcome.lines))
    print("OK      everything holds" if outcome.is_sound else "FAILED  do not rely on this")
    return 0 if outcome.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())

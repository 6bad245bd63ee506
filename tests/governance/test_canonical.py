"""Bytes to be signed: one form, signed and opened, nothing else accepted."""

from __future__ import annotations

import base64
import copy
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from governance.canonical import (
    IN_TOTO,
    Signer,
    Verifier,
    canonical_json,
    from_base64,
    open_envelope,
    plain,
    seal,
    sha256_hex,
    to_base64,
)
from governance.errors import SignatureInvalid
from governance.vocabulary import Purpose
from tests.factories import NOW


def signer_of(number: int) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


ALDER, BIRCH = signer_of(1), signer_of(2)

texts = st.text(st.characters(exclude_categories=("Cs",)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
).filter(lambda value: "Infinity" not in json.dumps(value))


def test_canonical_json_is_sorted_tight_and_utf_8():
    assert canonical_json({"b": [1, 2.5, None], "a": "é\n"}) == (
        '{"a":"é\\n","b":[1,2.5,null]}'.encode()
    )


@given(json_values)
def test_canonical_json_reads_back_and_is_its_own_canonical_form(value):
    content = canonical_json(value)
    assert json.loads(content) == value
    assert canonical_json(json.loads(content)) == content


@given(st.dictionaries(texts, st.integers(), min_size=2))
def test_the_order_of_keys_never_matters(value):
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: "a"}, [{None: 1}], "\ud800"])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(ValueError, match=r"expected text as a key|not JSON compliant|surrogates"):
        canonical_json(value)


@pytest.mark.parametrize("value", [b"bytes", NOW, {1, 2}])
def test_what_json_does_not_know_is_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


def test_plain_writes_values_of_governance():
    found = plain(
        {
            "at": datetime(2027, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))),
            "day": date(2027, 3, 1),
            "id": UUID(int=5),
            "rate": Decimal("0.10"),
            "purpose": Purpose.RESEARCH,
            "set": {"b", "a"},
            "tuple": (1, {"x": None}),
            Purpose.EDUCATION: True,
        }
    )
    assert found == {
        "at": "2027-03-01T14:00:00+02:00",
        "day": "2027-03-01",
        "id": "00000000-0000-0000-0000-000000000005",
        "rate": "0.10",
        "purpose": "research",
        "set": ["a", "b"],
        "tuple": [1, {"x": None}],
        "education": True,
    }
    canonical_json(found)
    with pytest.raises(ValueError, match="offset"):
        plain(datetime(2027, 3, 1))  # noqa: DTZ001


def test_digests_are_sha_256_in_hexadecimal():
    assert sha256_hex(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(st.binary(), texts.filter(bool))
def test_open_of_seal_gives_the_payload_back(payload, payload_type):
    envelope = seal(payload_type, payload, [ALDER])
    found = open_envelope(envelope, [BIRCH.verifier, ALDER.verifier], payload_type=payload_type)
    assert found == payload


def test_an_envelope_survives_json_and_is_left_as_it_was():
    envelope = seal(IN_TOTO, b"payload", [ALDER, BIRCH])
    kept = copy.deepcopy(envelope)
    again = json.loads(canonical_json(envelope))
    assert open_envelope(again, [ALDER.verifier, BIRCH.verifier]) == b"payload"
    assert again == kept


def test_the_signature_is_over_the_pre_authentication_encoding():
    envelope = seal("t", b"hello", [ALDER])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    ALDER.verifier.verify(signature, b"DSSEv1 1 t 5 hello")
    assert envelope["signatures"][0]["keyid"] == sha256_hex(ALDER.verifier.public)


def test_another_payload_type_is_refused():
    envelope = seal("application/other", b"payload", [ALDER])
    with pytest.raises(SignatureInvalid, match="payload type"):
        open_envelope(envelope, [ALDER.verifier])
    swapped = {**envelope, "payloadType": IN_TOTO}
    with pytest.raises(SignatureInvalid):
        open_envelope(swapped, [ALDER.verifier])


def test_a_stranger_and_nobody_are_refused():
    envelope = seal(IN_TOTO, b"payload", [ALDER])
    with pytest.raises(SignatureInvalid, match="known keys"):
        open_envelope(envelope, [BIRCH.verifier])
    with pytest.raises(SignatureInvalid, match="none"):
        open_envelope({**envelope, "signatures": []}, [ALDER.verifier])
    both = seal(IN_TOTO, b"payload", [ALDER, BIRCH])
    with pytest.raises(SignatureInvalid, match="known keys"):
        open_envelope(both, [ALDER.verifier])


def test_one_signature_that_does_not_hold_spoils_the_envelope():
    both = seal(IN_TOTO, b"payload", [ALDER, BIRCH])
    other = seal(IN_TOTO, b"other", [BIRCH])
    both["signatures"][1] = other["signatures"][0]
    with pytest.raises(SignatureInvalid):
        open_envelope(both, [ALDER.verifier, BIRCH.verifier])


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_an_envelope_lacks_nothing_and_has_nothing_more(field):
    envelope = seal(IN_TOTO, b"payload", [ALDER])
    with pytest.raises(SignatureInvalid):
        open_envelope({key: envelope[key] for key in envelope if key != field}, [ALDER.verifier])
    with pytest.raises(SignatureInvalid, match="three fields"):
        open_envelope({**envelope, "more": 1}, [ALDER.verifier])


@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_flipped_bit_of_an_envelope_is_refused(payload, data):
    content = bytearray(canonical_json(seal(IN_TOTO, payload, [ALDER])))
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    content[at // 8] ^= 1 << at % 8
    with pytest.raises((SignatureInvalid, ValueError)):
        open_envelope(json.loads(content.decode()), [ALDER.verifier])


def test_sealing_takes_one_or_more_different_signers():
    with pytest.raises(ValueError, match="different signers"):
        seal(IN_TOTO, b"", [])
    with pytest.raises(ValueError, match="different signers"):
        seal(IN_TOTO, b"", [ALDER, ALDER])


def test_a_signer_never_shows_its_key():
    assert "private" not in repr(ALDER).lower()
    assert (b"\1" * 32).hex() not in repr(ALDER)


def test_a_verifier_of_odd_bytes_refuses():
    with pytest.raises(SignatureInvalid):
        Verifier(b"short").verify(b"", b"")


@given(st.binary())
def test_base64_has_one_spelling(content):
    text = to_base64(content)
    assert from_base64(text) == content
    if text.endswith("="):
        with pytest.raises(ValueError, match="base64"):
            from_base64(text.rstrip("="))


@pytest.mark.parametrize("text", ["QQ", "QR==", "Q Q=", "QQ==\n", "Q-_=", "="])
def test_other_spellings_of_base64_are_refused(text):
    with pytest.raises(ValueError, match=r"base64|other characters"):
        from_base64(text)

"""The stand-alone verifier: nothing of ours, nothing but the bundle, and no flipped bit passes."""

from __future__ import annotations

import importlib.util
import io
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cryptography
import pytest

from governance.log import checkpoint, sequencer
from governance.log.sequencer import Log
from governance.verifier import reclaim_verify
from tests.governance import stories
from tests.governance.log.conftest import stage

pytestmark = pytest.mark.django_db

SITE_PACKAGES = Path(cryptography.__file__).parent.parent


@pytest.fixture
def log(tmp_path):
    return stories.a_log(tmp_path / "log")


@pytest.fixture
def content(log):
    return stories.certified(stories.committed(), log)


def rezipped(content: bytes, changes: dict[str, bytes | None]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        files = {name: old.read(name) for name in old.namelist()} | changes
        for name, found in files.items():
            if found is not None:
                new.writestr(name, found)
    return target.getvalue()


def member(content: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


def checked(content: bytes, tmp_path, **pins):
    path = tmp_path / "certificate.zip"
    path.write_bytes(content)
    return reclaim_verify.check_bundle(path, pins.get("log_key"), pins.get("certificate_key"))


def test_the_verifier_imports_nothing_of_ours():
    source = Path(reclaim_verify.__file__).read_text()
    assert "governance" not in source
    assert "django" not in source.lower()


def test_it_runs_alone_with_only_cryptography(content, tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/verify.py").write_bytes(member(content, "verify.py"))
    (tmp_path / "alone/certificate.zip").write_bytes(content)
    packages = tmp_path / "packages"  # cryptography and what it needs, nothing else
    packages.mkdir()
    for name in ("cryptography", "cffi", "_cffi_backend*", "pycparser"):
        for found in SITE_PACKAGES.glob(name):
            (packages / found.name).symlink_to(found)
    run = (
        f"import sys, runpy; sys.path = [p for p in sys.path if 'site-packages' not in p]"
        f" + [{str(packages)!r}]; sys.argv = ['verify.py', 'certificate.zip'];"
        f" runpy.run_path('verify.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", run],
        cwd=tmp_path / "alone",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK      1-blocked: since 2027-03-01T12:00:10.100000+00:00 no runner releases" in (
        done.stdout
    )
    assert "OK      everything holds" in done.stdout
    assert "not claimed" in done.stdout


def test_every_stage_is_printed_with_what_it_does_not_claim(content, tmp_path):
    outcome = checked(content, tmp_path)
    assert outcome.is_sound
    for stem in ("1-blocked", "2-unloaded", "3-rebuilt"):
        assert sum(f"OK      {stem}" in line for line in outcome.lines) == 3
    assert sum("not claimed" in line for line in outcome.lines) >= 6


def test_a_bundle_of_the_first_stage_alone_holds(log, tmp_path):
    content = stories.certified(stories.committed(), log, stages=("blocked",))
    assert checked(content, tmp_path).is_sound


SIGNED = [
    "checkpoint",
    "keys.json",
    "statements/2-unloaded.json",
    "events/1-blocked.json",
    "proofs/3-rebuilt.tlog-proof",
    "proofs/1-blocked.tlog-proof",
]


@pytest.mark.parametrize("name", SIGNED)
def test_no_flipped_bit_passes(content, tmp_path, name):
    found = member(content, name)
    bits = range(len(found) * 8)
    if len(found) > 250:
        bits = random.Random(7).sample(bits, 500) + list(bits[-64:])
    for at in bits:
        flipped = bytearray(found)
        flipped[at // 8] ^= 1 << at % 8
        outcome = checked(rezipped(content, {name: bytes(flipped)}), tmp_path)
        assert not outcome.is_sound, f"bit {at} of {name}"


def test_no_flipped_bit_of_the_zip_itself_lets_a_changed_statement_pass(content, tmp_path):
    whole = checked(content, tmp_path).lines
    for at in random.Random(8).sample(range(len(content) * 8), 400):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        outcome = checked(bytes(flipped), tmp_path)
        # a bit that only changes a date or README.txt's place leaves the very same claims
        assert not outcome.is_sound or outcome.lines == whole


def test_a_statement_of_another_stage_is_found(content, tmp_path):
    moved = {"statements/1-blocked.json": member(content, "statements/2-unloaded.json")}
    assert not checked(rezipped(content, moved), tmp_path).is_sound


def test_a_statement_with_its_event_and_proof_under_another_stage_is_found(content, tmp_path):
    moved = {
        path.format("1-blocked"): member(content, path.format("2-unloaded"))
        for path in ("statements/{}.json", "events/{}.json", "proofs/{}.tlog-proof")
    }
    assert not checked(rezipped(content, moved), tmp_path).is_sound


@pytest.mark.parametrize(
    "changes",
    [
        {"keys.json": None},
        {"checkpoint": None},
        {"proofs/1-blocked.tlog-proof": None},
        {"statements/1-blocked.json": None},
        {"more.txt": b"hello"},
        {"statements/5-forgiven.json": b"{}"},
    ],
)
def test_a_missing_or_added_file_is_found(content, tmp_path, changes):
    assert not checked(rezipped(content, changes), tmp_path).is_sound


def test_what_is_no_zip_fails_and_does_not_crash(tmp_path):
    for content in (b"", b"PK\x03\x04", b"hello" * 100):
        assert not checked(content, tmp_path).is_sound


def test_pinned_keys_are_held_against_the_bundle(content, tmp_path, log):
    log_key = checkpoint.published_key(log.origin, log.signer.verifier)
    certificate_key = stories.signer_of(2).key_id
    sound = checked(content, tmp_path, log_key=log_key, certificate_key=certificate_key)
    assert sound.is_sound
    assert not any("came with the bundle" in line for line in sound.lines)
    other = checkpoint.published_key(log.origin, stories.signer_of(3).verifier)
    assert not checked(content, tmp_path, log_key=other).is_sound
    assert not checked(content, tmp_path, certificate_key=log.signer.key_id).is_sound


def test_a_forgers_bundle_holds_by_its_own_keys_and_not_by_pinned_ones(tmp_path, log):
    forger = Log(log.origin, stories.signer_of(3), tmp_path / "forged")
    forged = stories.certified(stories.committed(), forger)
    alone = checked(forged, tmp_path)
    assert alone.is_sound
    assert any("compare them with ones you got elsewhere" in line for line in alone.lines)
    log_key = checkpoint.published_key(log.origin, log.signer.verifier)
    assert not checked(forged, tmp_path, log_key=log_key).is_sound


def test_a_published_log_is_checked_entry_by_entry(log, tmp_path, capsys):
    for number in range(300):
        stage(number)
    sequencer.seal_now(stories.after(1), log=log)
    sequencer.publish(log)
    key = checkpoint.published_key(log.origin, log.signer.verifier)
    assert reclaim_verify.main([str(log.folder), "--log-key", key]) == 0
    assert "all 300 entries give the root" in capsys.readouterr().out
    file = log.folder / "tile/entries/000"
    content = bytearray(file.read_bytes())
    for at in (0, 5_000, len(content) - 1):
        changed = content.copy()
        changed[at] ^= 4
        file.write_bytes(bytes(changed))
        assert reclaim_verify.main([str(log.folder), "--log-key", key]) == 1
    file.unlink()
    assert reclaim_verify.main([str(log.folder), "--log-key", key]) == 1
    shutil.rmtree(log.folder / "tile")
    assert reclaim_verify.main([str(log.folder), "--log-key", key]) == 1


def test_a_log_is_not_checked_against_its_own_word(log):
    log.folder.mkdir(parents=True)
    with pytest.raises(SystemExit):
        reclaim_verify.main([str(log.folder)])


def test_the_file_can_be_loaded_under_any_name(tmp_path):
    shutil.copy(reclaim_verify.__file__, tmp_path / "verify.py")
    spec = importlib.util.spec_from_file_location("anything", tmp_path / "verify.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["anything"] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        assert module.STAGES == reclaim_verify.STAGES
    finally:
        del sys.modules["anything"]

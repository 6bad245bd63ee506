"""What an uploaded expert must pass before anything else opens it.

`examine` reads the header before it reads a tensor, and every tensor once: finite values, norms,
digests and the file's own digest come from the same pass over the same open file. A fault in an
upload is a `Refusal` in the report, never an exception. No torch here: numpy scans raw bytes.

What passing does not prove: that the expert is any good, or harmless in what it says. Bounded
norms stop an expert from seizing the router by size; what it learned is the audit's question.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, prod, sqrt
from pathlib import Path
from typing import BinaryIO

import numpy as np

from modelops.artefacts import scan
from modelops.artefacts.header import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    Header,
    StoredTensor,
    examine_header,
)
from modelops.artefacts.manifest import (
    AnchorManifest,
    ExpertManifest,
    TensorEntry,
    digest,
    shared_digests,
)
from modelops.artefacts.names import (
    ROUTER_ROW,
    Shape,
    Sizes,
    build_gate,
    build_part,
    digest_seed,
    expert_tensor_specs,
)
from modelops.artefacts.refusals import Refusal, RefusalCode, quoted
from modelops.artefacts.store import MANIFEST, WEIGHTS
from modelops.errors import ManifestMismatch

_RETRAIN = "train again from the recipe; if it happens again, lower the learning rate"
_SEND_AGAIN = "send the bundle folder again as the kit wrote it"


@dataclass(frozen=True)
class Limits:
    """Bounds on an upload and on its examination.

    `router_row_norm` is the largest Euclidean norm of one router row; `weight_rms` bounds the root
    mean square of each projection from both sides (an expert of zeros is no expert). `memory_bytes`
    and `cpu_s` bind only `examine_apart`, as does the wall time `wall_s`.
    """

    header_bytes: int = MAX_HEADER_BYTES
    manifest_bytes: int = 4 << 20
    router_row_norm: float = 8.0
    weight_rms: tuple[float, float] = (1e-6, 1.0)
    memory_bytes: int = 1 << 30
    cpu_s: int = 600
    wall_s: float = 900.0


@dataclass(frozen=True)
class GateReport:
    """The gate's answer. Digests are of the bytes that were examined, empty where unreadable."""

    passed: bool
    refusals: tuple[Refusal, ...]
    expert_digest: str = ""
    weights_digest: str = ""
    size_bytes: int = 0

    def to_json(self) -> bytes:
        """The report as one JSON object."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> GateReport:
        """The report that `to_json` spelt.

        Raises:
            ValueError: these bytes are none.
        """
        try:
            fields = json.loads(text)
            rows = [{**row, "code": RefusalCode(row["code"])} for row in fields.pop("refusals")]
            return cls(**fields, refusals=tuple(Refusal(**row) for row in rows))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected a gate report, found {text[:80]!r}") from error


@dataclass
class _Findings:
    """What the examination has seen so far."""

    anchor: AnchorManifest
    specs: Mapping[str, Shape]
    limits: Limits
    refusals: list[Refusal] = field(default_factory=list)
    entries: dict[str, TensorEntry] = field(default_factory=dict)
    weights_digest: str = ""
    size_bytes: int = 0

    def refuse(
        self, code: RefusalCode, expected: str, found: str, tensor: str = "", remedy: str = ""
    ) -> None:
        self.refusals.append(Refusal(code, quoted(tensor), expected, found, remedy or _SEND_AGAIN))


def examine(
    path: Path, anchor: AnchorManifest, config: Sizes, limits: Limits | None = None
) -> GateReport:
    """Examine a bundle folder, or a weights file alone, against the anchor it claims.

    A file alone has no manifest, so its claims about the anchor stay unexamined and its report
    has no `expert_digest`.
    """
    findings = _Findings(anchor, expert_tensor_specs(config), limits or Limits())
    is_folder = path.is_dir() and not path.is_symlink()
    if is_folder:
        _examine_listing(path, findings)
    if not findings.refusals:
        _examine_weights(path / WEIGHTS if is_folder else path, findings)
    expert_digest = _examine_manifest(path / MANIFEST, findings) if is_folder else ""
    return GateReport(
        passed=not findings.refusals,
        refusals=tuple(findings.refusals),
        expert_digest=expert_digest,
        weights_digest=findings.weights_digest,
        size_bytes=findings.size_bytes,
    )


def examine_apart(
    path: Path, anchor: AnchorManifest, config: Sizes, limits: Limits | None = None
) -> GateReport:
    """`examine` in a process of its own, with bounded memory, processor time and wall time.

    Whatever the upload does to that process, the caller gets a report: one that died or ran over
    a bound becomes a refusal with the code `examination_failed`.
    """
    bounds = limits or Limits()
    names = [name for name in Sizes.__annotations__ if hasattr(config, name)]
    sizes = {name: getattr(config, name) for name in names}
    ask = {
        "path": str(path.absolute()),
        "anchor": anchor.to_json().decode(),
        "sizes": sizes,
        "limits": dataclasses.asdict(bounds),
    }
    home = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            [sys.executable, "-s", "-B", "-m", "modelops.artefacts.apart"],
            input=json.dumps(ask).encode(),
            capture_output=True,
            timeout=bounds.wall_s,
            cwd=home,
            # Nothing of our own environment is for a process that reads a stranger's file.
            env={"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _failed(f"no answer within {bounds.wall_s} s")
    try:
        return GateReport.from_json(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return _failed(f"exit status {done.returncode} ({quoted(last)})")


def _failed(found: str) -> GateReport:
    refusal = Refusal(
        RefusalCode.EXAMINATION_FAILED,
        "",
        "an examination that ends within its bounds",
        found,
        "send the bundle again; if it is honest and merely large, ask staff to raise the limits",
    )
    return GateReport(passed=False, refusals=(refusal,))


def _examine_listing(folder: Path, findings: _Findings) -> None:
    present = {entry.name: entry for entry in folder.iterdir()}
    for name in (WEIGHTS, MANIFEST):
        if name not in present:
            findings.refuse(RefusalCode.MISSING_FILE, f"{name} in the folder", "none")
    for name in sorted(set(present) - {WEIGHTS, MANIFEST}):
        findings.refuse(RefusalCode.EXTRA_FILE, f"{WEIGHTS} and {MANIFEST} only", quoted(name))


def _open_plain(path: Path, most_bytes: int, findings: _Findings) -> BinaryIO | None:
    """The file, opened without following a link, or None with the reason among the refusals."""
    try:
        # Without O_NONBLOCK a named pipe would keep us waiting for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        findings.refuse(RefusalCode.NOT_A_FILE, f"{path.name} as a plain file", reason)
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        findings.refuse(RefusalCode.NOT_A_FILE, f"{path.name} as a plain file", "something else")
    elif status.st_size > most_bytes:
        findings.refuse(
            RefusalCode.TOO_LARGE,
            f"{path.name} of at most {most_bytes} bytes",
            f"{status.st_size}",
            remedy="send only the expert's own tensors in the anchor's dtype",
        )
    else:
        return os.fdopen(fd, "rb")
    os.close(fd)
    return None


def _examine_weights(path: Path, findings: _Findings) -> None:
    file = _open_plain(path, _most_bytes(findings), findings)
    if file is None:
        return
    with file:
        header = examine_header(file, findings.limits.header_bytes)
        if isinstance(header, Refusal):
            findings.refusals.append(header)
            return
        findings.size_bytes = header.size_bytes
        _examine_names(header, file, findings)
        if not findings.refusals:
            _examine_tensors(header, file, findings)


def _most_bytes(findings: _Findings) -> int:
    own = sum(prod(shape) for shape in findings.specs.values()) * 4
    # Room for an anchor's tensors too, so that their presence can be named as what it is.
    shared = sum(prod(e.shape) * ITEM_BYTES.get(e.dtype, 4) for e in findings.anchor.tensors)
    return own + shared + findings.limits.header_bytes


def _examine_names(header: Header, file: BinaryIO, findings: _Findings) -> None:
    shared = shared_digests(findings.anchor)
    dtypes = _dtypes(findings)
    held = {tensor.name: tensor for tensor in header.tensors}
    for name in sorted(set(findings.specs) - set(held)):
        findings.refuse(RefusalCode.MISSING_TENSOR, "the tensor in the file", "none", name)
    for name, tensor in held.items():
        if name in shared:
            _examine_shared_copy(tensor, file, shared[name], findings)
        elif name not in findings.specs:
            findings.refuse(
                RefusalCode.EXTRA_TENSOR, "the expert's own tensors only", "another", name
            )
        elif tensor.shape != findings.specs[name]:
            findings.refuse(
                RefusalCode.WRONG_SHAPE,
                f"{list(findings.specs[name])}",
                f"{list(tensor.shape)}",
                name,
                "train beside this anchor; its configuration fixes every shape",
            )
        elif tensor.dtype != dtypes[name]:
            findings.refuse(
                RefusalCode.WRONG_DTYPE,
                f"{dtypes[name]}, as the anchor's expert has",
                tensor.dtype,
                name,
                "cast the weights to the anchor's dtype before saving",
            )


def _dtypes(findings: _Findings) -> dict[str, str]:
    anchor = {entry.name: entry.dtype for entry in findings.anchor.tensors}
    found: dict[str, str] = {}
    for name in findings.specs:
        layer = int(name.split(".")[2])
        twin = build_gate(layer) if _is_router(name) else build_part(layer, 0, name.split(".")[-2])
        found[name] = anchor.get(twin, "F32")
    return found


def _is_router(name: str) -> bool:
    return name.endswith(f".{ROUTER_ROW}")


def _examine_shared_copy(
    tensor: StoredTensor, file: BinaryIO, expected: str, findings: _Findings
) -> None:
    sha = hashlib.sha256(digest_seed(tensor.dtype, tensor.shape))
    for chunk in scan.chunks(tensor, file):
        sha.update(chunk)
    changed = sha.hexdigest() != expected
    findings.refuse(
        RefusalCode.SHARED_TENSOR if changed else RefusalCode.EXTRA_TENSOR,
        "the expert's own tensors only; the anchor's stay as they are",
        "a changed tensor of the anchor" if changed else "a copy of a tensor of the anchor",
        tensor.name,
        "freeze everything but the expert and its router row, and save only those",
    )


def _examine_tensors(header: Header, file: BinaryIO, findings: _Findings) -> None:
    file.seek(0)
    whole = hashlib.sha256(file.read(header.data_begin))
    for tensor in header.tensors:
        sha = hashlib.sha256(digest_seed(tensor.dtype, tensor.shape))
        is_finite, squares = True, 0.0
        for chunk in scan.chunks(tensor, file):
            whole.update(chunk)
            sha.update(chunk)
            values = scan.values(chunk, tensor.dtype)
            is_finite = is_finite and bool(np.isfinite(values).all())
            squares += float(np.dot(values, values)) if is_finite else inf
        entry = TensorEntry(tensor.name, tensor.dtype, tensor.shape, sha.hexdigest())
        findings.entries[tensor.name] = entry
        _examine_norm(tensor, is_finite, squares, findings)
    findings.weights_digest = whole.hexdigest()
    if os.fstat(file.fileno()).st_size != header.size_bytes:
        findings.refuse(RefusalCode.CHANGED_WHILE_READ, "a file at rest", "one that changed")


def _examine_norm(
    tensor: StoredTensor, is_finite: bool, squares: float, findings: _Findings
) -> None:
    least, most = findings.limits.weight_rms
    rms = sqrt(squares / prod(tensor.shape))
    if not is_finite:
        findings.refuse(
            RefusalCode.NOT_FINITE, "finite numbers", "NaN or infinity", tensor.name, _RETRAIN
        )
    elif _is_router(tensor.name):
        bound = findings.limits.router_row_norm
        if sqrt(squares) > bound:
            findings.refuse(
                RefusalCode.ROUTER_NORM,
                f"a router row of norm at most {bound:g}",
                f"{sqrt(squares):.4g}",
                tensor.name,
                "train the router row with the kit's recipe: size must not win the routing",
            )
    elif not least <= rms <= most:
        findings.refuse(
            RefusalCode.NORM_TOO_LARGE if rms > most else RefusalCode.NORM_TOO_SMALL,
            f"a root mean square between {least:g} and {most:g}",
            f"{rms:.4g}",
            tensor.name,
            _RETRAIN,
        )


def _examine_manifest(path: Path, findings: _Findings) -> str:
    file = _open_plain(path, findings.limits.manifest_bytes, findings)
    if file is None:
        return ""
    with file:
        text = file.read(findings.limits.manifest_bytes)
    try:
        manifest = ExpertManifest.from_json(text)
    except ManifestMismatch as error:
        found = quoted(str(error), 200)
        findings.refuse(RefusalCode.MANIFEST_UNREADABLE, "an expert's manifest", found)
        return ""
    _compare_anchor(manifest, findings)
    if findings.entries:
        _compare_tensors(manifest, findings)
    return digest(manifest)


def _compare_anchor(manifest: ExpertManifest, findings: _Findings) -> None:
    if manifest.anchor_digest != digest(findings.anchor):
        findings.refuse(
            RefusalCode.WRONG_ANCHOR,
            f"anchor {digest(findings.anchor)}",
            manifest.anchor_digest,
            remedy="join with the current anchor and train beside it",
        )
    shared = shared_digests(findings.anchor)
    for name in sorted(set(shared) | set(manifest.shared)):
        if shared.get(name) != manifest.shared.get(name):
            findings.refuse(
                RefusalCode.SHARED_TENSOR,
                shared.get(name, "no such shared tensor"),
                manifest.shared.get(name, "not stated"),
                name,
                "freeze every tensor of the anchor (weight decay 0) and train again",
            )


def _compare_tensors(manifest: ExpertManifest, findings: _Findings) -> None:
    if manifest.weights_digest != findings.weights_digest:
        findings.refuse(
            RefusalCode.MANIFEST_DIFFERS,
            f"weights of digest {manifest.weights_digest}",
            findings.weights_digest,
        )
    stated = {entry.name: entry for entry in manifest.tensors}
    for name in sorted(set(stated) | set(findings.entries)):
        if stated.get(name) != findings.entries.get(name):
            findings.refuse(
                RefusalCode.MANIFEST_DIFFERS,
                f"{stated.get(name, 'a tensor the manifest lists')}",
                f"{findings.entries.get(name, 'no such tensor in the file')}",
                name,
            )

"""The words in which an upload is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RefusalCode(StrEnum):
    """What is wrong with an upload; one code, one kind of finding."""

    NOT_A_FILE = "not_a_plain_file"
    MISSING_FILE = "missing_file"
    EXTRA_FILE = "extra_file"
    TOO_LARGE = "file_too_large"
    NOT_SAFETENSORS = "not_safetensors"
    HEADER_TOO_LARGE = "header_too_large"
    HEADER_PADDED = "header_padded"
    HEADER_NOT_CANONICAL = "header_not_canonical"
    METADATA = "metadata_not_allowed"
    DUPLICATE_TENSOR = "duplicate_tensor"
    UNSAFE_NAME = "unsafe_name"
    LAYOUT = "data_layout"
    TRAILING_BYTES = "trailing_bytes"
    EXTRA_TENSOR = "extra_tensor"
    MISSING_TENSOR = "missing_tensor"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    NOT_FINITE = "not_finite"
    NORM_TOO_LARGE = "norm_too_large"
    NORM_TOO_SMALL = "norm_too_small"
    ROUTER_NORM = "router_norm_too_large"
    SHARED_TENSOR = "shared_tensor_changed"
    WRONG_ANCHOR = "wrong_anchor"
    MANIFEST_UNREADABLE = "manifest_unreadable"
    MANIFEST_DIFFERS = "manifest_differs"
    CHANGED_WHILE_READ = "changed_while_read"
    EXAMINATION_FAILED = "examination_failed"


@dataclass(frozen=True)
class Refusal:
    """One reason against an upload; `tensor` is empty where the whole file is meant.

    Texts that come from the upload are cut short and escaped: they end in pages and logs.
    """

    code: RefusalCode
    tensor: str
    expected: str
    found: str
    remedy: str


def quoted(text: str, most: int = 80) -> str:
    """Untrusted text as printable ASCII of bounded length."""
    shown = text[: most + 1].encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= most else shown[:most] + "…"

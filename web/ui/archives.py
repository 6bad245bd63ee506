"""A folder of files as a .tar that is made while it is sent: memory holds one piece of one file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tarfile
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from governance.errors import UnlawfulMove

PIECE_BYTES = 1 << 20


def download(
    request: HttpRequest, folder: Path, files: Mapping[str, str], *, name: str
) -> StreamingHttpResponse:
    """The files of a folder, by name and SHA-256, as the download `name`.tar."""
    pieces = pieces_of(folder, files, under=name)
    # Under ASGI Django would first read an ordinary iterator to its end.
    content = _apart(pieces) if isinstance(request, ASGIRequest) else pieces
    response = StreamingHttpResponse(content, content_type="application/x-tar")
    response["Content-Disposition"] = f'attachment; filename="{name}.tar"'
    response["Cache-Control"] = "no-store"
    return response


def pieces_of(folder: Path, files: Mapping[str, str], *, under: str) -> Generator[bytes]:
    """The bytes of the archive; whoever reads it finds every file in the folder `under`.

    Raises:
        UnlawfulMove: a file is not the one of its digest. The archive breaks off there, so that no
            reader takes it for whole.
    """
    for name, digest in sorted(files.items()):
        with (folder / name).open("rb") as file:
            member = tarfile.TarInfo(f"{under}/{name}")
            member.size = (folder / name).stat().st_size
            yield member.tobuf(tarfile.PAX_FORMAT)
            seen = hashlib.sha256()
            while piece := file.read(PIECE_BYTES):
                seen.update(piece)
                yield piece
        if seen.hexdigest() != digest:
            raise UnlawfulMove(
                f"expected {name} as it was exported ({digest[:12]}), found other bytes. Let a "
                "worker export the build again."
            )
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def _apart(pieces: Generator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, each read off the event loop."""
    with contextlib.closing(pieces):
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

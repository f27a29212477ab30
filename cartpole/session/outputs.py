"""Files that commands write: beside, then renamed; never over an input or over what others made."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cartpole.errors import SessionError, UsageError
from cartpole.session.folder import parts

HEAD_BYTES = 4096
PNG, PDF = b"\x89PNG", b"%PDF-"
Ours = Callable[[bytes], bool]


def begins_with(*heads: bytes) -> Ours:
    """A file of our own making is known by how it begins."""
    return lambda head: head.startswith(heads)


def figures_or_empty(head: bytes) -> bool:
    """Figures (JSON) may be written again, and an empty file filled."""
    return not head.strip() or head.lstrip()[:1] in (b"{", b"[")


def nothing_of_ours(_head: bytes) -> bool:
    """Whatever is there stays."""
    return False


def planned(
    *,
    recording: Path | None = None,
    film: Path | None = None,
    picture: Path | None = None,
    figures: Path | None = None,
    inputs: Iterable[Path | None] = (),
    force: bool = False,
) -> None:
    """Raises UsageError, before a command begins, if an output must not be written or two are one.

    Recordings and films overwrite nothing unless ``force``, which removes the continuations of an
    older recording as well; pictures and figures overwrite their like.
    """
    read = [path for path in inputs if path is not None]
    wanted = [path for path in (recording, film, picture, figures) if path is not None]
    if len({path.resolve() for path in wanted}) < len(wanted):
        raise UsageError("two outputs in one file: name another one")
    for path in wanted:  # an input that is only begun now, too
        if any(path.resolve() == one.resolve() for one in read):
            raise UsageError(f"{path} is what is read: name another file for the output")
    if recording is not None:
        for path in parts(recording):
            check_output(path, inputs=read, force=force)
    if film is not None:
        check_output(film, inputs=read, force=force)
    if picture is not None:
        check_output(picture, inputs=read, ours=begins_with(PNG, PDF), force=None)
    if figures is not None:
        check_output(figures, inputs=read, ours=figures_or_empty, force=None)
    if recording is not None:
        for path in parts(recording)[1:]:  # they would be read as what the new one goes on with
            path.unlink()


@contextlib.contextmanager
def written(
    path: Path,
    *,
    inputs: Iterable[Path] = (),
    ours: Ours = nothing_of_ours,
    force: bool | None = False,
) -> Iterator[Path]:
    """A path of the same name to write to; it takes the place of ``path`` if all goes well.

    Folders are made. Raises UsageError where ``path`` is an input, or exists and is not ``ours``
    (by its first bytes) unless ``force``; SessionError where nothing can be written. An input is
    never overwritten, whatever ``force``.
    """
    check_output(path, inputs=inputs, ours=ours, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
    except OSError as error:
        raise SessionError(f"cannot write {path}: {error.strerror}") from None
    try:
        yield beside / path.name
        # A recording may have gone on in further files.
        for made in sorted(beside.iterdir(), reverse=True):
            check_output(path.with_name(made.name), inputs=inputs, ours=ours, force=force)
            os.replace(made, path.with_name(made.name))
    except OSError as error:
        raise SessionError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_output(
    path: Path,
    *,
    inputs: Iterable[Path] = (),
    ours: Ours = nothing_of_ours,
    force: bool | None = False,
) -> None:
    """Raises UsageError, as :func:`written` does, if ``path`` must not be written.

    ``force`` None: the command knows no ``--force``.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if not os.path.lexists(path):
        return
    for one in inputs:
        if one.exists() and path.exists() and path.samefile(one):
            raise UsageError(f"{path} is what is read: name another file for the output")
    if force:
        return
    if not path.is_file() or not ours(_head(path)):
        hint = "name another file" if force is None else "name another file, or --force"
        raise UsageError(f"{path} is there already, and not of this command's making: {hint}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror}") from None

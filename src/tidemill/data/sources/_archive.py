"""Archives, checked before or while they are unpacked: sizes, names, links, devices."""

from __future__ import annotations

import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from tidemill.data.sources._base import Limits
from tidemill.data.sources._files import Guarded, packer_of
from tidemill.errors import SourceError, TooLargeError

_NESTED = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".zst")
_UNPACK = 1 << 20
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)
"""What the standard library says of a zip that is not what it should be."""


def checked_members(archive: zipfile.ZipFile, path: Path, limits: Limits) -> list[zipfile.ZipInfo]:
    """The files in the zip.

    Only what is stored or deflated is taken: the other packers unpack whatever is in a piece at once, however much more
    than was announced.

    Raises:
        SourceError: a name leads out of the zip, or a member is a link, encrypted, or packed in a rare way.
        TooLargeError: it would unpack to more than the limits allow.
    """
    members = [m for m in archive.infolist() if not m.filename.endswith("/")]
    for member in members:
        name = member.filename
        check_name(name, path, "zip")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _no_file(name, "a link" if kind == stat.S_IFLNK else "a device or pipe", path)
        if member.flag_bits & 0x1:
            raise SourceError(f"{name!r} is encrypted.", where=str(path), mend="Pack it again without a password.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            message = f"{name!r} is packed by method {member.compress_type}."
            raise SourceError(message, where=str(path), mend="Pack it again as an ordinary zip (deflate).")
        if member.file_size > 1 << 20 and member.file_size > limits.max_archive_ratio * max(1, member.compress_size):
            raise TooLargeError(
                f"{name!r} unpacks to {member.file_size:,} bytes, over {limits.max_archive_ratio:g} times its size.",
                where=str(path),
                mend="Unpack it yourself if you trust it, or raise limits.archive_ratio.",
            )
    total = sum(m.file_size for m in members)
    if total > limits.max_archive_bytes:
        raise _too_large("zip", path, limits, f"{total:,} bytes, more than the")
    return members


def check_name(name: str, path: Path, kind: str) -> None:
    """Refuse a member's name that leads out of its archive, or is none.

    Raises:
        SourceError: it does.
    """
    if not name or "\0" in name:
        raise SourceError(f"{name!r} is no name of a file.", where=str(path), mend="Pack the files again.")
    pure, windows = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name)
    if pure.is_absolute() or windows.drive or ".." in pure.parts:
        mend = f"Do not use this {kind} unless you know who made it; pack the files again."
        raise SourceError(f"the path {name!r} leads out of the {kind}.", where=str(path), mend=mend)


def refuse_nested(name: str, path: Path) -> None:
    """Refuse an archive within an archive.

    Raises:
        SourceError: the name is one.
    """
    if name.casefold().endswith(_NESTED):
        message = f"{name!r} is an archive within the archive."
        raise SourceError(message, where=str(path), mend="Unpack the outer one, and give what is in it.")


def unpack_zip(path: Path, folder: Path, limits: Limits, wanted: Callable[[str], bool]) -> None:
    """Unpack the wanted files of a zip.

    Raises:
        SourceError: it is damaged, or a member is refused.
        TooLargeError: it is over its limits.
    """
    with open_zip(path) as archive:
        members = checked_members(archive, path, limits)
        for member in members:
            if not is_hidden(member.filename):
                refuse_nested(member.filename, path)
        for member in members:
            if wanted(member.filename):
                with _target(folder, member.filename, path).open("xb") as file:
                    for part in _parts(archive, member, path):  # at most file_size, which was checked
                        file.write(part)


def _parts(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[bytes]:
    try:
        with archive.open(member) as packed:
            while part := packed.read(_UNPACK):
                yield part
    except DAMAGED as error:
        message = f"{member.filename!r} cannot be unpacked ({error})."
        raise SourceError(message, where=str(path), mend="Download or pack it again.") from error


def unpack_tar(path: Path, folder: Path, limits: Limits, wanted: Callable[[str], bool]) -> None:
    """Unpack the wanted files of a tar, packed or plain, in one pass.

    Raises:
        SourceError: it is damaged, or a member is refused.
        TooLargeError: it is over its limits.
    """
    packer = packer_of(path)
    total = 0
    try:
        with (
            Guarded(path, limits, packer) if packer else path.open("rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                check_name(member.name, path, "tar")
                if member.isdir():
                    continue
                if not member.isreg():
                    raise _no_file(member.name, "a link" if member.issym() or member.islnk() else "a device", path)
                total += member.size
                if total > limits.max_archive_bytes:
                    raise _too_large("tar", path, limits, "more than the")
                if not is_hidden(member.name):
                    refuse_nested(member.name, path)
                packed = archive.extractfile(member)
                if packed is not None and wanted(member.name):
                    with _target(folder, member.name, path).open("xb") as file:
                        shutil.copyfileobj(packed, file, _UNPACK)
    except (tarfile.TarError, EOFError) as error:
        message = f"the tar cannot be unpacked ({error})."
        raise SourceError(message, where=str(path), mend="Download or pack it again.") from error


def is_hidden(name: str) -> bool:
    """Hidden files, and what macOS adds to archives."""
    return any(p.startswith((".", "__MACOSX")) and p != "." for p in PurePosixPath(name).parts)


def _target(folder: Path, name: str, path: Path) -> Path:
    target = folder / name
    if target.exists():
        raise SourceError(f"{name!r} is in it twice.", where=str(path), mend="Pack it again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _no_file(name: str, kind: str, path: Path) -> SourceError:
    message = f"{name!r} is {kind}, not a file."
    return SourceError(message, where=str(path), mend="Pack the files themselves, without links and devices.")


def _too_large(kind: str, path: Path, limits: Limits, said: str) -> TooLargeError:
    return TooLargeError(
        f"the {kind} unpacks to {said} {limits.max_archive_bytes:,} allowed.",
        where=str(path),
        mend="Split it, unpack it yourself, or raise limits.archive_gb.",
    )


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip, opened.

    Raises:
        SourceError: it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except DAMAGED as error:
        message = f"the zip cannot be opened ({error})."
        raise SourceError(message, where=str(path), mend="Download or pack it again.") from error

"""A zip's directory, checked before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from tidemill.data.sources._base import Limits
from tidemill.errors import SourceError, TooLargeError


def checked_members(archive: zipfile.ZipFile, path: Path, limits: Limits) -> list[zipfile.ZipInfo]:
    """The files in the zip.

    Raises:
        SourceError: a name leads out of the zip, or a member is encrypted.
        TooLargeError: it would unpack to more than the limits allow.
    """
    members = [m for m in archive.infolist() if not m.is_dir()]
    for member in members:
        name = member.filename
        pure, windows = PurePosixPath(name.replace("\\", "/")), PureWindowsPath(name)
        if pure.is_absolute() or windows.drive or ".." in pure.parts:
            mend = "Do not use this zip unless you know who made it; pack the images again."
            raise SourceError(f"the path {name!r} leads out of the zip.", where=str(path), mend=mend)
        if member.flag_bits & 0x1:
            raise SourceError(f"{name!r} is encrypted.", where=str(path), mend="Pack it again without a password.")
        if member.file_size > 1 << 20 and member.file_size > limits.max_archive_ratio * max(1, member.compress_size):
            raise TooLargeError(
                f"{name!r} unpacks to {member.file_size:,} bytes, over {limits.max_archive_ratio:g} times its size.",
                where=str(path),
                mend="Unpack it yourself if you trust it, or raise limits.archive_ratio.",
            )
    total = sum(m.file_size for m in members)
    if total > limits.max_archive_bytes:
        raise TooLargeError(
            f"the zip unpacks to {total:,} bytes, more than the {limits.max_archive_bytes:,} allowed.",
            where=str(path),
            mend="Split it, unpack it yourself, or raise limits.archive_gb.",
        )
    return members


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip, opened.

    Raises:
        SourceError: it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        message = f"the zip cannot be opened ({error})."
        raise SourceError(message, where=str(path), mend="Download or pack it again.") from error

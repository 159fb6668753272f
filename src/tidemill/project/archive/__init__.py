"""The one file that a backup is: a tar archive, packed with zstd, whose last member says what all others hold.

Written and read member by member, in memory that does not grow with them. Reading takes nothing for granted: only plain
files under names that stay within the archive, each with the SHA-256 that the manifest says, and nothing beside them.
``tar --zstd -xf`` opens it, too.
"""

from __future__ import annotations

from tidemill.project.archive._format import HEADER, VERSION
from tidemill.project.archive.reading import Member, members, read_header, read_manifest
from tidemill.project.archive.writing import ArchiveWriter

__all__ = ["HEADER", "VERSION", "ArchiveWriter", "Member", "members", "read_header", "read_manifest"]

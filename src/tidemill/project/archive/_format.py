"""What writing and reading agree on."""

from __future__ import annotations

VERSION = 1
HEADER = "tidemill-backup.json"
MANIFEST = "manifest.json"
ROOMS = ("project", "state", "tables")
"""The folders in which members may stand."""

MAGIC = b"\x28\xb5\x2f\xfd"  # zstd
BLOCK = 512  # bytes of which tar makes everything a multiple
CHUNK = 1 << 20
LONGEST_NAME = 4096
LARGEST_JSON = 256 << 20

"""Pretrained models of others: found, fetched, and checked before anything of them is used.

A checkpoint is a folder as Hugging Face writes it: ``config.json``, weights as safetensors, and for texts a tokeniser.
Pickles are never opened, and code that a checkpoint brings is never run. It is named by a *reference*, a text:
``package:NAME`` (in an installed Python package), ``folder:PATH`` or ``hub:OWNER/NAME@REVISION``.
"""

from __future__ import annotations

from tidemill.checkpoints.folder import Checkpoint
from tidemill.checkpoints.reference import EMBEDDED, open_checkpoint

__all__ = ["EMBEDDED", "Checkpoint", "open_checkpoint"]

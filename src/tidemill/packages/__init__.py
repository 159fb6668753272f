"""The model package: a folder that anyone can open safely.

::

    manifest.json       schema, task, runtime, signature, feature state, answer spec, lineage, checksums; written last
    model.onnx          the graph, and/or
    model.safetensors   the weights of a network that this package can rebuild
    README.md           its model card

No file in it is ever unpickled, no path in it is ever followed, and its checksums are verified before it answers.
"""

from tidemill.packages.manifest import SCHEMA, Manifest
from tidemill.packages.read import read_manifest, verify
from tidemill.packages.write import write_package

__all__ = ["SCHEMA", "Manifest", "read_manifest", "verify", "write_package"]

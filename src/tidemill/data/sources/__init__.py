"""Where rows come from: one file a format, opened by :func:`open_source`.

========================  ============================================================================
give                      get
========================  ============================================================================
``table.csv``, ``.tsv``   its columns; delimiter, encoding, quotes and header are sniffed
``lines.txt``             a text table, or ``text``: one text a line
``rows.jsonl``            its fields, lists of labels too; ``.json`` with a list of objects
``table.parquet``         its columns; bytes are images
``arrays.npz``            image or ``x_0`` …, label
a folder of images        image, label (the class folder) or the columns of ``metadata.csv``/``.jsonl``
a folder of text files    text, label (the class folder)
a folder of tables        the tables of one format in it, or its IDX files
a saved data set          what ``save_to_disk`` of Hugging Face ``datasets`` wrote
``data/*.csv``            all files that match, as one source
``set.zip``, ``.tar.gz``  as the packed folder; single files may be packed by gzip, bzip2, xz
``choices.vw``            contexts, actions, rewards: what Vowpal Wabbit logs, text or JSON
``sklearn:NAME``          digits, iris, wine, breast_cancer, diabetes
``hf:NAME[/CONFIG]``      a set of the Hugging Face hub; ``@REVISION`` may follow
``sql:URL#QUERY``         the rows of a query
========================  ============================================================================

``train``, ``val`` and ``test`` in the names of files and folders give the split.
"""

from __future__ import annotations

from tidemill.data.sources._base import Batch, ColumnSummary, Fault, Limits, Source, Summary
from tidemill.data.sources._opening import open_source
from tidemill.data.sources._summary import merge

__all__ = ["Batch", "ColumnSummary", "Fault", "Limits", "Source", "Summary", "merge", "open_source"]

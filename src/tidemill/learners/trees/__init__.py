"""``trees``: gradient boosted decision trees by LightGBM (Ke et al., 2017), answered by one ONNX tree ensemble."""

from tidemill.learners.trees.fitted import FittedTrees
from tidemill.learners.trees.learner import Trees

__all__ = ["FittedTrees", "Trees"]

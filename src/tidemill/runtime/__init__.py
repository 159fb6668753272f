"""What answers: a package opened as a :class:`Predictor`, by ONNX Runtime or torch."""

from tidemill.runtime.predictor import Predictor, load

__all__ = ["Predictor", "load"]

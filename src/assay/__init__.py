"""assay measures what image-and-text posts say: teacher, student, findings with intervals."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.scoring.predict import Predictor as Predictor
    from assay.scoring.prediction import Prediction as Prediction

__version__ = "0.1.0"
__all__ = ["Prediction", "Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Predictor and Prediction, imported when they are asked for: torch takes its time."""
    if name in ("Prediction", "Predictor"):
        from assay.scoring import predict

        return getattr(predict, name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")

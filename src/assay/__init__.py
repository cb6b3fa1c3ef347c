"""assay measures what image-and-text posts say: teacher, student, findings with intervals.

As a library: `rate` asks a teacher about the rows of a DataFrame, `Predictor` scores them with a student,
`load_corpus` reads posts of any layout.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.frames import load_corpus as load_corpus
    from assay.frames import rate as rate
    from assay.scoring.predict import Predictor as Predictor
    from assay.scoring.prediction import Prediction as Prediction

__version__ = "0.1.0"
__all__ = ["Prediction", "Predictor", "__version__", "load_corpus", "rate"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for: torch takes its time."""
    if name in ("load_corpus", "rate"):
        from assay import frames

        return getattr(frames, name)
    if name in ("Prediction", "Predictor"):
        from assay.scoring import predict

        return getattr(predict, name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")

"""Amazon SageMaker: handlers of an endpoint, a training entry, and helpers for jobs and endpoints.

`from assay.serve.sagemaker import *` in an inference script gives the four functions that SageMaker's toolkit calls.
Nothing is imported before it is used: the helpers run where torch is not installed.
"""

from typing import Any

__all__ = ["SageMakerEndpoint", "SageMakerTrainingJob", "input_fn", "model_fn", "output_fn", "predict_fn"]


def __getattr__(name: str) -> Any:
    if name in ("input_fn", "model_fn", "output_fn", "predict_fn"):
        from assay.serve.sagemaker import handlers

        return getattr(handlers, name)
    if name in ("SageMakerEndpoint", "SageMakerTrainingJob"):
        from assay.serve.sagemaker import jobs

        return getattr(jobs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Training jobs and endpoints over the `sagemaker` SDK, which needs an environment of its own (docs/serving.md)."""

from __future__ import annotations

import base64
import json
import re
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assay.errors import DataError, SettingsError
from assay.serve.sagemaker.pack import source_dir

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,39}")
FRAMEWORK, PYTHON = "2.6.0", "py312"  # of the containers, where no image is named


@dataclass
class SageMakerTrainingJob:
    """Trains a student in a SageMaker job; `bucket` takes our code and the model.

    `session` is a boto3 session, by default that of the environment, as are credentials and region. `image` is a
    container, by default the newest PyTorch one that the SDK and this package know.
    """

    role: str
    bucket: str
    instance_type: str = "ml.g4dn.xlarge"
    name: str = "assay"
    image: str | None = None
    session: Any = None
    max_runtime_s: int = 86_400
    volume_gb: int = 50
    environment: dict[str, str] = field(default_factory=dict)
    job: Any = None

    def fit(
        self,
        train_s3: str,
        val_s3: str | None = None,
        test_s3: str | None = None,
        *,
        hyperparameters: dict[str, Any],
        wait: bool = True,
    ) -> str:
        """Start a job on folders of S3 and return its name; with `wait`, when it has ended.

        Hyperparameters are those of `assay.serve.sagemaker.train`, such as `{"class-names": "a,b", "epochs": 10}`.
        DataError for what is no S3 address, or where the job failed.
        """
        shapes, resources = _sdk("shapes"), _sdk("resources")
        session = _session(self.session)
        given = {"train": train_s3, "validation": val_s3, "test": test_s3}
        channels = [_channel(shapes, name, place) for name, place in given.items() if place is not None]
        job = _named(self.name)
        code = self._upload_code(session, job)
        words = {name.replace("_", "-"): str(value) for name, value in hyperparameters.items()}
        words |= {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
        self.job = resources.TrainingJob.create(
            training_job_name=job,
            role_arn=self.role,
            hyper_parameters=words,
            algorithm_specification=shapes.AlgorithmSpecification(
                training_image=self.image or _image(session, self.instance_type, "training"), training_input_mode="File"
            ),
            input_data_config=channels,
            output_data_config=shapes.OutputDataConfig(s3_output_path=f"s3://{self.bucket}/{self.name}/output"),
            resource_config=shapes.ResourceConfig(
                instance_type=self.instance_type, instance_count=1, volume_size_in_gb=self.volume_gb
            ),
            stopping_condition=shapes.StoppingCondition(max_runtime_in_seconds=self.max_runtime_s),
            environment=self.environment or {"PYTHONUNBUFFERED": "1"},
            session=session,
            region=session.region_name,
        )
        if wait:
            self.job.wait()
            if self.job.training_job_status != "Completed":
                raise DataError(f"{job}: {self.job.training_job_status}: {self.job.failure_reason}")
        return job

    @property
    def model_data(self) -> str:
        """Where the model of a completed job lies, as an S3 address of a `model.tar.gz`."""
        if self.job is None:
            raise DataError("no job was started; call fit first")
        self.job.refresh()
        place: str = self.job.model_artifacts.s3_model_artifacts
        return place

    def _upload_code(self, session: Any, job: str) -> str:
        key = f"{self.name}/code/{job}/sourcedir.tar.gz"
        with tempfile.TemporaryDirectory() as folder:
            code = source_dir(Path(folder) / "code")
            packed = Path(folder) / "sourcedir.tar.gz"
            with tarfile.open(packed, "w:gz") as archive:
                for path in sorted(code.rglob("*")):
                    archive.add(path, str(path.relative_to(code)), recursive=False)
            session.client("s3").upload_file(str(packed), self.bucket, key)
        return f"s3://{self.bucket}/{key}"


@dataclass
class SageMakerEndpoint:
    """An endpoint that serves a `model.tar.gz` (`pack` makes one of a model folder)."""

    model_data: str
    role: str
    name: str = "assay"
    image: str | None = None
    session: Any = None
    endpoint: Any = None

    def deploy(self, instance_type: str = "ml.m5.xlarge", instances: int = 1, *, wait: bool = True) -> str:
        """Make model, configuration and endpoint, and return the endpoint's name."""
        shapes, resources = _sdk("shapes"), _sdk("resources")
        session = _session(self.session)
        _check_s3(self.model_data)
        name = _named(self.name)
        places = {"session": session, "region": session.region_name}
        container = shapes.ContainerDefinition(
            image=self.image or _image(session, instance_type, "inference"),
            model_data_url=self.model_data,
            environment={
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            },
        )
        resources.Model.create(model_name=name, primary_container=container, execution_role_arn=self.role, **places)
        variant = shapes.ProductionVariant(
            variant_name="all", model_name=name, instance_type=instance_type, initial_instance_count=instances
        )
        resources.EndpointConfig.create(endpoint_config_name=name, production_variants=[variant], **places)
        self.endpoint = resources.Endpoint.create(endpoint_name=name, endpoint_config_name=name, **places)
        if wait:
            self.endpoint.wait_for_status("InService")
        return name

    def predict(self, text: str = "", image_path: str | Path | None = None) -> dict[str, Any]:
        """The answer to one post; DataError for a picture that cannot be read."""
        one: dict[str, str] = {"text": text}
        if image_path is not None:
            try:
                one["image_base64"] = base64.b64encode(Path(image_path).read_bytes()).decode()
            except OSError as error:
                raise DataError(f"{image_path}: {error.strerror}") from error
        return self.predict_many([one])[0]

    def predict_many(self, instances: list[dict[str, str]]) -> list[dict[str, Any]]:
        """The answers to posts with `text` and `image_base64`."""
        if self.endpoint is None:
            raise DataError("no endpoint was made; call deploy first")
        session = _session(self.session)
        body = json.dumps({"instances": instances}).encode()
        answer = self.endpoint.invoke(
            body=body,
            content_type="application/json",
            accept="application/json",
            session=session,
            region=session.region_name,
        )
        found: list[dict[str, Any]] = json.loads(answer.body.read())["predictions"]
        return found

    def delete(self) -> None:
        """Take down the endpoint, its configuration and its model."""
        if self.endpoint is None:
            return
        name = self.endpoint.endpoint_name
        client = _session(self.session).client("sagemaker")
        client.delete_endpoint(EndpointName=name)
        client.delete_endpoint_config(EndpointConfigName=name)
        client.delete_model(ModelName=name)
        self.endpoint = None


def _sdk(module: str) -> Any:
    """A module of the SDK's typed resources; SettingsError where the SDK is lacking."""
    try:
        if module == "shapes":
            from sagemaker.core import shapes as found
        elif module == "resources":
            from sagemaker.core import resources as found
        else:
            from sagemaker.core import image_uris as found
    except ImportError as error:
        raise SettingsError(
            "this needs the SageMaker SDK, which wants other versions than assay: in an environment of its own, "
            "pip install 'sagemaker>=3.20' (docs/serving.md)"
        ) from error
    return found


def _session(given: Any) -> Any:
    if given is not None:
        return given
    import boto3

    return boto3.Session()


def _image(session: Any, instance_type: str, scope: str) -> str:
    found: str = _sdk("image_uris").retrieve(
        "pytorch",
        session.region_name,
        version=FRAMEWORK,
        py_version=PYTHON,
        instance_type=instance_type,
        image_scope=scope,
    )
    return found


def _channel(shapes: Any, name: str, place: str) -> Any:
    _check_s3(place)
    source = shapes.S3DataSource(s3_data_type="S3Prefix", s3_uri=place, s3_data_distribution_type="FullyReplicated")
    return shapes.Channel(channel_name=name, data_source=shapes.DataSource(s3_data_source=source), input_mode="File")


def _check_s3(place: str) -> None:
    parts = urlsplit(place)
    if parts.scheme != "s3" or not parts.netloc:
        raise DataError(f"{place!r} is no S3 address; give one like s3://bucket/folder")


def _named(stem: str) -> str:
    """A name that is not taken, of what SageMaker allows."""
    if not NAME.fullmatch(stem):
        raise DataError(f"name {stem!r}: letters, digits and single hyphens, at most 40")
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{time.time_ns() % 1000:03d}"

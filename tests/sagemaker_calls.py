"""Run in an environment with the SageMaker SDK: job and endpoint helpers against botocore's stubber."""

import datetime
import io
import json
import re

import boto3
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber
from sagemaker.core.utils.utils import SageMakerClient

from assay.errors import DataError
from assay.serve.sagemaker import SageMakerEndpoint, SageMakerTrainingJob

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Session(boto3.Session):
    """A session whose clients are kept, so that what they send can be looked at."""

    def __init__(self) -> None:
        super().__init__(region_name="eu-west-1")
        self.kept: dict = {}

    def client(self, service_name: str, *args: object, **more: object) -> object:
        if service_name not in self.kept:
            self.kept[service_name] = super().client(service_name, region_name="eu-west-1")
        return self.kept[service_name]


def described(name: str, status: str) -> dict:
    return {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/assay/output/model.tar.gz"},
        "TrainingJobStatus": status,
        "SecondaryStatus": status,
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "CreationTime": NOW,
    }


def main() -> None:
    session = Session()
    SageMakerClient(session=session, region_name="eu-west-1")
    sagemaker, s3 = session.client("sagemaker"), session.client("s3")
    runtime = session.client("sagemaker-runtime")
    seen: dict = {}

    def keep(params: dict, **_: object) -> None:
        seen.update(params)

    sagemaker.meta.events.register("provide-client-params.sagemaker.CreateTrainingJob", keep)
    with Stubber(sagemaker) as job_stub, Stubber(s3) as s3_stub:
        s3_stub.add_response("put_object", {}, None)
        arn = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/a"
        job_stub.add_response("create_training_job", {"TrainingJobArn": arn}, None)
        for _ in range(4):
            job_stub.add_response("describe_training_job", described("a", "Completed"), {"TrainingJobName": ANY})
        job = SageMakerTrainingJob(role=ROLE, bucket="bucket", session=session, instance_type="ml.m5.xlarge")
        name = job.fit("s3://bucket/train", "s3://bucket/val", hyperparameters={"class_names": "a,b", "epochs": 3})
        assert job.model_data == "s3://bucket/assay/output/model.tar.gz"
    assert re.fullmatch(r"assay-[0-9-]+", name), name
    assert seen["HyperParameters"]["class-names"] == "a,b"
    assert seen["HyperParameters"]["epochs"] == "3"
    assert seen["HyperParameters"]["sagemaker_submit_directory"].startswith("s3://bucket/assay/code/")
    assert [one["ChannelName"] for one in seen["InputDataConfig"]] == ["train", "validation"]
    assert "pytorch-training" in seen["AlgorithmSpecification"]["TrainingImage"]

    sent = []
    sagemaker.meta.events.register("provide-client-params.sagemaker.*", lambda params, **_: sent.append(params))
    endpoint = SageMakerEndpoint("s3://bucket/model.tar.gz", ROLE, session=session)
    body = StreamingBody(io.BytesIO(b'{"predictions": [{"status": "ok"}]}'), 35)
    with Stubber(sagemaker) as stub, Stubber(runtime) as runtime_stub:
        of = "arn:aws:sagemaker:eu-west-1:123456789012"
        stub.add_response("create_model", {"ModelArn": f"{of}:model/a"}, None)
        model = {"ModelName": "a", "CreationTime": NOW, "ModelArn": f"{of}:model/a"}
        stub.add_response("describe_model", model, {"ModelName": ANY})
        stub.add_response("create_endpoint_config", {"EndpointConfigArn": f"{of}:endpoint-config/a"}, None)
        variant = {"VariantName": "all", "ModelName": "a", "InitialInstanceCount": 1, "InstanceType": "ml.m5.xlarge"}
        config = {"EndpointConfigName": "a", "EndpointConfigArn": f"{of}:endpoint-config/a", "CreationTime": NOW}
        stub.add_response("describe_endpoint_config", {**config, "ProductionVariants": [variant]}, None)
        stub.add_response("create_endpoint", {"EndpointArn": f"{of}:endpoint/a"}, None)
        state = {"EndpointName": "a", "EndpointArn": f"{of}:endpoint/a", "EndpointConfigName": "a"}
        for _ in range(2):
            told = {**state, "EndpointStatus": "InService", "CreationTime": NOW, "LastModifiedTime": NOW}
            stub.add_response("describe_endpoint", told, None)
        runtime_stub.add_response("invoke_endpoint", {"Body": body, "ContentType": "application/json"}, None)
        for call in ("delete_endpoint", "delete_endpoint_config", "delete_model"):
            stub.add_response(call, {}, None)
        endpoint.deploy("ml.m5.xlarge")
        assert endpoint.predict(text="hello") == {"status": "ok"}
        endpoint.delete()
        stub.assert_no_pending_responses()
        runtime_stub.assert_no_pending_responses()
    containers = [one["PrimaryContainer"] for one in sent if "PrimaryContainer" in one]
    assert containers[0]["ModelDataUrl"] == "s3://bucket/model.tar.gz"
    assert "pytorch-inference" in containers[0]["Image"]
    for wrong in (lambda: job.fit("/data/train", hyperparameters={}), SageMakerEndpoint("http://x", ROLE).deploy):
        said = ""
        try:
            wrong()
        except DataError as error:
            said = str(error)
        assert "s3://" in said
    print(json.dumps("all calls fit"))


if __name__ == "__main__":
    main()

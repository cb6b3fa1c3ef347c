"""A small model of random weights, and `assay serve` over it in a process of its own."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import torch

from assay.config import ClassesTarget, ScoreTarget, Student
from assay.encode.extract import Extractor
from assay.student.model import StudentModel
from assay.student.trained import Trained
from assay.targets import Target
from tests import warm
from tests.test_encoders import PACKAGED

BIAS = ScoreTarget(kind="score", bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
MOODS = ClassesTarget(kind="classes", names=["positive", "neutral", "negative"])
KEY = "a-key-for-tests"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Server:
    """`assay serve` in a process of its own, `pid`, which forks from a warm one."""

    def __init__(self, home: Path, *arguments: str, keys: str | None = KEY, command: str = "serve") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        env = {**os.environ, "ASSAY_HOME": str(home)}
        env.pop("ASSAY_API_KEYS", None)
        if keys:
            env["ASSAY_API_KEYS"] = keys
        self.log = home.parent / f"serve-{self.port}.log"
        noted = home.parent / f"serve-{self.port}.pid"
        env["ASSAY_WARM_PID"] = str(noted)
        words = [str(warm.folder() / "assay"), command, "--port", str(self.port), *arguments]
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(words, env=env, stdout=file, stderr=file)
        headers = {"Authorization": f"Bearer {KEY}"} if keys else {}
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=60)
        until = time.monotonic() + 120
        while True:
            try:
                if self.http.get("/readyz").status_code == 200:
                    self.pid = int(noted.read_text())
                    return
            except httpx2.HTTPError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(self.log.read_text())
            time.sleep(0.1)

    def predict(self, **body: Any) -> httpx2.Response:
        return self.http.post("/v1/predict", json=body)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def make_model(
    folder: Path, target: Target, calibration: dict[str, Any] | None = None, student: Student = PACKAGED
) -> Path:
    """A model folder, with the packaged encoders, that answers one task of its own name by random weights."""
    name = folder.name
    facts = Extractor(student, image_px=256, cached=False).facts
    torch.manual_seed(3)
    made = StudentModel(student, {name: target}, facts["image"]["dim"], facts["text"]["dim"])
    sizes, training = {"image_px": 256, "max_images": 4}, {"best_epoch": 1}
    trained = Trained(made, name, student, {name: target}, facts, sizes, {name: calibration or {}}, {}, training)
    trained.save(folder, f"# Student `{name}`\n")
    return folder

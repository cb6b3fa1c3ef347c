"""A lab's own corpus, encoder, loss and kind of target, from a package of its own, built and installed in the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "lab-assay"
version = "1.0"
[tool.setuptools]
py-modules = ["lab", "lab_settings", "lab_generator", "lab_target"]
[project.entry-points."assay.corpora"]
diary = "lab"
[project.entry-points."assay.corpus_settings"]
diary = "lab_settings:Diary"
[project.entry-points."assay.generators"]
grey = "lab"
[project.entry-points."assay.generator_settings"]
grey = "lab_generator:Grey"
[project.entry-points."assay.image_encoders"]
brightness = "lab:brightness"
[project.entry-points."assay.losses"]
"score.absolute" = "lab:absolute"
[project.entry-points."assay.targets"]
stars = "lab_target:Stars"
[project.entry-points."assay.outputs"]
stars = "lab:StarsOutput"
"""
SETTINGS = '''
from typing import Literal

from assay.config.corpora import Corpus


class Diary(Corpus):
    """A diary: a line a post."""

    kind: Literal["diary"]
    shout: bool = False
'''
GENERATOR = '''
from typing import Literal

from assay.config.audits import Source


class Grey(Source):
    """Grey pictures."""

    kind: Literal["grey"]
    level: int = 128
'''
TARGET = """
from typing import Literal

from assay.targets.score import ScoreTarget


class Stars(ScoreTarget):
    kind: Literal["stars"]
"""
LAB = """
import io
from pathlib import Path

import torch
from PIL import Image

from assay.audit.sources.base import checked
from assay.corpora.base import Bookkeeping, RawPost, Row
from assay.encode.image_encoders import ImageEncoder
from assay.student.outputs.score import ScoreOutput


class Diary(Bookkeeping):
    images_are_known = True
    gold = ()

    def __init__(self, root, shout):
        super().__init__(root, own=["diary.txt"])
        self.shout = shout

    def rows(self):
        for number, line in enumerate((self.images / "diary.txt").read_text().splitlines(), 1):
            yield Row(f"line {number}", line)

    def parse(self, row):
        text = row.data.upper() if self.shout else row.data
        return RawPost(post_id=row.source, text=text, images=[], author=None)


def open_layout(settings, places):
    return Diary(places[0], settings.shout)


class GreyMaker:
    batch = 4

    def __init__(self, settings):
        self.level, self.identity = settings.level, {"kind": "grey", "level": settings.level}

    def make(self, requests, keep):
        for request in requests:
            out = io.BytesIO()
            Image.linear_gradient("L").point(lambda v: (v + self.level) // 2).save(out, "PNG")
            keep(request, checked(out.getvalue(), started=None, max_pixels=10**6, model="grey"))


def open_source(settings, audit):
    return GreyMaker(settings)


def brightness(settings):
    flat = torch.nn.AdaptiveAvgPool2d(1)
    half = (0.5, 0.5, 0.5)
    return ImageEncoder(flat, dim=3, identity="lab-brightness", size=32, crop=1.0, mean=half, std=half,
                        pool=lambda m, x: m(x).flatten(1), views=settings.views)


def absolute(raw, wanted, lesson):
    output = lesson.output
    return (torch.sigmoid(raw) - ((wanted - output.low) / (output.high - output.low))[:, None]).abs()


class StarsOutput(ScoreOutput):
    pass
"""
USE = """
import json, sys
from pathlib import Path
import numpy as np
import yaml
from assay import config
from assay.config import ImageBranch, Train
from assay.audit.generate import generate
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.encode.image_encoders import load_image_encoder
from assay.encode.features import Features
from assay.student.fit import fit
from assay.student.outputs import losses_of
from tests.test_student import SMALL, made
root = Path(sys.argv[1])
raw = yaml.safe_load(Path("params.yaml").read_text())
raw["corpora"]["mine"] = {"kind": "diary", "path": str(root), "shout": True}
raw["tasks"]["gender_bias"]["target"] = {"kind": "stars", "min": 1, "max": 5}
raw["tasks"]["gender_bias"]["train"]["loss"] = "auto"
raw["generators"] = {"mine": {"kind": "grey", "level": 90}}
raw["audits"]["age"] |= {"generator": "mine", "images": {"take": 5, "seeds": [1]}, "use": ["photo"]}
(root / "params.yaml").write_text(yaml.safe_dump(raw))
params = config.load(root / "params.yaml")
layout = open_corpus(params.corpora["mine"], params.demo)
counted = ingest(layout, Rules("mine", b"k", "none"), posts=root / "p", problems=root / "q.parquet")
target = params.tasks["gender_bias"].target
x = np.random.default_rng(0).normal(0, 1, (120, 3)).astype(np.float32)
yes = np.ones(120, bool)
part = made(Features(x, x, yes, yes, [""] * 120), (3 + x[:, 0].clip(-2, 2)).astype(np.float32))
train = Train(lr=0.02, epochs=20, patience=20)
parts = part.take(np.arange(90)), part.take(np.arange(90, 120))
fitted = fit(*parts, student=SMALL, targets={"t": target}, settings=train)
images = generate(params.audits["age"], params.generators["mine"], Path(params.audits["age"].activities), root / "made")
encoder = load_image_encoder(ImageBranch(encoder="plugin/brightness"))
print(json.dumps({
    "posts": counted["posts"], "kind": target.kind, "losses": list(losses_of("score")), "dim": encoder.dim,
    "images": images["ok"],
    "learns": fitted.curves[-1]["train_loss"] < fitted.curves[0]["train_loss"],
}))
"""


@pytest.mark.slow
def test_a_package_brings_its_own(tmp_path: Path) -> None:
    """In an interpreter of its own: what is installed is looked up when assay is imported."""
    source, there = tmp_path / "source", tmp_path / "there"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "lab.py").write_text(LAB)
    (source / "lab_settings.py").write_text(SETTINGS)
    (source / "lab_generator.py").write_text(GENERATOR)
    (source / "lab_target.py").write_text(TARGET)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", "--target", str(there), str(source)], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "diary.txt").write_text("a good day\na bad day\nno day at all\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(there), *sys.path])}
    done = subprocess.run([sys.executable, "-c", USE, str(corpus)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "posts": 3,
        "kind": "stars",
        "losses": ["mse", "huber", "ordinal", "absolute"],
        "dim": 3,
        "images": 20,
        "learns": True,
    }

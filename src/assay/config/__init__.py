"""params.yaml -> typed settings. Unknown keys and wrong types are errors with one line each."""

from assay.config.corpora import (
    AnyCorpus,
    Brand,
    CheckImages,
    Columns,
    Corpus,
    Demo,
    DemoCorpus,
    InstagramCorpus,
    MvsaCorpus,
    TableCorpus,
)
from assay.config.params import Params, load
from assay.config.students import Fusion, Head, ImageBranch, Student, TextBranch
from assay.config.targets import ClassesTarget, ScoreTarget, Target
from assay.config.tasks import Annotate, Infer, Report, Sample, Split, Task, Teacher, Train, ValMetric

__all__ = [
    "Annotate",
    "AnyCorpus",
    "Brand",
    "CheckImages",
    "ClassesTarget",
    "Columns",
    "Corpus",
    "Demo",
    "DemoCorpus",
    "Fusion",
    "Head",
    "ImageBranch",
    "Infer",
    "InstagramCorpus",
    "MvsaCorpus",
    "Params",
    "Report",
    "Sample",
    "ScoreTarget",
    "Split",
    "Student",
    "TableCorpus",
    "Target",
    "Task",
    "Teacher",
    "TextBranch",
    "Train",
    "ValMetric",
    "load",
]

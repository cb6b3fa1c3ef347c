"""The package as a library: posts in a pandas DataFrame, answers in another, row by row.

`rate` asks a teacher, `load_corpus` reads posts of any layout; `Predictor.predict_table` scores with a student.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from assay import config, images
from assay import text as texts
from assay.authors import author_key
from assay.columns import columns_of, files_in, text_in
from assay.config import Annotate, AnyCorpus, Demo, Sample
from assay.config.messages import one_line
from assay.corpora.ingest import ingest
from assay.corpora.layouts import open_corpus
from assay.corpora.mapper import Rules
from assay.errors import CorpusError, DataError, SettingsError
from assay.posts import read, write_table
from assay.reads import note_read
from assay.sampling import sample_schema, with_images
from assay.targets import NUMBER, AnyTarget, Target
from assay.teacher.annotate import annotate

ANSWER = ("value", "status", "reason", "distribution", "spread", "how", "model")
SPENT = ("cost_usd", "prompt_tokens", "completion_tokens")
SIGNED = ("text_sig", "image_sig")  # of the post table, of no use to people
WHOLE = Sample()


def rate(
    posts: pd.DataFrame,
    *,
    rubric: str | Path,
    target: Target | Mapping[str, Any] | None = None,
    teacher: str | Mapping[str, Any] = "demo",
    text: str | None = "text",
    image: str | None = "image",
    images_root: str | Path | None = None,
    task: str = "rate",
    **annotate_settings: Any,
) -> pd.DataFrame:
    """Ask a teacher about posts: a row each, with the index of `posts`.

    `rubric`: a file, or its text; its headings are the bands, classes or labels (docs/teacher.md). `target`: as under
    tasks in params.yaml, such as {"kind": "classes", "names": ["yes", "no"]}; default: a score from 0 to 10. `teacher`:
    a server's address, or all of its settings such as {"base_url": …, "model": …, "api_key_env": "NAME"}; demo: the
    drawn one. `text` and `image` name columns; a column that is not there counts as empty, but not both. Images are
    paths that count from `images_root` (default: here), bytes, or lists of these. Further settings are those of
    `annotate`: budget_usd, votes, mask, …

    Columns of the answer: value (null where there is none), status (ok or failed), reason, distribution (a dict for
    classes and labels), spread, how, model, cost_usd, prompt_tokens, completion_tokens; `attrs["figures"]` has sums.
    Answers are kept in the store as they arrive, by the same keys as in the pipeline: what was asked once, here or
    there, is not paid again, and a budget counts by `task`. A post that cannot be asked about has its reason.

    SettingsError for settings, columns or a rubric that do not fit; TeacherError where the server ends it for all.
    """
    goal = _target({"kind": "score", "min": 0, "max": 10} if target is None else target)
    settings = _annotate(teacher, annotate_settings)
    text, image = columns_of(posts, text, image, "rate")
    root = Path(images_root) if images_root is not None else None
    if posts.empty:
        return pd.DataFrame(index=posts.index, columns=[*ANSWER, *SPENT])
    with tempfile.TemporaryDirectory(prefix="assay-rate-") as work:
        sample = Path(work) / "sample"
        rows = list(_sampled(posts, text, image, root))
        write_table(pa.Table.from_pylist(rows, schema=sample_schema(())), sample / "part-00000.parquet")
        labels = Path(work) / "labels.parquet"
        asked = partial(annotate, sample, labels, settings=settings, target=goal, rubric=_rubric(rubric, Path(work)))
        try:
            figures = asked(task=task, committed=Path(work) / "none.parquet")
            found = pq.read_table(labels, columns=[*ANSWER, *SPENT]).to_pylist()
        except DataError as error:  # no post got a label
            figures, found = {}, [{"status": "failed", "reason": str(error)} for _ in range(len(posts))]
    answer = pd.DataFrame(found, index=posts.index, columns=[*ANSWER, *SPENT])
    if goal.shape != NUMBER:
        named = [_named(one, list(goal.groups)) for one in answer["distribution"]]
        answer["distribution"] = pd.Series(named, index=answer.index, dtype=object)
    answer.attrs["figures"] = figures
    return answer


def load_corpus(
    where: str | Path, *, params: str | Path = "params.yaml", kind: str = "table", **settings: Any
) -> pd.DataFrame:
    """The posts of a corpus: post_id, text, author (a keyed hash), created_at, brands, images (paths), gold_…

    `where`: a corpus of params.yaml, as `dvc repro` ingested it or, where it has not yet, ingested now; or the path of
    one, of a `kind` that the docs list (table, instagram, mvsa, mmhs150k, hateful_memes), with its `settings` such as
    columns={"text": "caption"} and images_root. `attrs` has `accounting` (source rows, posts, dropped, and why) and
    `problems` (a dict a row). CorpusError or SettingsError where it is not there, or not as it is said to be.
    """
    place = Path(params)
    known = config.load(place) if place.exists() and not settings else None
    if known is not None and str(where) not in known.corpora and Path(where).exists():
        known = None
    if known is not None:
        if str(where) not in known.corpora:
            raise CorpusError(f"load_corpus: no corpus or file {where}; {place} has {', '.join(known.corpora)}")
        corpus, demo, name = known.corpora[str(where)], known.demo, str(where)
        ingested = place.parent / "data" / "corpora" / name
        if (ingested / "posts").is_dir():
            return _frame(ingested / "posts", ingested / "problems.parquet", name, {})
    else:
        corpus, demo, name = _corpus({"kind": kind, "path": str(where)} | settings), Demo(), Path(where).stem
    with tempfile.TemporaryDirectory(prefix="assay-corpus-") as work:
        rules = Rules(name, author_key(), corpus.check_images, corpus.max_pixels, corpus.shard_posts)
        out, problems = Path(work) / "posts", Path(work) / "problems.parquet"
        return _frame(out, problems, name, ingest(open_corpus(corpus, demo), rules, posts=out, problems=problems))


def _frame(posts: Path, problems: Path, name: str, accounting: dict[str, Any]) -> pd.DataFrame:
    table = read(posts)
    found: pd.DataFrame = table.select([one for one in table.column_names if one not in SIGNED]).to_pandas()
    found.attrs |= {"accounting": accounting, "problems": pq.read_table(problems).to_pylist()}
    note_read("load_corpus", name, len(found))
    return found


def _sampled(posts: pd.DataFrame, text: str | None, image: str | None, root: Path | None) -> Iterator[dict[str, Any]]:
    """Rows of the sample table; what cannot be read of a post is among its `lost`."""
    nothing = dict.fromkeys(sample_schema(()).names)
    for i in range(len(posts)):
        data, lost = files_in(posts[image].iloc[i], root) if image is not None else ([], [])
        body = texts.normalise(text_in(posts[text].iloc[i])) if text is not None else ""
        row = nothing | {"post_id": str(i), "text": body, "brands": [], "inclusion_p": 1.0, "stratum": "all"}
        yield with_images(row, data[: WHOLE.max_images], lost, WHOLE, images.MAX_PIXELS)


def _named(distribution: Any, names: list[str]) -> dict[str, float] | None:
    if not isinstance(distribution, list | np.ndarray) or len(distribution) != len(names):
        return None
    return dict(zip(names, map(float, distribution), strict=True))


def _target(given: Target | Mapping[str, Any] | str) -> Target:
    told = {"kind": given} if isinstance(given, str) else given
    found: Target = _checked(AnyTarget, dict(told), "target") if isinstance(told, Mapping) else told
    return found


def _corpus(given: dict[str, Any]) -> AnyCorpus:
    found: AnyCorpus = _checked(AnyCorpus, given, "corpus")
    return found


def _annotate(teacher: str | Mapping[str, Any], more: dict[str, Any]) -> Annotate:
    told = {"base_url": teacher} if isinstance(teacher, str) else dict(teacher)
    found: Annotate = _checked(Annotate, {"from": "teacher", "teacher": told} | more, "annotate")
    return found


def _checked(kind: Any, given: dict[str, Any], what: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        raise SettingsError(f"{what}: {one_line(error, given, Annotate).lstrip(chr(46))}") from None


def _rubric(rubric: str | Path, work: Path) -> Path:
    """A file of the rubric: what is given, or its text written down."""
    if isinstance(rubric, Path) or ("\n" not in rubric and not rubric.lstrip().startswith("#")):
        return Path(rubric)  # one line is no rubric, unless it is a heading
    path = work / "rubric.md"
    path.write_text(rubric, encoding="utf-8")
    return path

"""What estimates are made from: predictions of all posts, labels of some and how these came to be, joined by id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.errors import DataError
from assay.measure import domains as groups
from assay.measure.domains import Domains
from assay.measure.estimate import Design, Joint, Of, estimate, whole_trust
from assay.measure.found import Estimate
from assay.measure.metrics import Figure
from assay.targets import Target

CODES = ["post_id", "people", "people_p"]  # what people said of a post, and its chance to be coded once labelled
WORDS = {
    "these_posts": "these posts: what the labels would say, were every post of this corpus labelled",
    "posts_like_these": "posts like these: what the labels would say of more posts by authors like these",
}


@dataclass(frozen=True)
class Estimates:
    """Named estimates, whose errors are known together."""

    names: list[str]
    joint: Joint

    def figure(self, number: int, *, plain: bool = False) -> Figure:
        """An estimate with its interval; nan where too little is known. `plain`: from the labels alone."""
        low, high = self._plain_bounds if plain else self._bounds
        value = (self.joint.plain if plain else self.joint.value)[number]
        known = np.isfinite(low[number])
        return Figure(float(value) if known else np.nan, float(low[number]), float(high[number]))

    def rows(self) -> list[Estimate]:
        """One dict an estimate: name, posts, labels, value, low, high, and the same of the labels alone."""
        found = []
        for i, name in enumerate(self.names):
            own, plain = self.figure(i).rounded(), self.figure(i, plain=True).rounded()
            posts, labels = int(self.joint.posts[i]), int(self.joint.labels[i])
            told = Estimate(name=name, posts=posts, labels=labels, **own, labels_alone=plain, gain=self.gain(i))
            found.append(told)
        return found

    def gain(self, number: int) -> float | None:
        """How many times as many labels would say as much without the student; None where that is not known."""
        own, plain = float(self.joint.variance[number]), float(self.joint.plain_variance[number])
        return round(plain / own, 2) if self.joint.known[number] and own > 0 else None

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.joint.interval()

    @cached_property
    def _plain_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.joint.interval(plain=True)


class Frame:
    """The posts of one task with what is known of them, and estimates over any groups of them.

    `posts` (post_id and what to group by; `author` for posts like these), `predictions` as infer writes them, `labels`
    as annotate does (post_id, status, value, inclusion_p), `codes` where people coded (CODES), `design` (post_id,
    stratum, and of labelled posts `group`, `split` and `held_out_p`; see `design_of`). `task` is the target of the
    task, `target` whom the figures are about.
    DataError where posts and predictions are not the same, a labelled post is in neither, or a chance is not in (0, 1].
    """

    def __init__(
        self,
        posts: pa.Table,
        predictions: pa.Table,
        labels: pa.Table,
        design: pa.Table,
        *,
        task: Target,
        target: Of = "these_posts",
        codes: pa.Table | None = None,
    ) -> None:
        if target not in WORDS:
            raise DataError(f"target {target!r} is unknown; allowed: {', '.join(WORDS)}")
        self.task, self.of = task, target
        scored = np.asarray(predictions["value"].is_valid())
        self.predictions = predictions.filter(pa.array(scored))
        ids = self.predictions["post_id"].combine_chunks()
        at = pc.index_in(ids, value_set=posts["post_id"].combine_chunks())
        if at.null_count:
            lost = ids.filter(pc.is_null(at))[0].as_py()
            raise DataError(f"post {lost} has a prediction, but is not in the corpus; run `dvc repro`")
        self.posts = posts.take(at)
        self._labels = _labelled(labels, design, ids)
        self.codes = codes
        self._groups: dict[str, Domains] = {}
        self._frames: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.design = self._design()

    @property
    def n(self) -> int:
        """How many posts are scored."""
        return int(self.posts.num_rows)

    @cached_property
    def said(self) -> list[Any]:
        """What the student says of each scored post, in the order of the predictions."""
        return list(self.predictions["value"].to_pylist())

    def of_groups(self, estimand: str, by: str | None = None) -> Estimates:
        """Any estimand by the groups of a column, or of all posts."""
        return self.over(estimand, self.groups(by) if by else groups.everyone(self.n))

    def groups(self, by: str) -> Domains:
        """The groups of a column."""
        if by not in self._groups:
            self._groups[by] = groups.by_column(self.posts, by)
        return self._groups[by]

    def over(self, estimand: str, domains: Domains) -> Estimates:
        """Any estimand over groups of the scored posts."""
        y, f, learnt = self.frame(estimand)
        joint = estimate(
            self.design,
            domains.members,
            y,
            f,
            are_shares=self.task.is_share(estimand),
            bounds=(0.0, 1.0) if self.task.is_share(estimand) else self.task.bounds,
            trust=self.trust(estimand),
            learnt=learnt if self.design.learnt is not None else None,
        )
        return Estimates(domains.names, joint)

    def frame(self, estimand: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels [m], predictions [n], and the labels of posts that were learnt from [n]."""
        if estimand not in self._frames:
            known, values = self._labels, self._labels["value"]
            observed = self.task.observed(values.tolist(), estimand)
            learnt = np.zeros(self.n)
            learnt[known["row"][known["learnt"]]] = observed[known["learnt"]]
            found = observed[~known["learnt"]], self.task.expected(self.predictions, estimand), learnt
            self._frames[estimand] = found
        return self._frames[estimand]

    def trust(self, estimand: str) -> float:
        """Lambda of an estimand over all posts."""
        y, f, _ = self.frame(estimand)
        return whole_trust(self.design, y, f) if len(y) > 1 else 0.0

    def labelled_ids(self) -> list[str]:
        """The ids of the posts whose labels correct, in the order of the design's rows."""
        ids = self.predictions["post_id"].combine_chunks()
        return list(ids.take(pa.array(self.design.rows)).to_pylist())

    def units(self) -> list[str]:
        """What chance takes or leaves, one name a column of a Joint's influence: posts, or the first post of each
        cluster.
        """
        if not self.design.is_clustered:
            return self.labelled_ids()
        ids = self.predictions["post_id"].combine_chunks()
        return list(ids.take(pa.array(np.unique(self.design.cluster, return_index=True)[1])).to_pylist())

    def _design(self) -> Design:
        known = self._labels
        free = ~known["learnt"]
        learnt = None
        if not free.all():
            learnt = np.zeros(self.n, dtype=bool)
            learnt[known["row"][~free]] = True
        cluster = np.arange(self.n)
        if learnt is not None:
            cluster[known["row"]] = self.n + known["group"]
        if self.of == "posts_like_these":
            cluster = self._clusters(known["row"], known["group"])
        stratum = np.unique(known["stratum"][free].astype(str), return_inverse=True)[1]
        cluster = np.unique(cluster, return_inverse=True)[1]
        return Design(self.n, known["row"][free], known["weight"][free], stratum, cluster, self.of, learnt)

    def _clusters(self, rows: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Posts that vary together: those of one author, or of one leakage group among the labelled."""
        if "author" not in self.posts.column_names:
            raise DataError("posts like these are known by their authors; read the posts' column author as well")
        encoded = pc.dictionary_encode(self.posts["author"].combine_chunks())
        codes = np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int64)
        alone = codes < 0
        codes[alone] = len(encoded.dictionary) + np.arange(int(alone.sum()))
        for number in np.unique(group[group >= 0]):  # an author may stand in one leakage group only
            mine = rows[group == number]
            if len(np.unique(codes[mine])) > 1:
                codes[np.isin(codes, codes[mine])] = codes[mine[0]]
        return np.unique(codes, return_inverse=True)[1]


def _labelled(labels: pa.Table, design: pa.Table, ids: pa.Array) -> dict[str, np.ndarray]:
    """Of scored posts with a label: row, value, weight, stratum, leakage group, and whether they were learnt from.

    Posts that were sampled and got no label make those of their stratum weigh more, as if they were like these.
    """
    sampled = {row["post_id"]: row for row in design.to_pylist()}
    rows = labels.select(["post_id", "status", "value", "inclusion_p"]).to_pylist()
    wrong = next((r for r in rows if not (r["inclusion_p"] is not None and 0 < r["inclusion_p"] <= 1)), None)
    if wrong:
        raise DataError(
            f"post {wrong['post_id']}: inclusion_p is {wrong['inclusion_p']}, must be above 0 and at most 1"
        )
    lost = next((row for row in rows if row["post_id"] not in sampled), None)
    if lost:
        raise DataError(f"post {lost['post_id']} is labelled, but not in the sample; run `dvc repro`")
    stratum = np.array([str(sampled[row["post_id"]]["stratum"]) for row in rows], dtype=object)
    is_ok = np.array([row["status"] == "ok" for row in rows], dtype=bool)
    rate = {name: is_ok[stratum == name].mean() for name in np.unique(stratum.astype(str))} if len(rows) else {}
    place = np.asarray(pc.fill_null(pc.index_in(pa.array([r["post_id"] for r in rows], ids.type), value_set=ids), -1))
    kept = np.flatnonzero(is_ok & (place >= 0)) if len(rows) else np.zeros(0, dtype=int)
    drawn = [sampled[rows[i]["post_id"]] for i in kept]
    p = np.array([rows[i]["inclusion_p"] * rate[stratum[i]] for i in kept], dtype=float)
    held = np.array([one.get("held_out_p") if one.get("held_out_p") is not None else 1.0 for one in drawn], dtype=float)
    learnt = np.array([bool(one.get("learnt")) for one in drawn], dtype=bool)
    if not learnt.any():
        held = np.ones(len(kept))
    return {
        "row": place[kept].astype(np.int64),
        "value": np.array([rows[i]["value"] for i in kept] + [None], dtype=object)[:-1],
        "weight": (1 - p * (1 - held)) / (p * held),
        "stratum": stratum[kept] if len(rows) else np.zeros(0, dtype=object),
        "group": np.array([-1 if one.get("group") is None else one["group"] for one in drawn], dtype=np.int64),
        "learnt": learnt,
    }


def design_of(sample: pa.Table, split: pa.Table, predictions: pa.Table) -> pa.Table:
    """The design table: of sampled posts (post_id, stratum) the leakage group, the chance to be held out, and whether
    the student that predicts a post learnt from it.

    A student of cross-fitting says of each labelled post what it would say had it never seen it (predictions have a
    fold): nothing was learnt from. Without folds, train and val were.
    """
    where = {row["post_id"]: row for row in split.to_pylist()}
    crossed = predictions["fold"].null_count < predictions.num_rows if "fold" in predictions.column_names else False
    found = []
    for row in sample.select(["post_id", "stratum"]).to_pylist():
        own = where.get(row["post_id"])
        learnt = own is not None and own["split"] in ("train", "val") and not crossed
        group, chance = (None, None) if own is None else (own["group"], own["held_out_p"])
        found.append(row | {"group": group, "held_out_p": None if crossed else chance, "learnt": learnt})
    return pa.Table.from_pylist(found, schema=DESIGN)


DESIGN = pa.schema(
    [
        ("post_id", pa.string()),
        ("stratum", pa.string()),
        ("group", pa.int64()),
        ("held_out_p", pa.float64()),
        ("learnt", pa.bool_()),
    ]
)

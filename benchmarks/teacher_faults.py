"""How annotation copes with a bad server: rate caps, faults, kills, two processes, and what it costs itself.

    python benchmarks/teacher_faults.py            # some 6 minutes on two cores
    python benchmarks/teacher_faults.py --quick    # one

Each part runs the whole annotate stage's work in processes of its own, against servers on loopback:
`llmock` for its verdict on a client's manners, benchmarks/faulty_server.py for what it cannot do. The
last line is JSON: posts, answered, failed_with_status, lost and asked_twice are of the part with faults (posts
without a row in the labels table; questions answered in full more than once), kills and answers_lost of
the part with kills (answers in the store at a kill that were asked again), rate_ratio is the lowest share of a capped
server's rate after warm-up, cpu_ms_per_request the client's own CPU time, peak_mib the largest
resident memory over the largest number of posts, growth_mib by how much that exceeds a tenth of these posts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa

from assay.config import Annotate, ScoreTarget, Teacher
from assay.posts import write_table
from assay.sampling import sample_schema
from assay.teacher.annotate import annotate

HERE = Path(__file__).parent
TARGET = ScoreTarget(kind="score", bands=[3.5, 6.5], band_names=["low", "moderate", "high"])
RUBRIC = HERE.parent / "rubrics" / "gender_bias.md"


def write_posts(folder: Path, count: int) -> Path:
    """A sample of posts with text alone, in shards of 1,000."""
    empty = dict.fromkeys(("brands", "images", "image_hashes", "image_sig", "lost"), ())
    for start in range(0, count, 1000):
        rows = [
            {"post_id": f"p{i}", "text": f"caption number {i} of some length, as captions are", **empty}
            | {"inclusion_p": 1.0, "stratum": "all"}
            for i in range(start, min(start + 1000, count))
        ]
        table = pa.Table.from_pylist(rows, schema=sample_schema([]))
        write_table(table, folder / f"part-{start // 1000:05}.parquet")
    return folder


def settings(url: str, **teacher: Any) -> Annotate:
    more = teacher.pop("annotate", {})
    known = {"from": "teacher", "max_failed_share": 1.0, "distribution": "none"} | more
    return Annotate.model_validate(known | {"teacher": Teacher(**({"base_url": url, "model": "m"} | teacher))})


class Run:
    """A process that annotates a sample; its figures are its last line."""

    def __init__(self, sample: Path, home: Path, url: str, **teacher: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.out = home, home / f"labels-{time.monotonic_ns()}.parquet"
        command = [sys.executable, __file__, "--child", str(sample), str(self.out), url, json.dumps(teacher)]
        env = os.environ | {"ASSAY_HOME": str(home)}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def figures(self, timeout: float = 900) -> dict[str, Any]:
        out, error = self.process.communicate(timeout=timeout)
        if self.process.returncode:
            raise SystemExit(f"a run failed: {error.decode()[-800:]}")
        found: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
        return found


def child(sample: str, out: str, url: str, teacher: str) -> None:
    before = time.process_time()
    found = annotate(
        Path(sample), Path(out), settings=settings(url, **json.loads(teacher)), target=TARGET, rubric=RUBRIC
    )
    found["cpu_s"] = time.process_time() - before
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


class Server:
    """A server in a process of its own."""

    def __init__(self, *arguments: str, script: str = "faulty_server.py") -> None:
        command = [sys.executable, str(HERE / script), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stats(self) -> dict[str, Any]:
        return _json(f"{self.url}/stats")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Llmock:
    """llmock as its command line starts it."""

    def __init__(self, *arguments: str) -> None:
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("llmock")), "serve", "--port", str(port), "--log-level", "error"]
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                _json(f"{self.url}/_llmock/requests?limit=1")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("llmock did not start")

    def verdict(self) -> dict[str, Any]:
        return _json(f"{self.url}/_llmock/verdict")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def _json(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=60) as response:
        found: dict[str, Any] = json.load(response)
    return found


def answered_at(home: Path) -> list[float]:
    """When each answer came, in order."""
    with sqlite3.connect(home / "answers.sqlite") as db:
        return sorted(row[0] for row in db.execute("SELECT answered_at FROM answers"))


def capped(work: Path, posts: int, rate: float, *, tell: bool) -> dict[str, float]:
    """The rate that is reached at a server that takes `rate` a second, after a fifth of the posts."""
    server = Server("--rate", str(rate), "--delay", "0.05", *(["--tell"] if tell else []))
    home = work / f"home-{rate}-{tell}"
    sample = write_posts(work / f"posts-{posts}", posts)
    Run(sample, home, f"{server.url}/v1", concurrency=32, retries=9).figures()
    refused = server.stats()["outcomes"].get("over_the_cap", 0)
    server.stop()
    times = answered_at(home)
    warm = times[len(times) // 5 :]
    reached = (len(warm) - 1) / (warm[-1] - warm[0])
    return {"rate_ratio": round(reached / rate, 3), "refused_share": round(refused / (refused + posts), 3)}


def faults(work: Path, posts: int) -> dict[str, Any]:
    """All faults at once, in front of an llmock that refuses too and judges the client."""
    llmock = Llmock("--error-rate", "429=0.025", "--error-rate", "500=0.015")
    server = Server(
        *("--upstream", llmock.url, "--fail-429", "0.025", "--fail-500", "0.015"),
        *("--hang", "0.01", "--cut", "0.01", "--malformed", "0.02"),
    )
    sample, home = write_posts(work / f"posts-{posts}", posts), work / "home-faults"
    found = Run(sample, home, f"{server.url}/v1", concurrency=32, retries=8, timeout_s=3.0).figures()
    stats, verdict = server.stats(), llmock.verdict()
    server.stop()
    llmock.stop()
    return {
        "posts": posts,
        "answered": found["answered"],
        "failed_with_status": found["failed"]["total"],
        "lost": posts - found["answered"] - found["failed"]["total"],
        "asked_twice": sum(count > 1 for count in stats["delivered"].values()),
        "injected": {k: v for k, v in sorted(stats["outcomes"].items()) if k != "answered"},
        "llmock_verdict": "passed" if verdict["passed"] else [f["title"] for f in verdict["findings"]][:5],
        "llmock_faults": verdict["faults_injected"],
    }


def habits(work: Path, posts: int) -> dict[str, Any]:
    """Habits of real services, a price on each answer and a budget: what is lost, paid twice, frozen or misbooked."""
    price = 0.001
    server = Server(
        *("--error-200", "0.05", "--choice-error", "0.05", "--empty", "0.03", "--fail-429", "0.03"),
        *("--habits", "--modern", "--price", str(price)),
    )
    sample, home = write_posts(work / f"posts-{posts}", posts), work / "home-habits"
    asked = {"concurrency": 16, "retries": 8, "annotate": {"budget_usd": 2 * price * posts}}
    first = Run(sample, home, f"{server.url}/v1", **asked).figures()
    second = Run(sample, home, f"{server.url}/v1", **asked).figures()
    stats = server.stats()
    server.stop()
    with sqlite3.connect(home / "answers.sqlite") as db:
        booked = float(db.execute("SELECT COALESCE(SUM(usd), 0) FROM spent").fetchone()[0])
        frozen = int(db.execute("SELECT COUNT(*) FROM answers WHERE status <> 'ok'").fetchone()[0])
    return {
        "habits_posts": posts,
        "habits_answered": [first["answered"], second["answered"]],
        "habits_lost": posts - second["answered"],
        "habits_paid_twice": sum(count > 1 for count in stats["delivered"].values()),
        "habits_frozen": frozen,
        "habits_charged_usd": round(stats["charged"], 4),
        "habits_misbooked_usd": round(booked - stats["charged"], 4),
        "habits_injected": {k: v for k, v in sorted(stats["outcomes"].items()) if k != "answered"},
    }


def kills(work: Path, posts: int, count: int) -> dict[str, Any]:
    """kill -9 at random moments; what stood in the store then must never be asked again."""
    server = Server("--delay", "0.05")
    sample, home = write_posts(work / f"posts-{posts}", posts), work / "home-kills"
    draw, stored = random.Random(2), set()
    for number in range(count):
        run = Run(sample, home, f"{server.url}/v1", concurrency=16)
        while sum(server.stats()["delivered"].values()) < (number + draw.random()) * posts / (count + 1):
            time.sleep(0.01)
            if run.process.poll() is not None:
                break
        run.process.kill()
        run.process.wait()
        with sqlite3.connect(home / "answers.sqlite") as db:
            stored = {row[0] for row in db.execute("SELECT question FROM answers")}
    figures = Run(sample, home, f"{server.url}/v1", concurrency=16).figures()
    stats = server.stats()
    server.stop()
    again = sum(stats["seen"].values()) - posts
    lost = posts - figures["answered"] + figures["asked"] - (posts - len(stored))
    return {
        "kills": count,
        "answers_lost": lost,
        "asked_again": again,
        "in_flight_at_kills": count * 16,
        "kept_at_last_kill": len(stored),
    }


def two_processes(work: Path, posts: int) -> dict[str, Any]:
    """Two runs at once over the same posts."""
    server = Server("--delay", "0.02")
    sample, home = write_posts(work / f"posts-{posts}", posts), work / "home-two"
    runs = [Run(sample, home, f"{server.url}/v1", concurrency=8) for _ in range(2)]
    found = [run.figures() for run in runs]
    seen = server.stats()["seen"]
    server.stop()
    return {
        "shared": [one["asked"] for one in found],
        "shared_asked_twice": sum(count > 1 for count in seen.values())
        + sum(one["answered"] != posts for one in found),
    }


def cost(work: Path, posts: int) -> dict[str, float]:
    """CPU time and memory of the client, over many posts and over a tenth of them."""
    found = []
    for count in (posts // 10, posts):
        server = Server()
        sample = write_posts(work / f"posts-{count}", count)
        found.append(Run(sample, work / f"home-cost-{count}", f"{server.url}/v1", concurrency=16).figures())
        server.stop()
    few, many = found
    return {
        "cpu_ms_per_request": round((many["cpu_s"] - few["cpu_s"]) / (many["asked"] - few["asked"]) * 1000, 2),
        "peak_mib": round(many["peak_mib"], 1),
        "growth_mib": round(many["peak_mib"] - few["peak_mib"], 1),
        "cost_posts": posts,
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the posts")
    parser.add_argument("--only", help="parts to run, as a pattern: capped, faults, habits, kills, two, cost")
    args = parser.parse_args()
    part = 10 if args.quick else 1
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="assay-teacher-") as folder:
        work = Path(folder)

        def wanted(name: str) -> bool:
            return not args.only or re.search(args.only, name) is not None

        if wanted("capped"):
            rates = {
                f"{rate:g}/s, {'told' if tell else 'not told'}": capped(
                    work, int(40 * rate / (3 if args.quick else 1)), rate, tell=tell
                )
                for rate, tell in ((20.0, True), (20.0, False), (60.0, True), (60.0, False))
            }
            found |= {"rates": rates, "rate_ratio": min(one["rate_ratio"] for one in rates.values())}
        if wanted("faults"):
            found |= faults(work, 2000 // part)
        if wanted("habits"):
            found |= habits(work, 2000 // part)
        if wanted("kills"):
            found |= kills(work, 2000 // part, 10 // (3 if args.quick else 1))
        if wanted("two"):
            found |= two_processes(work, 1000 // part)
        if wanted("cost"):
            found |= cost(work, 20_000 // part)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

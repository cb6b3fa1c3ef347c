"""From a spreadsheet of posts to a report: how many commands, how much YAML, how long?

    python benchmarks/first_hour.py [--posts 600] [--keep FOLDER]

Draws a table as a new user has one (semicolons, columns of other names, dd/mm/yyyy, a fifth of the pictures missing)
and a teacher on loopback that rates how formal a caption is by its words, and then does what the README says: the
commands below, each as it would be typed, in a new folder with an empty ASSAY_HOME. Prints one JSON object as its last
line: `commands`, `yaml_lines_written` (by hand), `seconds` (of each command and together), `ok` (the report is there,
every post is accounted for, dates were read, and the student knows more than a constant).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from assay.errors import run_main

FORMAL = ["we hereby announce", "kindly note that", "it is our pleasure to present", "dear customers, regarding"]
CASUAL = ["lol check out", "omg so into", "hey folks, grab", "gonna love", "cant even with"]
THINGS = ["the new autumn menu", "this jacket", "our annual meeting", "a walk by the river", "the new office", "my dog"]
WORDS = (
    "river blue window late summer paper green door music small train coffee yellow garden morning quiet bread stone "
    "market rain bicycle light harbour letter winter orange street tall mountain shoe dinner lamp ticket cloud silver"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=600)
    parser.add_argument("--keep", type=Path, help="work here, and leave it behind")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-first-hour-") as work:
        print(json.dumps(first_hour(args.keep or Path(work), args.posts)))


def first_hour(work: Path, posts: int) -> dict[str, Any]:
    """Run the commands; the figures of the last line."""
    work.mkdir(parents=True, exist_ok=True)
    draw_table(work, posts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    asked = ["--question", "How formal is this post?", "--scale", "0-10", "--teacher", url, "--model", "loopback"]
    init = ["assay", "init", "study", "--task", "formality", "--csv", "posts.csv", *asked, "--yes"]
    typed: list[tuple[list[str], Path]] = [
        (init, work),
        (["assay", "check"], work / "study"),
        (["dvc", "repro"], work / "study"),
    ]
    env = os.environ | {"ASSAY_HOME": str(work / "home"), "DVC_NO_ANALYTICS": "1"}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    seconds: dict[str, float] = {}
    for command, folder in typed:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, env=env, check=True, stdout=sys.stderr)
        seconds[" ".join(command[:2])] = round(time.perf_counter() - began, 1)
    server.shutdown()
    told = outcome(work / "study", posts)
    return {
        "commands": len(typed) + 1,  # cd
        "yaml_lines_written": 0,
        "seconds": round(sum(seconds.values()), 1),
        "seconds_each": seconds,
        "ok": all(told["checks"].values()),
        **told,
    }


def draw_table(work: Path, posts: int) -> None:
    """posts.csv and fotos/ below `work`."""
    rng = random.Random(3)
    (work / "fotos").mkdir(exist_ok=True)
    with open(work / "posts.csv", "w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Nr", "Benutzer", "Posted on", "Caption text", "photo"])
        for i in range(posts):
            start = rng.choice(FORMAL if rng.random() < 0.5 else CASUAL)
            name = f"p{i}.jpg"
            if i % 5:
                out = io.BytesIO()
                coarse = Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3))  # no two alike
                coarse.resize((96, 72)).save(out, "JPEG")
                (work / "fotos" / name).write_bytes(out.getvalue())
            day = f"{rng.randrange(1, 29):02d}/{rng.randrange(1, 13):02d}/2024"
            text = f"{start} {rng.choice(THINGS)}, {' '.join(rng.sample(WORDS.split(), 7))}"
            writer.writerow([1000 + i, f"user{rng.randrange(150)}", day, text, name])


class Teacher(BaseHTTPRequestHandler):
    """Rates captions: formal words are worth 8, casual ones 2, with some noise by the caption's own length."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a chat completion."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = json.dumps(request["messages"][-1]).lower()
        score = 8.0 if any(word in text for word in FORMAL) else 2.0 if any(word in text for word in CASUAL) else 5.0
        score += len(text) % 3 / 2 - 0.5
        answer = json.dumps({"reason": "by its words", "score": score})
        found = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }  # fmt: skip
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def outcome(folder: Path, posts: int) -> dict[str, Any]:
    """What stands in the project afterwards."""
    accounting = json.loads((folder / "metrics/corpora/posts.json").read_text())
    figures = json.loads((folder / "metrics/formality/evaluate.json").read_text())
    report = folder / "metrics/formality/report.html"
    findings = json.loads((folder / "metrics/formality/findings.json").read_text())
    checks = {
        "report": report.exists() and report.stat().st_size > 20_000,
        "accounted": accounting["source_rows"] == posts == accounting["posts"] + accounting["dropped"]["total"],
        "dates": "2024-" in json.dumps(findings),
        "student": figures["mae"]["value"] < 1.5,
    }
    return {"checks": checks, "mae": figures["mae"], "report_kib": report.stat().st_size // 1024}


if __name__ == "__main__":
    run_main(main)

"""What `assay serve` bears: saturation, twice that load, batching against one by one, memory over many requests.

    python benchmarks/serve.py --model models/sentiment [--data FOLDER_OF_PICTURES] [--requests 50000]
    assay export models/sentiment --graph deployed
    python benchmarks/serve.py --model models/sentiment --deployed deployed      # against single precision and PyTorch

Starts real servers in processes of their own and sends them posts of text and picture over loopback, from this
process, on an open schedule (a request is sent when it is due, whether or not the one before was answered). The last
line is JSON: `errors_5xx` (other than refusals with 503 and Retry-After), `p99_ms` of accepted requests at twice the
load that saturates, `batching_ratio` (throughput with batches over throughput one by one, same load), `growth_mib`
of the server's memory from the tenth of the requests to the end. Load generator and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
from tqdm import tqdm

from assay import images
from assay.corpora.demo import ensure_drawn
from assay.errors import ImageProblem

KEY = "a-key-for-the-benchmark"


class Server:
    """One `assay serve`."""

    def __init__(self, model: Path, *arguments: str, source: Path | None = None, runtime: str = "auto") -> None:
        """`source`: another checkout, whose code serves; `runtime`: ASSAY_RUNTIME."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "assay", "serve", "--model", str(model), "--port", str(port), "--no-page"]
        env = {**os.environ, "ASSAY_API_KEYS": KEY, "ASSAY_RUNTIME": runtime} | (
            {"PYTHONPATH": str(source / "src")} if source else {}
        )
        self.process = subprocess.Popen([*command, *arguments], env=env, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if httpx2.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx2.HTTPError:
                time.sleep(0.2)
        raise SystemExit("the server did not start")

    def memory_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@dataclass
class Told:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted_ms: list[float] = field(default_factory=list)
    no_retry_after: int = 0
    broken: int = 0

    def p(self, share: float) -> float:
        ordered = sorted(self.accepted_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def bodies(folder: Path | None, count: int) -> list[bytes]:
    """Requests of one post each: pictures of a folder with a caption each, or drawn posts."""
    if folder is None:
        folder = Path(tempfile.gettempdir()) / "assay-serve-benchmark"
        ensure_drawn(folder, posts=200, seed=5)
    found: list[bytes] = []
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        if len(found) == count:
            break
        try:
            packed = images.pack(path.read_bytes(), longest=512, max_pixels=images.MAX_PIXELS).data
        except ImageProblem:  # corpora have broken ones
            continue
        text = f"a day like number {number}, and so grateful for all of you out there"
        found.append(json.dumps({"text": text, "image": base64.b64encode(packed).decode()}).encode())
    if not found:
        raise SystemExit(f"{folder}: no .jpg in it")
    return found


async def one(client: httpx2.AsyncClient, body: bytes, told: Told) -> None:
    started = time.perf_counter()
    try:
        answer = await client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    except httpx2.HTTPError:
        told.broken += 1
        return
    told.statuses[answer.status_code] += 1
    if answer.status_code == 200:
        told.accepted_ms.append(1000 * (time.perf_counter() - started))
    elif "retry-after" not in answer.headers:
        told.no_retry_after += 1


def client(url: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=2000)
    return httpx2.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, limits=limits, timeout=120)


async def closed(
    url: str, sent: list[bytes], *, workers: int, seconds: float = 0, requests: int = 0
) -> tuple[Told, float]:
    """So many clients, each of which asks again as soon as it was answered; requests a second."""
    told, started, left = Told(), time.perf_counter(), requests
    chance = random.Random(3)

    async def work(http: httpx2.AsyncClient) -> None:
        nonlocal left
        while (time.perf_counter() - started < seconds) if seconds else left > 0:
            left -= 1
            await one(http, chance.choice(sent), told)

    async with client(url) as http:
        await asyncio.gather(*(work(http) for _ in range(workers)))
    return told, told.statuses[200] / (time.perf_counter() - started)


async def open_load(url: str, sent: list[bytes], *, rate: float, seconds: float) -> Told:
    """Requests when they are due, whether or not others were answered."""
    told, tasks, chance = Told(), set[asyncio.Task[None]](), random.Random(4)
    async with client(url) as http:
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            task = asyncio.create_task(one(http, chance.choice(sent), told))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return told


def batching(model: Path, sent: list[bytes], seconds: float) -> tuple[float, list[float], list[float]]:
    """Throughput as the server comes over that of one post at a time, 64 clients; rounds by turns."""
    patient = ("--max-wait-s", "60")  # nothing is refused here
    batched, single = (
        Server(model, *patient),
        Server(model, *patient, "--batch", "1", "--wait-ms", "0", "--workers", "1"),
    )
    return ratio_of(batched, single, sent, seconds)


def against(model: Path, sent: list[bytes], seconds: float, source: Path) -> tuple[float, list[float], list[float]]:
    """Throughput over that of another checkout's server, 64 clients; rounds by turns."""
    patient = ("--max-wait-s", "60")
    return ratio_of(Server(model, *patient), Server(model, *patient, source=source), sent, seconds)


def runtimes(model: Path, deployed: Path, sent: list[bytes], seconds: float) -> dict[str, list[float]]:
    """Throughputs of a student to deploy, of the student in single precision and in PyTorch, 64 clients, by turns."""
    patient = ("--max-wait-s", "60")
    servers = [Server(deployed, *patient), Server(model, *patient), Server(model, *patient, runtime="torch")]
    return dict(zip(("deployed", "single_precision", "torch"), by_turns(servers, sent, seconds), strict=True))


def ratio_of(
    first: Server, second: Server, sent: list[bytes], seconds: float
) -> tuple[float, list[float], list[float]]:
    """The ratio of two servers' median throughputs, and the rates of each; both are stopped."""
    one, other = by_turns([first, second], sent, seconds)
    return statistics.median(one) / statistics.median(other), one, other


def by_turns(servers: list[Server], sent: list[bytes], seconds: float) -> list[list[float]]:
    """The throughputs of servers, three rounds by turns; all are stopped."""
    rates: list[list[float]] = [[] for _ in servers]
    try:
        for server in servers:
            asyncio.run(closed(server.url, sent, workers=8, seconds=2))
        for _ in range(3):
            for server, found in zip(servers, rates, strict=True):
                found.append(asyncio.run(closed(server.url, sent, workers=64, seconds=seconds))[1])
    finally:
        for server in servers:
            server.stop()
    return rates


def overload(model: Path, sent: list[bytes], seconds: float) -> tuple[Told, float]:
    """Twice the rate that saturates, for a while."""
    server = Server(model)
    try:
        asyncio.run(closed(server.url, sent, workers=8, seconds=2))
        _, rate = asyncio.run(closed(server.url, sent, workers=64, seconds=seconds))
        told = asyncio.run(open_load(server.url, sent, rate=2 * rate, seconds=seconds))
        if httpx2.get(f"{server.url}/healthz").status_code != 200:
            raise SystemExit("the server is gone")
        return told, rate
    finally:
        server.stop()


def growth(model: Path, sent: list[bytes], requests: int) -> tuple[float, list[float], Told]:
    """MiB that the server grew by between a tenth of the requests and the last; one in ten has a picture."""
    server, seen, total = Server(model), list[float](), Told()
    bare = [json.dumps({"text": json.loads(body)["text"]}).encode() for body in sent]
    sent = [body if number % 10 == 0 else bare[number] for number, body in enumerate(sent)]  # a tenth has a picture
    part = max(1, requests // 50)
    try:
        for _ in tqdm(range(50), desc="memory", unit="part", disable=None):
            told, _ = asyncio.run(closed(server.url, sent, workers=48, requests=part))
            total.statuses.update(told.statuses)
            seen.append(server.memory_mib())
        settled = statistics.median(seen[4:8])
        return statistics.median(seen[-4:]) - settled, seen, total
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="a folder of .jpg pictures; drawn ones without it")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--requests", type=int, default=50_000, help="of the memory test")
    parser.add_argument(
        "--against", type=Path, help="only compare with the server of this checkout of an earlier version"
    )
    parser.add_argument("--deployed", type=Path, help="only compare the server of this folder with that of --model")
    args = parser.parse_args()
    os.environ.setdefault("ASSAY_HOME", tempfile.mkdtemp(prefix="assay-benchmark-"))
    sent = bodies(args.data, 200)
    size = statistics.median(len(body) for body in sent) / 1024
    print(
        f"{len(sent)} posts of text and picture, median body {size:.0f} KiB; {os.cpu_count()} cores shared", flush=True
    )
    if args.deployed:
        rates = runtimes(args.model, args.deployed, sent, args.seconds)
        middle = {name: statistics.median(found) for name, found in rates.items()}
        ratios = {f"{name}_ratio": round(value / middle["torch"], 2) for name, value in middle.items()}
        print(json.dumps({name: round(value, 1) for name, value in middle.items()} | ratios | {"rounds": rates}))
        return
    if args.against:
        ratio, own, other = against(args.model, sent, args.seconds, args.against)
        print(json.dumps({"ratio": round(ratio, 2), "requests_per_s": own, "of_the_other": other}))
        return
    ratio, many, few = batching(args.model, sent, args.seconds)
    shown = [f"{statistics.median(rates):.0f} ({', '.join(f'{r:.0f}' for r in rates)})" for rates in (many, few)]
    print(f"batching: {shown[0]} requests a second with batches, {shown[1]} one by one, ratio {ratio:.2f}", flush=True)
    told, rate = overload(args.model, sent, args.seconds)
    refused = told.statuses[429] + told.statuses[503]
    print(f"overload: saturated at {rate:.0f} a second; at twice that {dict(told.statuses)}, {told.broken} broken,")
    times = f"median {told.p(0.5):.0f} ms, p99 {told.p(0.99):.0f} ms"
    print(f"  {told.no_retry_after} refusals without Retry-After; accepted: {times}", flush=True)
    grown, seen, total = growth(args.model, sent, args.requests)
    print(f"memory: {' '.join(f'{value:.0f}' for value in seen[::5])} MiB over {sum(total.statuses.values())} requests")
    errors = sum(n for code, n in (told.statuses + total.statuses).items() if code >= 500) - refused
    errors += told.statuses[429] + told.no_retry_after + told.broken
    print(
        json.dumps(
            {
                "errors_5xx": errors,
                "p99_ms": round(told.p(0.99), 1),
                "batching_ratio": round(ratio, 2),
                "growth_mib": round(grown, 1),
                "saturation_per_s": round(rate, 1),
                "refused_share": round(refused / max(1, sum(told.statuses.values())), 3),
            }
        )
    )


if __name__ == "__main__":
    main()

"""A chat server on loopback with faults to order, for benchmarks: caps, refusals, hung and cut connections, bad JSON.

    python benchmarks/faulty_server.py --rate 50 --fail-429 0.05 --hang 0.01

Beside these it has habits of real services: errors and breakdowns inside a 200, answers of nothing, thoughts before
the answer, figures as text, refused fields (--modern). With --price it tells a cost, and sums up what it took.
Prints its address as the first line. With --upstream it passes what it does not spoil on to another server.
GET /stats tells how often each question came and was answered in full; POST /reset forgets it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from typing import Any

import httpx2

FAULTS = ("fail_429", "fail_500", "hang", "cut", "malformed", "error_200", "choice_error", "empty")


class Server:
    """What came, what was answered, and how much more may be answered now."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.random = args, random.Random(args.seed)
        self.seen: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.charged = 0.0
        self.level, self.updated = 1.0, time.monotonic()
        self.upstream = httpx2.AsyncClient(base_url=args.upstream, timeout=60) if args.upstream else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split("\r\n", 1)[0].split(" ")
                names = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                size = next((int(v) for k, v in names.items() if k.lower() == "content-length"), 0)
                body = await reader.readexactly(size) if size else b""
                if method == "GET":
                    await self.write(writer, 200, json.dumps(self.stats()).encode())
                elif path == "/reset":
                    self.seen, self.delivered, self.outcomes = Counter(), Counter(), Counter()
                    await self.write(writer, 200, b"{}")
                elif not await self.answer(writer, body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        """Answer or spoil one question; False where the connection is to be cut."""
        request = json.loads(body)
        key = hashlib.sha256(json.dumps(request["messages"][:2]).encode()).hexdigest()
        self.seen[key] += 1
        if self.args.modern and ("max_tokens" in request or request.get("temperature", 1) != 1):
            field = "max_tokens" if "max_tokens" in request else "temperature"
            self.outcomes["refused_field"] += 1
            said = {"message": f"Unsupported parameter: {field!r}. Use 'max_completion_tokens' or the default."}
            await self.write(writer, 400, json.dumps({"error": said | {"param": field}}).encode())
            return True
        draw, share = self.random.random(), 0.0
        for name in FAULTS:
            share += getattr(self.args, name)
            if draw < share:
                self.outcomes[name] += 1
                return await self.spoil(writer, name, request)
        if self.args.rate and not self.allowed():
            self.outcomes["over_the_cap"] += 1
            wait = (1 - self.level) / self.args.rate
            headers = {"Retry-After": f"{wait:.3f}"} if self.args.tell else {}
            await self.write(writer, 429, b'{"error": {"message": "rate limit"}}', headers)
            return True
        if self.args.delay:
            await asyncio.sleep(self.args.delay)
        if self.upstream is not None:
            passed = await self.upstream.post(
                "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
            )
            kept = {name: passed.headers[name] for name in ("retry-after",) if name in passed.headers}
            await self.write(writer, passed.status_code, passed.content, kept)
            good = passed.status_code == 200
        else:
            self.charged += self.args.price
            await self.write(writer, 200, json.dumps(self.dressed(completion(request))).encode())
            good = True
        if good:
            self.delivered[key] += 1
            self.outcomes["answered"] += 1
        return True

    def dressed(self, found: dict[str, Any]) -> dict[str, Any]:
        """An answer with its price, now and then with a thought before it or with figures as text."""
        if self.args.price:
            found["usage"]["cost"] = self.args.price
        message = found["choices"][0]["message"]
        dress = self.random.random() if self.args.habits else 1.0
        if dress < 0.1:
            message["content"] = f"so, {{maybe}} a five</think>\n{message['content']}"
        elif dress < 0.2:
            message["content"] = f"```json\n{message['content']}\n```\nA plain post."
        elif dress < 0.3:
            found["usage"] = {name: str(value) for name, value in found["usage"].items()}
        return found

    async def spoil(self, writer: asyncio.StreamWriter, name: str, request: dict[str, Any]) -> bool:
        if name in ("fail_429", "fail_500"):
            headers = {"Retry-After": "0.2"} if name == "fail_429" else {}
            await self.write(writer, int(name[-3:]), b'{"error": {"message": "ordered"}}', headers)
        elif name == "error_200":
            error = {"error": {"code": 502, "message": "Provider returned error"}, "user_id": "u"}
            await self.write(writer, 200, json.dumps(error).encode())
        elif name in ("choice_error", "empty"):
            found = completion(request)
            choice = found["choices"][0]
            choice["message"]["content"] = None
            if name == "choice_error":  # a breakdown costs nothing
                choice |= {"finish_reason": "error", "error": {"code": 503, "message": "Provider overloaded"}}
                found["usage"]["cost"] = 0
            else:  # nothing at all, and it is charged
                self.charged += self.args.price
                found["usage"]["cost"] = self.args.price
            await self.write(writer, 200, json.dumps(found).encode())
        elif name == "hang":
            await asyncio.sleep(600)
        elif name == "cut":
            data = json.dumps(completion(request)).encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
            await writer.drain()
            return False
        elif self.random.random() < 0.5:
            await self.write(writer, 200, b'{"choices": [{"message"')
        else:
            found = completion(request)
            found["choices"][0]["message"]["content"] = '{"reason": "x", "sco'
            await self.write(writer, 200, json.dumps(found).encode())
        return True

    def allowed(self) -> bool:
        """Take one from a bucket that fills at `rate` a second and holds a tenth of a second of it, at least 1."""
        now = time.monotonic()
        self.level = min(max(1.0, self.args.rate / 10), self.level + (now - self.updated) * self.args.rate)
        self.updated = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    async def write(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    def stats(self) -> dict[str, Any]:
        return {"seen": self.seen, "delivered": self.delivered, "outcomes": self.outcomes, "charged": self.charged}


def completion(request: dict[str, Any]) -> dict[str, Any]:
    """A valid answer to a score question."""
    text = '{"reason": "benchmark", "score": 5}'
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


async def run(args: argparse.Namespace) -> None:
    server = Server(args)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", args.port)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    async with listening:
        await listening.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="answers a second at most; more get 429. 0: no cap")
    parser.add_argument("--tell", action="store_true", help="say Retry-After with these")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    for name in FAULTS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0, help="share of the requests")
    parser.add_argument("--habits", action="store_true", help="thoughts, code blocks and figures as text")
    parser.add_argument("--modern", action="store_true", help="refuse max_tokens and any temperature but 1")
    parser.add_argument("--price", type=float, default=0.0, help="US dollars of an answer, told with it")
    parser.add_argument("--upstream", help="the address of the server that answers")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Many clients at once for a while, some of them bad: none may harm the server or each other.

Usage: soak_test.py SECONDS CLIENTS COMMAND...     COMMAND starts a server that prints "listening on http://..."

Well-behaved clients stream answers in every dialect; each must end with the final event of its dialect and say what the
same request was answered with while the server was quiet, or be told that the server is busy. Others leave in the
middle, send nonsense, or read a few bytes now and then. At the end the server must still answer, must not have grown
since the first third of the time but by what it keeps of prompts on purpose, and must stop when it is told to.
"""
import asyncio
import collections
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import time

PATIENCE = 300
# What an allocator keeps back in its pools varies; a leak of 1 kB a request would be more.
GROWTH_BYTES = 24 << 20
QUESTIONS = ["say hello", "count", "think first", "the weather in both"]


def body_of(dialect, question):
    """(path, body, text of the final event) of a streamed request."""
    messages = [{"role": "user", "content": question}]
    common = {"model": "m", "stream": True, "temperature": 0}
    if dialect == "chat":
        return "/v1/chat/completions", {**common, "messages": messages, "max_tokens": 24}, "data: [DONE]"
    if dialect == "completions":
        return "/v1/completions", {**common, "prompt": question, "max_tokens": 24}, "data: [DONE]"
    if dialect == "llama":
        return "/completion", {**common, "prompt": question, "n_predict": 24}, '"stop":true'
    if dialect == "messages":
        return "/v1/messages", {**common, "messages": messages, "max_tokens": 24}, '"message_stop"'
    return "/v1/responses", {**common, "input": question, "max_output_tokens": 24}, '"response.'


DIALECTS = ["chat", "completions", "llama", "messages", "responses"]


def said(text):
    """The model's words in a stream of whatever dialect."""
    out = ""
    for line in text.splitlines():
        if not line.startswith("data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("choices"):
            choice = event["choices"][0]
            delta = choice.get("delta", {})
            out += choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                out += call["function"].get("arguments") or ""
        elif "content" in event and "stop" in event:
            out += event["content"]
        elif isinstance(event.get("delta"), str):
            out += event["delta"]
        elif event.get("type") == "content_block_delta":
            out += "".join(str(v) for k, v in event["delta"].items() if k in ("text", "thinking", "partial_json"))
    return out


class Soak:
    def __init__(self, port):
        self.port = port
        self.quiet = {}
        self.counts = collections.Counter()
        self.problems = []

    async def open(self, path, body):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                     % (path.encode(), len(data)) + data)
        return reader, writer

    async def ask(self, dialect, question, piece_bytes=1 << 16, pause=0.0):
        """(status, text with the chunks of the transfer taken out)"""
        path, body, _ = body_of(dialect, question)
        reader, writer = await self.open(path, body)
        try:
            raw = b""
            while part := await asyncio.wait_for(reader.read(piece_bytes), PATIENCE):
                raw += part
                if pause:
                    await asyncio.sleep(pause)
        finally:
            writer.close()
        head, _, rest = raw.partition(b"\r\n\r\n")
        text = b""
        while b"chunked" in head and rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size, 16)
            text, rest = text + rest[:n], rest[n + 2:]
        return int(head.split()[1]), (text or rest).decode()

    async def good(self, rng, slow):
        dialect, question = rng.choice(DIALECTS), rng.choice(QUESTIONS)
        kind = "slow" if slow else "good"
        status, text = await self.ask(dialect, question, *((200, 0.02) if slow else ()))
        if status == 503:
            self.counts["busy"] += 1
            await asyncio.sleep(0.1)
            return
        final = body_of(dialect, question)[2]
        last = text.strip().rsplit("\n\n", 1)[-1]
        if status != 200 or final not in last:
            self.problems.append(f"{dialect}: status {status}, last event {last[-200:]!r}")
        elif said(text) != self.quiet[dialect, question]:
            self.problems.append(f"{dialect}: {said(text)!r}, quiet {self.quiet[dialect, question]!r}")
        self.counts[kind] += 1

    async def leave(self, rng):
        path, body, _ = body_of(rng.choice(DIALECTS), rng.choice(QUESTIONS + ["hang"]))
        reader, writer = await self.open(path, {**body, "ignore_eos": True})
        if rng.random() < 0.7:
            await asyncio.wait_for(reader.read(rng.choice([1, 100, 1000])), PATIENCE)
        writer.transport.abort() if rng.random() < 0.5 else writer.close()
        self.counts["left"] += 1

    async def nonsense(self, rng):
        path = rng.choice([body_of(d, "")[0] for d in DIALECTS] + ["/tokenize", "/nothing"])
        body = rng.choice([b"{", b"[" * 5000, b'{"messages": 5, "prompt": {}, "input": 7}', b"\xff" * 100, b"null",
                           rng.randbytes(300)])
        reader, writer = await self.open(path, body)
        answer = await asyncio.wait_for(reader.read(64), PATIENCE)
        if not re.match(rb"HTTP/1.1 (4\d\d|503) ", answer):
            self.problems.append(f"nonsense for {path} was answered {answer!r}")
        writer.close()
        self.counts["nonsense"] += 1

    async def client(self, seed, end):
        rng = random.Random(seed)
        while time.monotonic() < end and len(self.problems) < 10:
            what = rng.random()
            try:
                if what < 0.6:
                    await self.good(rng, slow=False)
                elif what < 0.7:
                    await self.good(rng, slow=True)
                elif what < 0.85:
                    await self.leave(rng)
                else:
                    await self.nonsense(rng)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.problems.append(f"connection: {error!r}")
            except asyncio.TimeoutError:
                self.problems.append("no answer in time")

    async def run(self, seconds, clients, memory):
        for dialect in DIALECTS:
            for question in QUESTIONS:
                status, text = await self.ask(dialect, question)
                assert status == 200, text
                self.quiet[dialect, question] = said(text)
        end = time.monotonic() + seconds
        tasks = [asyncio.create_task(self.client(seed, end)) for seed in range(clients)]
        await asyncio.sleep(seconds / 3)
        early = memory()
        await asyncio.gather(*tasks)
        grown = memory() - early
        if grown > GROWTH_BYTES:
            self.problems.append(f"the server has grown by {grown >> 20} MiB since the first third")
        status, text = await self.ask("chat", "count")
        if status != 200 or said(text) != self.quiet["chat", "count"]:
            self.problems.append(f"at the end: status {status}, {text[-200:]!r}")
        return grown


def main():
    seconds, clients, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = int(re.search(r":(\d+)\n", server.stdout.readline()).group(1))

        def get(path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request("GET", path)
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            return response.status, text

        def memory():
            """Resident bytes but for what is kept of prompts: that grows to its limit, sooner on a faster machine."""
            kept = re.findall(r"^packmule:(?:checkpoint|kv_cache_used)_bytes (\S+)$", get("/metrics")[1], re.M)
            with open(f"/proc/{server.pid}/statm") as file:
                return int(file.read().split()[1]) * 4096 - int(sum(map(float, kept)))

        while get("/health")[0] != 200:
            assert server.poll() is None, "the server ended while loading"
            time.sleep(0.1)
        soak = Soak(port)
        grown = asyncio.run(soak.run(seconds, clients, memory))
        server.send_signal(signal.SIGTERM)
        code = server.wait(PATIENCE)
    finally:
        server.kill()
    print(f"soak: {dict(soak.counts)}, grown by {grown / 2**20:.1f} MiB")
    for problem in soak.problems:
        print("soak:", problem)
    if code != 0:
        print(f"soak: exit code {code}")
    if not all(soak.counts[kind] for kind in ("good", "slow", "left", "nonsense")):
        print("soak: some kind of client did not get its turn")
        return 1
    return 1 if soak.problems or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main())

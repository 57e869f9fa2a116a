"""What the tests of `packmule serve` share: the real program on a tiny model, seen from a client, over real sockets.

Only the standard library is used, only the loopback address is spoken to, and ports are ones the system chose. The
model's weights are random: what it says is noise, but the same noise for the same seed.
"""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PACKMULE = MODEL = None  # set by main()
# Machines that build several things at once are slow; nothing here waits this long unless it hangs.
PATIENCE = 60
# A context that an answer which never ends by itself does not fill while a test looks away, however long that is.
ENDLESS = "200000"

TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}[{% for k, v in c.function.arguments|items %}{{ k }}={{ v }};{% endfor %}]{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if tools %}tools:{{ tools | tojson }}
{% endif %}{% if messages[0].content == 'bad' %}{{ raise_exception('this conversation is bad') }}{% endif %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}"""


class Server:
    running = []

    def __init__(self, *flags, env=None, wait=True, tls=None):
        """`tls`: the context to speak to it with; none for plain HTTP."""
        Server.running.append(self)
        self.tls = tls
        self.log_file = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [PACKMULE, "serve", "-m", MODEL, "--port", "0", *flags],
            stdout=subprocess.PIPE, stderr=self.log_file, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on https?://127\.0\.0\.1:(\d+)\n", line)
        if match is None:
            self.process.wait(PATIENCE)
            raise AssertionError(f"unexpected first line {line!r}; log: {self.log()}")
        self.port = int(match.group(1))
        if wait:
            end = time.monotonic() + PATIENCE
            while self.get("/health")[0] != 200:
                assert time.monotonic() < end, "the model did not load"
                time.sleep(0.02)

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read().decode()

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body text)"""
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def get(self, path, headers=None):
        status, _, text = self.request("GET", path, headers=headers)
        return status, json.loads(text)

    def post(self, path, body, headers=None):
        status, _, text = self.request("POST", path, body, headers)
        return status, json.loads(text)

    def chat(self, content="hello", **fields):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "seed": 1, **fields}
        return self.post("/v1/chat/completions", body)

    def stream(self, content="hello", **fields):
        """The events of a streamed answer, [DONE] checked and left out."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "seed": 1, "stream": True, **fields}
        status, headers, text = self.request("POST", "/v1/chat/completions", body)
        assert status == 200, text
        assert headers["Content-Type"] == "text/event-stream", headers
        events = text.split("\n\n")
        assert events.pop() == "" and events.pop() == "data: [DONE]", text[-200:]
        for event in events:
            assert event.startswith("data: ") and "\n" not in event, event
        return [json.loads(event[6:]) for event in events]

    def open_stream(self, **fields):
        """A socket on which a long answer has begun to arrive."""
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "stream": True, "ignore_eos": True,
                           **fields}).encode()
        s = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        if self.tls:
            s = self.tls.wrap_socket(s, server_hostname="127.0.0.1")
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        got = b""
        while b"data: " not in got:
            part = s.recv(4096)
            assert part, got
            got += part
        return s

    def stop(self, number=signal.SIGTERM):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.end()

    def end(self):
        """Leaves no process behind, whatever the test found."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self in Server.running:
            Server.running.remove(self)


def has_lavapipe():
    """Whether the processor can pose as the graphics device Vulkan0 here."""
    return "Vulkan0: llvmpipe" in subprocess.run([PACKMULE, "--list-devices"], capture_output=True, text=True,
                                                 timeout=PATIENCE).stdout


def refused(*flags):
    """The code and the words with which the program ends at once."""
    run = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", "0", *flags], capture_output=True, text=True,
                         timeout=PATIENCE)
    return run.returncode, run.stderr


def end_all():
    for server in list(Server.running):
        server.end()


class ServerTest(unittest.TestCase):
    """On one server, which is started as a user of llama-server would type it."""

    @classmethod
    def setUpClass(cls):
        cls.template = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.template.write(TEMPLATE)
        cls.template.flush()
        cls.server = Server("--host", "127.0.0.1", "-c", "512", "-t", "2", "-b", "256", "-ub", "64", "-ctk", "f16",
                            "-ctv", "f16", "--temp", "0.9", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01",
                            "--repeat-penalty", "1.05", "--presence-penalty", "0.1", "-s", "7", "--jinja",
                            "--flash-attn", "on", "--no-webui", "-np", "4", "-cb", "-cram", "100", "--alias", "tiny",
                            "-to", "60", "--request-timeout", "600", "--chat-template-file", cls.template.name)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        log = cls.server.log()
        cls.template.close()
        cls.server.log_file.close()
        assert code == 0, f"exit code {code}: {log}"
        assert "hello" not in log, "the log holds text of a prompt"


def main():
    """serve_x_test.py PACKMULE MODEL.gguf [unittest arguments]"""
    global PACKMULE, MODEL
    PACKMULE, MODEL = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)

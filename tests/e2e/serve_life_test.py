#!/usr/bin/env python3
"""Starting with what flags, stopping in the middle of what."""
import signal
import subprocess
import time
import unittest

import serving
from serving import ENDLESS, PATIENCE, Server, end_all, has_lavapipe, refused

# Flags of llama-server as people publish them.
PUBLISHED = [["--ctx-size", "2048", "--jinja", "--flash-attn", "1", "-ngl", "99", "-ctk", "q4_1", "-ctv", "q4_1",
              "-ot", r"\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU",
              "-b", "16384", "-ub", "1024", "--no-webui", "-np", "1", *sampling]
             for sampling in (["--temp", "1.0", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01",
                               "--repeat-penalty", "1.0"],
                              ["--temp", "0.7", "--top-k", "20", "--top-p", "0.8", "--min-p", "0.0"])]


class LifeTest(unittest.TestCase):
    def tearDown(self):
        end_all()

    def test_slots_say_who_is_answered(self):
        server = Server("-c", ENDLESS)
        self.assertFalse(any(slot["is_processing"] for slot in server.get("/slots")[1]))
        stream = server.open_stream()
        self.assertTrue(any(slot["is_processing"] for slot in server.get("/slots")[1]))
        stream.close()
        self.assertEqual(server.stop(), 0)

    def test_stops_in_the_middle_of_an_answer(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Server("-c", ENDLESS)
            stream = server.open_stream()
            server.process.send_signal(number)
            time.sleep(0.3)  # two signals at the same moment are one
            server.process.send_signal(number)  # at once
            with stream:
                got = b""
                while part := stream.recv(65536):
                    got += part
            self.assertEqual(server.process.wait(PATIENCE), 0, server.log())
            self.assertIn(b"cancelled", got)

    def test_a_port_in_use_and_a_missing_model(self):
        server = Server(wait=False)
        second = subprocess.run([serving.PACKMULE, "serve", "-m", serving.MODEL, "--port", str(server.port)], capture_output=True,
                                text=True, timeout=PATIENCE)
        self.assertEqual(second.returncode, 1)
        self.assertIn("in use", second.stderr)
        self.assertEqual(server.stop(), 0)
        missing = subprocess.run([serving.PACKMULE, "serve", "-m", "/nonexistent.gguf", "--port", "0"], capture_output=True,
                                 text=True, timeout=PATIENCE)
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stderr, r"packmule: error: .*/nonexistent\.gguf")

    def test_commands_of_llama_server(self):
        """Two commands as people publish them, with packmule's name in front."""
        for flags in PUBLISHED:
            server = Server(*flags)
            status, answer = server.chat(max_tokens=5)
            self.assertEqual(status, 200, answer)
            self.assertEqual(server.stop(), 0)
            self.assertIn("-ngl has no effect", server.log())

    def test_commands_of_llama_server_on_a_device(self):
        """The same, on the processor posing as a graphics device where there is one."""
        if not has_lavapipe():
            self.skipTest("no lavapipe here")
        for flags in PUBLISHED:
            server = Server(*flags, "--device", "Vulkan0")
            status, answer = server.chat(max_tokens=5)
            self.assertEqual(status, 200, answer)
            again, second = server.chat(max_tokens=5)
            self.assertEqual(again, 200, second)
            self.assertEqual(server.stop(), 0)
            self.assertRegex(server.log(), r"Vulkan0: llvmpipe.*; there: [0-9.]+ MB of weights")
            self.assertNotIn("no effect", server.log())
        # A rule that matches in a model of four layers, so that both sides compute; and one without room.
        server = Server("--device", "Vulkan0", "-ngl", "99", "-c", "512", "-np", "2", "-ub", "64",
                        "-ot", r"\.ffn_(up|down)_exps.=CPU")
        self.assertEqual(server.chat(max_tokens=5)[0], 200)
        self.assertEqual(server.stop(), 0)
        code, words = refused("--device", "Vulkan0", "-ngl", "99", "--device-memory", "1M")
        self.assertEqual(code, 1, words)
        self.assertRegex(words, r"error: .*does not fit, nothing was loaded: GPU0 needs")

    def test_wrong_flags(self):
        for flags in (["--port", "65536"], ["--temp", "warm"], ["--frob"], ["-ot", "exps=CUDA0"],
                      ["--request-timeout", "-1"], ["--timeout", "0"]):
            code, words = refused(*flags)
            self.assertEqual(code, 2, words)


if __name__ == "__main__":
    serving.main()

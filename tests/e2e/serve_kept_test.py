#!/usr/bin/env python3
"""What outlives a request, and a server."""
import concurrent.futures
import json
import os
import re
import signal
import tempfile
import unittest

from serving import PATIENCE, Server, end_all, has_lavapipe, main, refused


class KeptTest(unittest.TestCase):
    """What outlives a server. Counted in tokens."""

    MESSAGES = [{"role": "system", "content": "a long system prompt " * 12}, {"role": "user", "content": "a question"}]

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        end_all()
        self.folder.cleanup()

    def start(self, *flags):
        return Server("-c", "1024", "-t", "2", "-np", "2", "-cram", "100", *flags)

    def ask(self, server, messages=None, **fields):
        status, answer = server.post("/v1/chat/completions", {"messages": messages or self.MESSAGES, "max_tokens": 8,
                                                              "seed": 1, "ignore_eos": True, **fields})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"], answer["timings"]

    def test_slots_saved_and_restored(self):
        flags = ["--slot-save-path", self.folder.name]
        server = self.start(*flags)
        first, timings = self.ask(server)
        self.assertEqual(timings["cache_n"], 0)
        status, saved = server.post("/slots/0?action=save", {"filename": "a slot.bin"})
        self.assertEqual(status, 200, saved)
        path = os.path.join(self.folder.name, "a slot.bin")
        self.assertEqual((saved["id_slot"], saved["filename"], saved["n_written"]), (0, "a slot.bin", os.path.getsize(path)))
        self.assertGreaterEqual(saved["n_saved"], timings["prompt_n"])
        self.assertIn("save_ms", saved["timings"])
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(server.stop(), 0)

        server = self.start(*flags)
        status, restored = server.post("/slots/1?action=restore", {"filename": "a slot.bin"})
        self.assertEqual(status, 200, restored)
        self.assertEqual((restored["id_slot"], restored["n_restored"], restored["n_read"]),
                         (1, saved["n_saved"], saved["n_written"]))
        self.assertIn("restore_ms", restored["timings"])
        again, timings = self.ask(server)
        self.assertLessEqual(timings["prompt_n"], 1)
        self.assertEqual(again, first)
        status, erased = server.post("/slots/1?action=erase", None)
        self.assertEqual((status, erased["id_slot"]), (200, 1))
        self.assertGreater(erased["n_erased"], 0)

        for target, body in (("/slots/0?action=save", {"filename": "../x"}), ("/slots/9?action=erase", {}),
                             ("/slots/0?action=copy", {}), ("/slots/1?action=save", {"filename": "empty"}),
                             ("/slots/0?action=restore", {"filename": "missing"})):
            status, answer = server.post(target, body)
            self.assertEqual(status, 400, target)
            self.assertNotIn(self.folder.name, answer["error"]["message"])
        with open(path, "r+b") as file:
            file.truncate(1000)
        status, answer = server.post("/slots/0?action=restore", {"filename": "a slot.bin"})
        self.assertEqual(status, 400)
        self.assertIn("damaged", answer["error"]["message"])
        self.assertEqual(os.listdir(self.folder.name), ["a slot.bin"])
        self.assertEqual(server.stop(), 0)

    def test_without_a_folder_for_slots(self):
        server = self.start()
        status, answer = server.post("/slots/0?action=erase", {})
        self.assertEqual(status, 501)
        self.assertIn("--slot-save-path", answer["error"]["message"])
        self.assertEqual(server.stop(), 0)
        code, words = refused("--slot-save-path", "/nonexistent")
        self.assertEqual(code, 1)
        self.assertIn("--slot-save-path", words)

    def test_the_cache_is_there_after_a_restart(self):
        disk = os.path.join(self.folder.name, "disk")
        flags = ["--cache-disk", disk, "--cache-disk-size", "100"]
        server = self.start(*flags)
        first, timings = self.ask(server)
        n_prompt = timings["prompt_n"]
        # One that is being answered when the signal comes is kept too.
        stream = server.open_stream(messages=self.MESSAGES[:1] + [{"role": "user", "content": "another"}])
        server.process.send_signal(signal.SIGTERM)
        stream.close()
        self.assertEqual(server.process.wait(PATIENCE), 0, server.log())
        files = [f for f in os.listdir(disk) if f.endswith(".kv")]
        self.assertGreaterEqual(len(files), 3, server.log())
        for file in files:
            self.assertEqual(os.stat(os.path.join(disk, file)).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(disk).st_mode & 0o777, 0o700)

        server = self.start(*flags)
        again, timings = self.ask(server)
        self.assertLessEqual(timings["prompt_n"], 1)
        self.assertEqual(again, first)
        other = self.MESSAGES[:1] + [{"role": "user", "content": "one more"}]
        self.assertLess(self.ask(server, other)[1]["prompt_n"], 40, "the system prompt was read again")
        metrics = server.request("GET", "/metrics")[2]
        hits = float(re.search(r"^packmule:disk_cache_hit_tokens_total (\S+)$", metrics, re.M).group(1))
        self.assertGreaterEqual(hits, n_prompt)
        second = self.start("--cache-disk", disk)
        self.assertEqual(self.ask(second)[0], first)
        self.assertIn("in use by another process", second.log())
        self.assertEqual(second.stop(), 0)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("question", server.log())

        # Damaged files cost time, no more.
        for file in os.listdir(disk):
            path = os.path.join(disk, file)
            if file.endswith(".kv"):
                os.truncate(path, os.path.getsize(path) - 1)
        server = self.start(*flags)
        again, timings = self.ask(server)
        self.assertEqual((again, timings["prompt_n"]), (first, n_prompt))
        self.assertIn("damaged", server.log())
        self.assertEqual(server.stop(), 0)

    def test_conversations_on_a_device_in_files(self):
        """Written from one side's memory, gone on from on the other."""
        if not has_lavapipe():
            self.skipTest("no lavapipe here")
        disk, slots = os.path.join(self.folder.name, "disk"), os.path.join(self.folder.name, "slots")
        os.mkdir(slots)
        device = ["--device", "Vulkan0", "-ngl", "99", "--slot-save-path", slots]
        server = self.start("--cache-disk", disk, *device)
        first, timings = self.ask(server)
        status, saved = server.post("/slots/0?action=save", {"filename": "slot"})
        self.assertEqual(status, 200, saved)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("going on without it", server.log())
        self.assertGreaterEqual(len([f for f in os.listdir(disk) if f.endswith(".kv")]), 2, server.log())

        server = self.start("--cache-disk", disk, *device)
        again, timings = self.ask(server)
        self.assertLessEqual(timings["prompt_n"], 1)
        self.assertEqual(again, first)
        self.assertEqual(server.stop(), 0)
        for where in (["--no-kv-offload", *device], ["--device", "none", "--slot-save-path", slots]):
            server = self.start(*where)
            status, restored = server.post("/slots/1?action=restore", {"filename": "slot"})
            self.assertEqual((status, restored.get("n_restored")), (200, saved["n_saved"]), restored)
            self.assertLessEqual(self.ask(server)[1]["prompt_n"], 1)
            self.assertEqual(server.stop(), 0)

    def test_progress_and_timings_in_streams(self):
        server = self.start("-ub", "64")
        body = {"messages": self.MESSAGES, "max_tokens": 4, "ignore_eos": True, "stream": True, "return_progress": True,
                "timings_per_token": True}
        for cached in (False, True):
            text = server.request("POST", "/v1/chat/completions", body)[2]
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            progress = [e["prompt_progress"] for e in events if "prompt_progress" in e]
            processed = [p["processed"] for p in progress]
            self.assertEqual(processed, sorted(processed))
            self.assertEqual(processed[-1], progress[-1]["total"])
            self.assertEqual(len(progress) > 1, not cached, progress)
            self.assertEqual(progress[0]["cache"], progress[0]["total"] if cached else 0)
            timings = [e["timings"] for e in events if "timings" in e]
            self.assertEqual(timings[-1]["predicted_n"], 4)
            self.assertGreater(len(timings), 1)
        self.assertEqual(server.stop(), 0)

    def test_identical_prompts_at_once_are_read_once(self):
        server = self.start()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ask(server), range(4)))
        n_prompt = answers[0][1]["prompt_n"] + answers[0][1]["cache_n"]
        self.assertEqual(sum(timings["prompt_n"] for _, timings in answers), n_prompt)
        self.assertEqual(len({message["content"] for message, _ in answers}), 1)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    main()

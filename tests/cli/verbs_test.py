"""The program as a person meets it: exit codes, what goes to stdout and stderr, pipes and a pseudo-terminal.

Usage: verbs_test.py PACKMULE DATA_FOLDER [unittest arguments]
"""

import fcntl
import glob
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

PACKMULE = sys.argv.pop(1)
DATA = os.environ.get("PACKMULE_TEST_DATA") or sys.argv[1]
del sys.argv[1]
MODELS = sorted(glob.glob(os.path.join(DATA, "golden", "*.gguf")), key=os.path.getsize)
MODEL = MODELS[0] if MODELS else ""
# What follows a cleared line that is no progress; the text is noise and may hold line ends anywhere.
SOME_OF_THE_ANSWER = r"\r\x1b\[K(?!\rreading)[\s\S]{8}"
PATIENCE_S = 60  # most that one step may take on a machine that is busy with other things


def run(*arguments, stdin=b""):
    done = subprocess.run([PACKMULE, *arguments], input=stdin, capture_output=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout, done.stderr.decode()


class OneLineErrors(unittest.TestCase):
    def check(self, arguments, code, words):
        with self.subTest(" ".join(arguments)):
            exit_code, out, err = run(*arguments)
            self.assertEqual(exit_code, code, err)
            self.assertEqual(out, b"")
            self.assertTrue(err.startswith("packmule: error: "), err)
            self.assertEqual(err.count("\n"), 1, err)
            for word in words:
                self.assertIn(word, err)

    def test_wrong_flags(self):
        for verb in ("run", "bench"):
            self.check([verb, "--frob"], 2, ["--frob", f"packmule {verb} --help"])
            self.check([verb], 2, ["--model"])
            self.check([verb, "-m", MODEL, "-ctk", "q9"], 2, ["--cache-type-k", "q9"])
            self.check([verb, "-m", MODEL, "-ngl", "many"], 2, ["--n-gpu-layers", "many"])
        self.check(["run", "-m", MODEL, "-np", "0"], 2, ["--parallel"])
        self.check(["run", "-m", MODEL, "--top-p", "2"], 2, ["--top-p"])
        self.check(["run", "-m", MODEL, "--chat-template-kwargs", "{"], 2, ["--chat-template-kwargs", "JSON"])
        self.check(["run", "-m", MODEL, "--chat-template-kwargs", "[]"], 2, ["--chat-template-kwargs", "object"])
        self.check(["run", "-m", MODEL, "-p", "x", "-f", "y"], 2, ["--file"])
        self.check(["walk"], 2, ["walk", "run"])

    def test_files_that_are_not_there_or_damaged(self):
        with tempfile.TemporaryDirectory() as folder:
            damaged = os.path.join(folder, "damaged.gguf")
            with open(MODEL, "rb") as whole, open(damaged, "wb") as part:
                part.write(whole.read(5000))
            text = os.path.join(folder, "text.gguf")
            with open(text, "w", encoding="utf-8") as file:
                file.write("no model at all\n")
            bad_template = os.path.join(folder, "bad.jinja")
            with open(bad_template, "w", encoding="utf-8") as file:
                file.write("{% for m in messages %}\n{{ m")
            looping = os.path.join(folder, "looping.jinja")
            with open(looping, "w", encoding="utf-8") as file:
                file.write("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
            for verb in (["run", "-p", "x"], ["bench"]):
                self.check(verb + ["-m", "/nowhere/m.gguf"], 1, ["/nowhere/m.gguf"])
                self.check(verb + ["-m", folder], 1, [folder])
                self.check(verb + ["-m", damaged], 1, ["damaged.gguf"])
                self.check(verb + ["-m", text], 1, ["text.gguf"])
            ask = ["run", "-m", MODEL, "-p", "x", "--chat-template-file"]
            self.check(ask + ["/nowhere.jinja"], 1, ["/nowhere.jinja"])
            self.check(ask + [bad_template], 1, ["chat template", "line 2"])
            self.check(ask + [looping], 1, ["endless loop"])
            self.check(["run", "-m", MODEL, "-f", "/nowhere.txt"], 1, ["/nowhere.txt"])

    def test_prompts_that_cannot_be_answered(self):
        self.check(["run", "-m", MODEL], 1, ["stdin", "-p"])
        self.check(["run", "-m", MODEL, "-c", "16", "-p", "many words " * 50], 1, ["--ctx-size"])
        self.check(["run", "-m", MODEL, "-p", "x", "--logit-bias", "99999999+1"], 1, ["--logit-bias"])


class Pipes(unittest.TestCase):
    FIGURES = re.compile(
        r"^prompt: \d+ tokens, [\d.]+ tokens/s; generated: \d+ tokens, [\d.]+ tokens/s(, [a-z -:]+)?; "
        r"memory: [\d.]+ [MG]B at most, model file [\d.]+ [MG]B mapped\n$")

    def answer(self, *arguments, stdin=b""):
        code, out, err = run("run", "-m", MODEL, "-n", "12", "--seed", "7", *arguments, stdin=stdin)
        self.assertEqual(code, 0, err)
        self.assertRegex(err, self.FIGURES)
        self.assertNotIn(b"\r", out)
        self.assertTrue(out.endswith(b"\n"))
        out.decode()  # whole characters only
        return out

    def test_every_verb_has_help(self):
        code, out, _ = run("--help")
        self.assertEqual(code, 0)
        verbs = re.findall(r"^  ([a-z]+) +[A-Z]", out.decode().split("Subcommands:")[1], re.M)
        self.assertTrue({"run", "bench", "inspect"} <= set(verbs), verbs)
        for verb in verbs:
            with self.subTest(verb):
                code, out, err = run(verb, "--help")
                self.assertEqual((code, err), (0, ""))
                self.assertIn("Usage: packmule " + verb, out.decode())

    def test_same_seed_same_answer_whatever_the_way_of_the_prompt(self):
        first = self.answer("-p", "Why a mule?")
        self.assertGreater(len(first), 5)
        self.assertEqual(self.answer("-p", "Why a mule?"), first)
        self.assertEqual(self.answer("-p", "Why a mule?", "-t", "1"), first)
        self.assertEqual(self.answer(stdin=b"Why a mule?\n"), first)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"Why a mule?")
            file.flush()
            self.assertEqual(self.answer("-f", file.name), first)
        # (With seed 8 the noise of this model has a line break of its own, which answer() forbids.)
        self.assertNotEqual(self.answer("-p", "Why a mule?", "--seed", "9"), first)
        self.assertNotEqual(self.answer("-p", "Why a horse?"), first)
        self.assertNotEqual(self.answer("-p", "Why a mule?", "-sys", "Be brief."), first)

    def test_the_template_is_filled_in_unless_told_not_to(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("{{ before }}{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}")
            file.flush()
            own = self.answer("-p", "X", "-sys", "S", "--chat-template-file", file.name, "--chat-template-kwargs",
                              '{"before": "B"}')
        self.assertEqual(own, self.answer("-p", "BsSuX", "-no-cnv"))
        self.assertNotEqual(self.answer("-p", "BsSuX"), own)

    def test_sampling_flags_reach_the_sampler(self):
        greedy = self.answer("-p", "x", "--temp", "0")
        self.assertEqual(self.answer("-p", "x", "--temp", "0", "--seed", "9"), greedy)
        self.assertEqual(self.answer("-p", "x", "--top-k", "1"), greedy)
        self.assertNotEqual(self.answer("-p", "x", "--temp", "0", "--repeat-penalty", "9"),
                            self.answer("-p", "x", "--temp", "0", "--repeat-penalty", "0.2"))

    def test_flags_without_effect_change_nothing(self):
        plain = self.answer("-p", "x")
        self.assertEqual(self.answer("-p", "x", "--jinja", "-fa", "on", "--no-webui", "-np", "1", "-ngl", "0"), plain)

    def test_bench_as_json(self):
        code, out, err = run("bench", "-m", MODEL, "-p", "8,16", "-n", "4", "-r", "2", "--json")
        self.assertEqual((code, err), (0, ""))
        report = json.loads(out)
        self.assertEqual([r["test"] for r in report["results"]], ["pp8", "pp16", "tg4"])
        for result in report["results"]:
            self.assertEqual(len(result["runs_tokens_per_second"]), 2)
            self.assertGreater(result["min_tokens_per_second"], 0)


class Terminal:
    """packmule in a pseudo-terminal."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(PACKMULE, [PACKMULE, "run", "-m", MODEL, *arguments])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, b"\x28\0\xf0\0\0\0\0\0")  # 40 rows of 240 columns
        self.seen = ""
        self.code = None

    def expect(self, pattern):
        """Reads until the pattern has been printed; returns what came up to its end."""
        end = time.monotonic() + PATIENCE_S
        while True:
            match = re.search(pattern, self.seen)
            if match:
                seen, self.seen = self.seen[: match.end()], self.seen[match.end() :]
                return seen
            if time.monotonic() > end:
                raise AssertionError(f"waited for {pattern!r}, saw {self.seen!r}")
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"ended before {pattern!r}, saw {self.seen!r}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def exit_code(self):
        end = time.monotonic() + PATIENCE_S
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise AssertionError(f"did not end, saw {self.seen!r}")
            elif select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    time.sleep(0.05)
        return self.code

    def close(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


PROMPT = r"\x1b\[\?2004h[^\n]*> "  # asks for paste marks, then prompts
CTRL_C, CTRL_D = "\x03", "\x04"


class Chat(unittest.TestCase):
    def start(self, *arguments):
        terminal = Terminal("--seed", "7", *arguments)
        self.addCleanup(terminal.close)
        terminal.expect(r"/help lists the commands\.")
        terminal.expect(PROMPT)
        return terminal

    def prompt_tokens(self, terminal, text, enter="\r"):
        """Says something; returns (prompt tokens, of those known already)."""
        terminal.type(text + enter)
        figures = re.search(r"prompt: (\d+) tokens(?: \((\d+) known already\))?",
                            terminal.expect(r"prompt: \d+ tokens.*mapped"))
        terminal.expect(PROMPT)
        return int(figures[1]), int(figures[2] or 0)

    def test_history_clear_and_leaving(self):
        chat = self.start("-n", "4")
        first, _ = self.prompt_tokens(chat, "hello")
        second, _ = self.prompt_tokens(chat, "hello")
        self.assertGreater(second, first)
        chat.type("/clear\r")
        chat.expect("a new conversation")
        chat.expect(PROMPT)
        self.assertEqual(self.prompt_tokens(chat, "hello")[0], first)
        chat.type("/system You are a mule.\r")
        chat.expect("with a new system prompt")
        chat.expect(PROMPT)
        self.assertGreater(self.prompt_tokens(chat, "hello")[0], first)
        chat.type("/help\r")
        chat.expect("/system TEXT")
        chat.expect(PROMPT)
        chat.type("/nonsense\r")
        chat.expect("no command /nonsense")
        chat.expect(PROMPT)
        chat.type("/exit\r")
        self.assertEqual(chat.exit_code(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        chat = self.start("--ignore-eos")
        chat.type("go on for ever\r")
        chat.expect(SOME_OF_THE_ANSWER)  # some of the answer
        chat.type(CTRL_C)
        chat.expect(r"tokens/s, stopped; memory")
        chat.expect(PROMPT)
        chat.type("and again\r")
        chat.expect(SOME_OF_THE_ANSWER)
        chat.type(CTRL_C)
        chat.expect(r"tokens/s, stopped; memory")
        chat.expect(PROMPT)
        chat.type(CTRL_D)
        self.assertEqual(chat.exit_code(), 0)

    def test_ctrl_c_twice_at_the_prompt_leaves(self):
        chat = self.start("-n", "2")
        chat.type("half a li" + CTRL_C)
        chat.expect("Ctrl-C again")
        chat.expect(PROMPT)
        once, _ = self.prompt_tokens(chat, "hello")  # the half line is gone, and so is the first Ctrl-C
        chat.type(CTRL_C)
        chat.expect("Ctrl-C again")
        chat.expect(PROMPT)
        chat.type(CTRL_C)
        self.assertEqual(chat.exit_code(), 0)
        other = self.start("-n", "2")
        self.assertEqual(self.prompt_tokens(other, "hello")[0], once)

    def test_messages_of_several_lines(self):
        chat = self.start("-n", "2")
        one = self.prompt_tokens(chat, '"""first\rsecond"""')

        def again(text):
            chat.type("/clear\r")
            chat.expect("a new conversation")
            chat.expect(PROMPT)
            return self.prompt_tokens(chat, text)[0]

        self.assertEqual(again("first\\\rsecond"), one[0])
        self.assertEqual(again("\x1b[200~first\nsecond\x1b[201~"), one[0])
        self.assertEqual(again("\x1b[200~first\r\x1b[201~second"), one[0])
        self.assertNotEqual(again("first"), one[0])

    def test_editing_and_characters_beyond_ascii(self):
        chat = self.start("-n", "2")
        plain = self.prompt_tokens(chat, "w\u00e4rme \u732b")[0]
        chat.type("/clear\r")
        chat.expect(PROMPT)
        self.assertEqual(self.prompt_tokens(chat, "x\u00e4\x7f\x7fw\u00e4rme \u732b")[0], plain)
        chat.type("/clear\r")
        chat.expect(PROMPT)
        self.assertEqual(self.prompt_tokens(chat, "\x1b[A\x1b[A")[0], plain)  # twice up: the line before /clear

    def test_a_question_too_long_does_not_end_the_conversation(self):
        chat = self.start("-c", "48", "-n", "2")
        chat.type("many words " * 15 + "\r")
        chat.expect("packmule: error: .*--ctx-size")
        chat.expect(PROMPT)
        self.prompt_tokens(chat, "hi")

    def test_thoughts_are_dim(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("{{ messages[-1].content }}<think>\n")
            file.flush()
            chat = self.start("-n", "6", "--chat-template-file", file.name, "--ignore-eos")
            chat.type("hello\r")
            chat.expect(r"\x1b\[2m[^\x1b]+\x1b\[0m")
            chat.expect("cut at -n")


class OneAnswerOnATerminal(unittest.TestCase):
    def test_progress_vanishes_and_ctrl_c_ends_it_in_order(self):
        terminal = Terminal("-p", "hello", "--ignore-eos", "--seed", "7")
        self.addCleanup(terminal.close)
        terminal.expect("loading the model")
        terminal.expect("reading the prompt")
        terminal.expect(SOME_OF_THE_ANSWER)
        terminal.type(CTRL_C)
        terminal.expect("stopped; memory")
        self.assertEqual(terminal.exit_code(), 0)


if __name__ == "__main__":
    if not MODEL:
        sys.exit(f"no model file in {DATA}/golden")
    unittest.main()

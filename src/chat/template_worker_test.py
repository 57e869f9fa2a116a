"""What the worker's system call filter and limits refuse, tried from inside: templates cannot get that far.

Each attempt runs in a forked child that has put the limits on itself, as the worker does.
"""

import importlib.util
import os
import socket
import sys
import unittest

spec = importlib.util.spec_from_file_location(
    "template_worker", os.path.join(os.path.dirname(os.path.abspath(__file__)), "template_worker.py"))
template_worker = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(template_worker)

REFUSED, WORKED, NO_FILTER, OTHER = 10, 11, 12, 13


def outcome_in_child(attempt, filtered=True):
    pid = os.fork()
    if pid == 0:
        code = OTHER
        try:
            if filtered:
                template_worker.limit_resources(512 << 20)
                if not template_worker.refuse_system_calls():
                    os._exit(NO_FILTER)
            attempt()
            code = WORKED
        except PermissionError:
            code = REFUSED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_once():
    if os.fork() == 0:
        os._exit(0)


ATTEMPTS = {
    "reading a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "writing a file": lambda: os.open("/tmp", os.O_WRONLY | os.O_TMPFILE),
    "listing a folder": lambda: os.listdir("/"),
    "a socket": lambda: socket.socket().close(),
    "a process": fork_once,
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a signal to the parent": lambda: os.kill(os.getppid(), 0),
    "more descriptors": lambda: os.dup(0),
    "a pipe": os.pipe,
}


class Filter(unittest.TestCase):
    def setUp(self):
        if os.uname().machine not in template_worker.ALLOWED_CALLS:
            self.skipTest("no filter is known for " + os.uname().machine)

    def test_the_attempts_work_without_it(self):
        for name, attempt in ATTEMPTS.items():
            if name != "a program":  # leaves with the program's own code
                with self.subTest(name):
                    self.assertEqual(outcome_in_child(attempt, filtered=False), WORKED)

    def test_refuses_what_a_template_has_no_need_of(self):
        for name, attempt in ATTEMPTS.items():
            with self.subTest(name):
                self.assertEqual(outcome_in_child(attempt), REFUSED)

    def test_lets_python_compute(self):
        self.assertEqual(outcome_in_child(lambda: "x" * 50_000_000 + str(sum(range(100_000)))), WORKED)


if __name__ == "__main__":
    unittest.main()

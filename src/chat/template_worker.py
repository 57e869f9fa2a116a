"""The process that renders chat templates for packmule.

A template comes with a model file and is untrusted. Jinja's sandbox keeps it away from Python's internals; this
process keeps the rest small: address space, file sizes and system calls are limited before the first line of a
template is read, and the parent ends the process when a call takes too long.

File descriptor 0 is a socket to the parent. Frames in both directions: length as 8 bytes little endian, then
that many bytes. A frame from the parent is JSON; a frame to the parent is one letter that says what the rest,
UTF-8 text, is:

  R  ready                       O  the answer
  X  a message the template gave to raise_exception, word for word
  D  why the template cannot be compiled
  E  why it cannot be rendered
  M  out of memory (this process ends)
  B  the text is larger than allowed
  N  Python or Jinja is not usable here (this process ends)
"""

import codecs
import json
import os
import resource
import signal
import sys


def read_exactly(size):
    pieces = []
    while size > 0:
        piece = os.read(0, min(size, 1 << 20))
        if not piece:
            os._exit(0)  # the parent is gone
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_frame():
    return read_exactly(int.from_bytes(read_exactly(8), "little"))


def write_frame(kind, text=""):
    body = kind.encode() + text.encode("utf-8", "replace")
    rest = memoryview(len(body).to_bytes(8, "little") + body)
    while rest:
        rest = rest[os.write(0, rest) :]


def limit_resources(memory_bytes):
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# System calls Python needs to compute, to manage memory and to talk over descriptors it already has. All others
# (open, socket, connect, clone, execve, kill, ptrace ...) are refused with EPERM.
ALLOWED_CALLS = {
    # read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
    # sched_yield mremap madvise setitimer getpid sendto recvfrom exit gettimeofday sigaltstack gettid futex
    # restart_syscall clock_gettime exit_group getrandom
    "x86_64": (0xC000003E, (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 38, 39, 44, 45, 60, 96, 131,
                            186, 202, 219, 228, 231, 318)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 73, 62, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233, 103, 172,
                             206, 207, 93, 169, 132, 178, 98, 128, 113, 94, 278)),
}


def refuse_system_calls():
    """Installs the filter; returns whether it holds (other machines and kernels without seccomp: False)."""
    import ctypes

    machine = os.uname().machine
    if machine not in ALLOWED_CALLS:
        return False
    architecture, allowed = ALLOWED_CALLS[machine]

    class Instruction(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                    ("k", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction))]

    load, jump_if_equal, give = 0x20, 0x15, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
    n = len(allowed)
    # struct seccomp_data: the call's number at byte 0, the architecture at byte 4.
    code = [(load, 0, 0, 4), (jump_if_equal, 0, n + 1, architecture), (load, 0, 0, 0)]
    code += [(jump_if_equal, n - i, 0, number) for i, number in enumerate(allowed)]
    code += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    instructions = (Instruction * len(code))(*code)
    program = Program(len(code), instructions)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    set_no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if prctl(set_no_new_privileges, 1, 0, 0, 0) != 0:
        return False
    return prctl(set_seccomp, filter_mode, ctypes.addressof(program), 0, 0) == 0


MAX_ERROR_CHARACTERS = 8192


def one_line(error):
    return " ".join(f"{type(error).__name__}: {str(error)[:500]}".split())


class TooMuchOutput(Exception):
    pass


class Renderer:
    def __init__(self):
        import datetime

        import jinja2
        import jinja2.debug  # Jinja loads it at the first error, when nothing can be opened any more
        import jinja2.ext
        import jinja2.sandbox

        # What Jinja, filters and string escapes load at first use.
        import html, pprint, random, textwrap, unicodedata  # noqa: E401, F401

        for name in ("ascii", "latin-1", "unicode-escape", "raw-unicode-escape"):
            codecs.lookup(name)

        self.jinja2 = jinja2
        self.datetime = datetime.datetime
        self.now = None
        self.template = None
        self.environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, autoescape=False,
            extensions=[jinja2.ext.loopcontrols, self.generation_extension()])
        for name in ("lipsum", "cycler"):
            del self.environment.globals[name]
        self.environment.globals["raise_exception"] = self.raise_exception
        self.environment.globals["strftime_now"] = lambda form: self.now.strftime(form)
        self.environment.filters["tojson"] = self.to_json

    def generation_extension(self):
        """{% generation %} marks the model's part of a text for training; here it renders its body."""
        jinja2 = self.jinja2

        class Generation(jinja2.ext.Extension):
            tags = {"generation"}

            def parse(self, parser):
                line = next(parser.stream).lineno
                body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
                return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

            def _body(self, caller):
                return caller()

        return Generation

    def raise_exception(self, message):
        error = self.jinja2.exceptions.TemplateError(message)
        error.asked_for = str(message)
        raise error

    @staticmethod
    def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def compile(self, request):
        self.template = self.environment.from_string(request["source"])
        return ""

    def render(self, request):
        variables = dict(request["kwargs"])
        variables["messages"] = request["messages"]
        if request["tools"] is not None:
            variables["tools"] = request["tools"]
        self.now = self.datetime(*request["now"])
        limit = request["output_bytes"]
        pieces = []
        size = 0
        for piece in self.template.root_render_func(self.template.new_context(variables)):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise TooMuchOutput
        text = "".join(pieces)
        if len(text.encode()) > limit:  # as bytes; raises for lone surrogates
            raise TooMuchOutput
        return text

    def line_of(self, error):
        """Where in the template a run-time error happened: ", line 7", or "" when that is not known."""
        line = 0
        trace = error.__traceback__
        while trace is not None:
            if self.template is not None and trace.tb_frame.f_code.co_filename == "<template>":
                line = self.template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return f", line {line}" if line else ""

    def answer(self, request):
        """(letter, text) for one request; a template's mistakes all end here."""
        letter, run = {"compile": ("D", self.compile), "render": ("E", self.render)}[request["call"]]
        try:
            return "O", run(request)
        except MemoryError:
            return "M", ""
        except TooMuchOutput:
            return "B", ""
        except RecursionError:
            return letter, ": nested or recursing too deeply"
        except self.jinja2.exceptions.TemplateSyntaxError as error:
            return letter, f", line {error.lineno}: {' '.join(error.message.split())}"
        except UnicodeError:
            return letter, ": makes text that is not valid Unicode (a lone surrogate)"
        except Exception as error:
            if hasattr(error, "asked_for"):
                return "X", error.asked_for[:MAX_ERROR_CHARACTERS]
            return letter, f"{self.line_of(error)}: {one_line(error)}"


def main():
    settings = json.loads(read_frame())
    try:
        limit_resources(settings["memory_bytes"])
        renderer = Renderer()
    except ImportError as error:
        write_frame("N", str(error))
        return
    sys.setrecursionlimit(1000)
    try:
        refused = refuse_system_calls()
    except (ImportError, OSError):
        refused = False
    write_frame("R", "system calls refused" if refused else "")
    while True:
        request = json.loads(read_frame())
        # A parent that was killed cannot end a loop in here: the kernel does, a while after the parent would have.
        signal.setitimer(signal.ITIMER_REAL, settings["timer_seconds"])
        letter, text = renderer.answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_frame(letter, text)
        if letter == "M":
            return


if __name__ == "__main__":
    main()

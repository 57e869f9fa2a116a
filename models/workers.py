"""One process a core, each with its own micro-batches; parameters and sums of gradients in shared memory.

A thread pool inside every operation waits at thousands of barriers a step, and on a machine that does other work
too each of them can cost a slice of the scheduler. Processes meet a few times a step. Every process lets the
optimizer work on its own part of the parameters, which all see.
"""
import ctypes
import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
import torch.multiprocessing as mp


def keep_memory():
    """glibc gives large blocks back to the system at every release, and fetches them again zeroed; keep them."""
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)
    libc.mallopt(m_top_pad, 64 << 20)


class Team:
    """Processes forked from one; `rank` tells them apart."""

    def __init__(self, n, model):
        self.n, self.rank = n, 0
        self.context = mp.get_context("fork")
        self.barrier = self.context.Barrier(n)
        self.next = self.context.Value("l", 0)
        self.params = list(model.parameters())
        if n > 1:
            model.share_memory()
            for p in self.params:
                p.gradients = torch.zeros(n, *p.shape).share_memory_()
        self.numbers = torch.zeros(n, 16, dtype=torch.float64).share_memory_()

    def start(self, work):
        """Runs work() in every process; in this one it returns."""
        children = []
        for rank in range(1, self.n):
            child = self.context.Process(target=self._child, args=(rank, work), daemon=True)
            child.start()
            children.append(child)

        def watch(*_):  # a process that died would be waited for at the next meeting, for ever
            if any(child.exitcode not in (None, 0) for child in children):
                print("a process of the team has died; the last checkpoint is whole", flush=True)
                os._exit(1)

        if children:
            signal.signal(signal.SIGCHLD, watch)
        work()
        for child in children:
            child.join()

    def _child(self, rank, work):
        self.rank = rank
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: do not outlive the first process
        torch.set_num_threads(1)
        work()

    def meet(self):
        if self.n > 1:
            self.barrier.wait()

    def share_out(self, items):
        """Each item goes to the first process that is free. The counter is reset by meet_and_sum."""
        while True:
            with self.next.get_lock():
                i = self.next.value
                self.next.value += 1
            if i >= len(items):
                return
            yield i, items[i]

    def meet_and_sum(self, numbers, mine):
        """Gradients of the parameters in `mine` become the sum over all processes; -> the summed numbers."""
        self.numbers[self.rank, : len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        if self.n > 1:
            for p in self.params:
                if p.grad is None:
                    p.gradients[self.rank].zero_()
                else:
                    p.gradients[self.rank].copy_(p.grad)
                p.grad = None
        self.meet()
        self.next.value = 0
        if self.n > 1:
            for p in mine:
                p.grad = p.gradients.sum(0)
        return self.numbers[:, : len(numbers)].sum(0).tolist()

#!/usr/bin/python3
"""Trains the model; goes on from the last checkpoint by itself. models/train.py --help

One loop for processors and CUDA devices. The learning rate rises, stays, and only decays in a tail that is
asked for (--decay), so that a run can be extended as often as one likes.
"""
import argparse
import csv
import os
import signal
import time
from pathlib import Path

from workers import Team, keep_memory  # first: it says how many threads the libraries may start

import torch

import checkpoint
import data
import ops
import optim
from model import Config, Model
from ops import HeadLoss
from tokenizer import Tokenizer

BUILD = Path(__file__).resolve().parent.parent / "build" / "models"
WARMUP = 100
BALANCE = 0.01  # weight of the routers' evenness


def arguments():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("--out", type=Path, default=BUILD, help="folder of checkpoint and log")
    a.add_argument("--steps", type=int, default=10**9, help="stop after so many steps in total")
    a.add_argument("--minutes", type=float, default=1e9, help="stop after so many minutes")
    a.add_argument(
        "--decay", type=int, default=0, help="let the learning rate fall to zero over the next so many steps, then stop"
    )
    a.add_argument("--lr", type=float, default=3e-3)
    a.add_argument("--step-tokens", type=int, default=8192)
    a.add_argument("--batch-tokens", type=int, default=2048, help="tokens that go through the model at once")
    a.add_argument("--processes", type=int, default=os.cpu_count(), help="without a CUDA device: one a core")
    a.add_argument("--save-minutes", type=float, default=4)
    a.add_argument(
        "--mtp-every", type=int, default=4, help="micro-batches between two that train the MTP block too (1: all)"
    )
    return a.parse_args()


def loss_of(model, tokens, weights, with_mtp, dtype):
    """-> (sum to minimise, sum of the answer losses, right answers' tokens, unevenness, MTP's loss sum and hits)"""
    hidden, uneven = model.trunk(tokens, dtype)
    rows, targets, w = hidden[:, :-1], tokens[:, 1:], weights[:, 1:]
    at = w.reshape(-1).nonzero()[:, 0]
    pick = lambda x: x.reshape(-1, x.shape[-1])[at]
    target, weight = targets.reshape(-1)[at], w.reshape(-1)[at]
    loss, _, hits = HeadLoss.apply(pick(rows), model.token_embd.to(dtype), target, weight)
    total, mtp = loss, None
    if with_mtp:
        # Trunk and embedding are not bent towards the drafts: with so little capacity the answers come first.
        drafted, mtp_uneven = model.draft(tokens, hidden.detach())
        mtp_loss, _, mtp_hits = HeadLoss.apply(
            pick(drafted[:, :-1]), model.token_embd.detach().to(dtype), target, weight
        )
        total, mtp = total + mtp_loss, (float(mtp_loss.detach()), float(mtp_hits))
        uneven = uneven + mtp_uneven
    return total, float(loss.detach()), float(hits), uneven, mtp, float(weight.sum())


def learning_rate(step, peak, decay_from, decay_steps):
    rate = peak * min(1.0, (step + 1) / WARMUP)
    if decay_steps:
        rate *= max(0.0, 1 - (step - decay_from) / decay_steps)
    return rate


class Run:
    """The state of a training run, and the loop that every process of the team goes through."""

    def __init__(self, a):
        self.a = a
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        n = 1 if self.device == "cuda" else a.processes
        ops.product_dtype = None if self.device == "cuda" else ops.fast_products()
        self.path, self.log_path = a.out / "checkpoint.pt", a.out / "train.csv"
        self.tokenizer = Tokenizer()
        torch.manual_seed(1)
        held = checkpoint.load(self.path) if self.path.exists() else {}
        self.model = Model(Config(**held["config"]) if held else Config(vocab=len(self.tokenizer.tokens))).to(
            self.device
        )
        if held:
            self.model.load_state_dict(held["model"])
        self.team = Team(n, self.model)
        self.muons, self.adam = optim.optimizers(self.model, a.lr, n)
        self.names = {p: name for name, p in self.model.named_parameters()}
        optim.start_momenta(self.muons, held.get("momenta"), self.names, n > 1)
        if held:
            self.adam.load_state_dict(held["adam"])
        self.step, self.seen, self.decay_from = held.get("step", 0), held.get("seen", 0), held.get("decay_from")
        if a.decay and self.decay_from is None:
            self.decay_from = self.step
        self.last = min(a.steps, self.decay_from + a.decay) if a.decay else a.steps
        self.stop = False

    def save(self):
        momenta = {
            self.names[p]: m.state[p]["momentum"] for m in self.muons for g in m.param_groups for p in g["params"]
        }
        checkpoint.save(
            self.path,
            self.model,
            momenta,
            self.adam,
            self.step,
            {"seen": self.seen, "decay_from": self.decay_from if self.a.decay else None},
        )

    def one_step(self, rate):
        """-> numbers for the log"""
        micro = data.batches(self.step, self.tokenizer, self.a.step_tokens, self.a.batch_tokens)
        learned = sum(float(w[:, 1:].sum()) for _, w in micro)
        n_tokens = sum(t.numel() for t, _ in micro)
        loss_sum = hit_sum = uneven_sum = mtp_sum = mtp_hits = mtp_n = 0.0
        for i, (tokens, weights) in self.team.share_out(micro):
            with_mtp = (i + self.step) % self.a.mtp_every == 0
            total, loss, hits, uneven, mtp, n = loss_of(
                self.model, tokens.to(self.device), weights.to(self.device), with_mtp, self.dtype
            )
            share = tokens.numel() / n_tokens
            (total / learned + BALANCE * share * uneven).backward()
            loss_sum, hit_sum = loss_sum + loss, hit_sum + hits
            uneven_sum += float(uneven) * share / (self.model.c.n_layers + with_mtp)
            if mtp:
                mtp_sum, mtp_hits, mtp_n = mtp_sum + mtp[0], mtp_hits + mtp[1], mtp_n + n
        muon, first = self.muons[self.team.rank], self.team.rank == 0
        of_adam = self.adam.param_groups[0]["params"] if first else []
        sums = self.team.meet_and_sum(
            [loss_sum, hit_sum, uneven_sum, mtp_sum, mtp_hits, mtp_n], muon.param_groups[0]["params"] + of_adam
        )
        for group in muon.param_groups + self.adam.param_groups:
            group["lr"] = rate
        muon.step()
        norm = 0.0
        if first:
            norm = float(torch.nn.utils.clip_grad_norm_(of_adam, 1.0))
            self.adam.step()
        self.model.zero_grad(set_to_none=True)
        self.step, self.seen = self.step + 1, self.seen + n_tokens
        self.team.meet()
        return n_tokens, learned, sums, norm

    def log(self, seconds, rate, n_tokens, learned, sums, norm):
        loss, hits, uneven, mtp, mtp_hits, mtp_n = sums
        mtp_n = max(1.0, mtp_n)
        row = [
            self.step,
            self.seen,
            f"{loss / learned:.4f}",
            f"{hits / learned:.4f}",
            f"{mtp / mtp_n:.4f}",
            f"{mtp_hits / mtp_n:.4f}",
            f"{uneven:.3f}",
            f"{norm:.3f}",
            f"{rate:.2e}",
            f"{n_tokens / seconds:.0f}",
            f"{seconds:.1f}",
        ]
        new = not self.log_path.exists()
        with open(self.log_path, "a", newline="") as file:
            if new:
                file.write(
                    "step,tokens,loss,token_accuracy,mtp_loss,mtp_accuracy,unevenness,grad_norm,lr,tokens_per_s,seconds\n"
                )
            csv.writer(file, lineterminator="\n").writerow(row)
        if self.step % 10 == 0 or self.step < 5:
            print(
                "step {} tokens {} loss {} accuracy {} mtp {} {} uneven {} norm {} lr {} {} tokens/s".format(*row[:10]),
                flush=True,
            )

    def work(self):
        started = saved = time.monotonic()
        first = self.team.rank == 0
        while self.step < self.last:
            begun = time.monotonic()
            rate = learning_rate(self.step, self.a.lr, self.decay_from, self.a.decay)
            numbers = self.one_step(rate)
            now = time.monotonic()
            if first:
                self.log(now - begun, rate, *numbers)
                if now - saved > self.a.save_minutes * 60:
                    self.save()
                    saved = now
                self.team.numbers[0, 15] = float(self.stop or now - started > self.a.minutes * 60)
            self.team.meet()
            if self.team.numbers[0, 15]:
                break
        if first:
            self.save()
            print(f"stopped at step {self.step}", flush=True)


def main():
    a = arguments()
    a.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    torch.set_num_threads(1)
    run = Run(a)
    n_params = sum(p.numel() for p in run.model.parameters())
    print(f"{n_params / 1e6:.2f} M parameters, {run.device}, {run.team.n} processes, from step {run.step}", flush=True)

    def stop(*_):
        run.stop = True

    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, stop)
    run.team.start(run.work)


if __name__ == "__main__":
    main()

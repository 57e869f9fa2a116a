#!/usr/bin/python3
"""The curves of a training run as a PNG. models/plot.py [train.csv] [OUT.png]"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent


def smoothed(values, window=25):
    out, held = [], None
    for v in values:
        held = v if held is None else held + (v - held) / window
        out.append(held)
    return out


def main():
    log = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "models" / "train.csv"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "training.png"
    by_step = {}
    for row in csv.DictReader(log.open()):  # a resumed run repeats the steps since its checkpoint: the last counts
        by_step[int(row["step"])] = row
    rows = [by_step[s] for s in sorted(by_step)]
    tokens = [int(r["tokens"]) / 1e6 for r in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for name, label in (("loss", "trunk"), ("mtp_loss", "MTP block")):
        kept = [(t, float(r[name])) for t, r in zip(tokens, rows) if float(r[name]) > 0]
        left.plot(*zip(*kept), alpha=0.2, color="C0" if name == "loss" else "C1")
        left.plot(
            [t for t, _ in kept], smoothed([v for _, v in kept]), label=label, color="C0" if name == "loss" else "C1"
        )
    left.set(xlabel="million tokens", ylabel="loss (nats a learned token)", ylim=(0, 6))
    left.legend()
    right.plot(tokens, smoothed([float(r["token_accuracy"]) for r in rows]), label="tokens right")
    right.plot(tokens, smoothed([float(r["unevenness"]) - 1 for r in rows]), label="unevenness of the routers - 1")
    right.set(xlabel="million tokens", ylim=(0, 1))
    right.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=100)
    print(out)


if __name__ == "__main__":
    main()

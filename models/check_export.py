#!/usr/bin/python3
"""The trainer's forward pass against packmule's, on the exported file. models/check_export.py [CHECKPOINT]

Without a checkpoint the weights are random and the small tensors (norms, biases) are random too, as a mistake in
their layout would hide behind ones and zeros. Limit: relative L2 of a row of logits 1e-4.
"""
import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

import checkpoint
import export
from model import Config, Model
from tokenizer import Tokenizer

LIMIT = 1e-4
PACKMULE = Path(__file__).resolve().parent.parent / "build" / "release" / "bin" / "packmule"


def random_model():
    torch.manual_seed(3)
    model = Model(Config(vocab=len(Tokenizer().tokens)))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() < 2:
                p.add_(torch.randn_like(p) * 0.2)
            elif "token_embd" in name:
                p.mul_(20)
    return model


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("checkpoint", nargs="?", type=Path)
    arguments.add_argument("--packmule", type=Path, default=PACKMULE)
    a = arguments.parse_args()
    model = checkpoint.load_model(a.checkpoint)[0] if a.checkpoint else random_model()
    tokens = torch.randint(0, model.c.vocab, (1, 333), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = model.logits(model.trunk(tokens)[0])[0].numpy()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export.export(model, folder / "model.gguf", "F32")
        (folder / "tokens.json").write_text(json.dumps(tokens[0].tolist()))
        for variant in ("ref", None):
            environment = {**os.environ, **({"PACKMULE_CPU": variant} if variant else {})}
            subprocess.run(
                [
                    a.packmule,
                    "logits",
                    "-m",
                    folder / "model.gguf",
                    "--tokens-file",
                    folder / "tokens.json",
                    "--output",
                    folder / "out.f32",
                    "--cache-type-k",
                    "f32",
                    "--cache-type-v",
                    "f32",
                ],
                check=True,
                env=environment,
            )
            found = np.fromfile(folder / "out.f32", np.float32).reshape(expected.shape)
            error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
            same = (found.argmax(1) == expected.argmax(1)).mean()
            print(
                f"{variant or 'default':8} relative L2 of a row: largest {error.max():.1e}, median {np.median(error):.1e}; same top token in {same:.1%}"
            )
            failed |= not error.max() <= LIMIT
    raise SystemExit(failed)


if __name__ == "__main__":
    main()

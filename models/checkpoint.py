"""Checkpoints: everything a run needs to go on as if it had not stopped."""
import os
from dataclasses import asdict
from pathlib import Path

import torch

from model import Config, Model


def save(path, model, momenta, adam, step, extra):
    """Written beside the old one and renamed, so that there is always a whole checkpoint."""
    partial = Path(str(path) + ".partial")
    torch.save(
        {
            "config": asdict(model.c),
            "model": model.state_dict(),
            "momenta": momenta,
            "adam": adam.state_dict(),
            "step": step,
            **extra,
        },
        partial,
    )
    os.replace(partial, path)


def load(path):
    return torch.load(path, map_location="cpu")


def load_model(path):
    held = load(path)
    model = Model(Config(**held["config"]))
    model.load_state_dict(held["model"])
    return model, held["step"]

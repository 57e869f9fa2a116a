"""Muon for matrices, AdamW for the rest.

Muon (Jordan et al., 2024) replaces the momentum of a matrix by the nearest orthogonal one, by five steps of a
Newton-Schulz iteration. For so little text it needs clearly fewer tokens than AdamW; its products are a tenth
of a step's time. Experts are a batch of matrices.
"""
import torch

import ops


def orthogonal(g, steps=5):
    """g [n, rows, cols] -> about U Vᵀ of each matrix's singular value decomposition."""
    x = g / (g.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    flipped = x.shape[1] > x.shape[2]
    if flipped:
        x = x.transpose(1, 2)
    for _ in range(steps):
        factor = ops.rounded(x)
        a = factor @ factor.transpose(1, 2)
        b = (a @ a).to(x.dtype).mul_(2.0315).add_(a, alpha=-4.7750)
        x = (ops.rounded(b) @ factor).to(x.dtype).add_(x, alpha=3.4445)
    return x.transpose(1, 2) if flipped else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            same_shape = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                held = self.state[p]["momentum"]
                held.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(held, group["momentum"])
                same_shape.setdefault(p.shape[-2:], []).append((p, update))
            for shape, members in same_shape.items():
                updates = orthogonal(torch.cat([u.reshape(-1, *shape) for _, u in members]))
                scale = group["lr"] * 0.2 * max(shape) ** 0.5  # the size of an AdamW step
                start = 0
                for p, u in members:
                    n = u.numel() // (shape[0] * shape[1])
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(updates[start : start + n].view_as(p), alpha=-scale)
                    start += n


def optimizers(model, lr, n_parts=1):
    """-> for each of n_parts processes its Muon, about equal in work; and the AdamW of all the rest, for the first.
    Embedding, router, norms, convolution and DeltaNet's small tensors go by AdamW."""
    by_muon, by_adam = [], []
    for name, p in model.named_parameters():
        small = any(x in name for x in ("token_embd", "ffn_gate_inp", "conv1d", "ssm_ba"))
        (by_adam if p.dim() < 2 or small else by_muon).append(p)
    parts, work = [[] for _ in range(n_parts)], [0] * n_parts
    for p in sorted(by_muon, key=lambda p: -p.numel()):
        least = work.index(min(work))
        parts[least].append(p)
        work[least] += p.numel() * min(p.shape[-2:])
    return [Muon(part, lr) for part in parts], torch.optim.AdamW(
        by_adam, lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0
    )


def start_momenta(muons, held, names, shared):
    """Momenta by the name of the parameter, so that a run can go on with another number of processes."""
    for muon in muons:
        for group in muon.param_groups:
            for p in group["params"]:
                name = names[p]
                momentum = held[name].clone() if held else torch.zeros_like(p)
                muon.state[p]["momentum"] = momentum.share_memory_() if shared else momentum.to(p.device)

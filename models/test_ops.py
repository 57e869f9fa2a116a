#!/usr/bin/python3
"""The compiled kernels against the same operations in PyTorch: values and gradients. models/test_ops.py"""
import os

import torch

import ops

torch.manual_seed(1)


def compare(name, function, *inputs):
    results = []
    for mode in ("torch", "kernels"):
        os.environ["PACKMULE_OPS"] = mode
        held = [x.clone().requires_grad_() for x in inputs]
        y = function(*held)
        torch.manual_seed(2)
        (y * torch.randn(y.shape)).sum().backward()
        results.append([y.detach()] + [x.grad for x in held])
    worst = max(float((a - b).norm() / (a.norm() + 1e-30)) for a, b in zip(*results))
    print(f"{name:12} {worst:.1e}")
    assert worst < 2e-5, f"{name}: the kernel and PyTorch differ by {worst}"


b, t, nk, nv, d = 2, 77, 2, 4, 64
width = 2 * nk * d + nv * d
compare("rms_norm", lambda x, w: ops.rms_norm(x, w, 1e-6), torch.randn(37, 256), torch.randn(256))
compare(
    "gated_norm",
    lambda o, z, w: ops.gated_norm(o, z, w, 1e-6),
    torch.randn(37, 4, d),
    torch.randn(37, 4, d),
    torch.randn(d),
)
compare("swiglu", ops.swiglu_with_gradient, torch.randn(37, 512))
compare("conv_silu", ops.conv_silu, torch.randn(b, t, width), torch.randn(4, width))
compare(
    "delta_rule",
    lambda x, g, beta: ops.delta_rule(x, -g.exp(), torch.sigmoid(beta), nk, nv, d, d),
    torch.randn(b, t, width),
    torch.randn(b, t, nv) - 3,
    torch.randn(b, t, nv),
)


x, w = torch.randn(37, 256), torch.randn(128, 256)
for dtype, limit in ((None, 0), (torch.bfloat16, 5e-3)):  # factors rounded to 8 bits: 2^-9 each, in the root mean square less
    ops.product_dtype = dtype
    worst = float((ops.linear(x, w) - x @ w.t()).norm() / (x @ w.t()).norm())
    print(f"linear       {worst:.1e} ({dtype})")
    assert worst <= limit, f"linear: {worst}"
ops.product_dtype = None


def experts(x, weights, gate_up, down):
    chosen = torch.arange(37 * 2).view(37, 2) * 7 % 5
    return ops.Experts.apply(x, weights, chosen, gate_up, down)


compare("experts", experts, torch.randn(37, 64), torch.rand(37, 2), torch.randn(5, 128, 64), torch.randn(5, 64, 64))

"""The operations of the model that are not plain matrix products, with their gradients.

Each exists twice: in PyTorch, for any device, and for processors as a call into kernels.c. The second is
compiled when it is first needed, for the machine it runs on. PACKMULE_OPS=torch switches it off.
"""
import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent


# ---- the compiled kernels ----


def _load(dk, dv):
    source = HERE / "kernels.c"
    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC", f"-DDK={dk}", f"-DDV={dv}"]
    cpu = [line for line in open("/proc/cpuinfo") if line.startswith(("model name", "flags"))][:2]
    key = hashlib.sha256((source.read_text() + repr(flags) + repr(cpu)).encode()).hexdigest()[:16]
    folder = HERE.parent / "build" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"kernels-{key}.so"
    if not library.exists():
        partial = folder / f"kernels-{key}.{os.getpid()}"
        subprocess.run(["cc", *flags, str(source), "-o", str(partial), "-lm"], check=True)
        os.replace(partial, library)
    return ctypes.CDLL(str(library))


_libraries = {}


def kernels_for(tensor, dk=64, dv=64):
    """The compiled kernels, or None where PyTorch does the work."""
    if tensor.is_cuda or tensor.dtype != torch.float32 or os.environ.get("PACKMULE_OPS") == "torch":
        return None
    if (dk, dv) not in _libraries:
        _libraries[dk, dv] = _load(dk, dv)
    return _libraries[dk, dv]


def _call(function, *arguments):
    """Tensors go as pointers, ints as long, floats as float."""
    held, passed = [], []
    for a in arguments:
        if a is None:
            passed.append(ctypes.c_void_p(None))
        elif isinstance(a, torch.Tensor):
            assert a.is_contiguous() and a.dtype in (torch.float32, torch.int64)
            held.append(a)
            passed.append(ctypes.c_void_p(a.data_ptr()))
        else:
            passed.append(ctypes.c_long(a) if isinstance(a, int) else ctypes.c_float(a))
    function.restype = None
    function(*passed)


# ---- matrix products ----

# What the factors of products are rounded to; sums and everything between products stay as they are. bfloat16 takes
# half of the time where the processor multiplies it, which `fast_products` finds out.
product_dtype = None


def fast_products():
    return torch.bfloat16 if "avx512_bf16" in open("/proc/cpuinfo").read() else None


def rounded(x):
    return x if product_dtype is None or x.dtype != torch.float32 else x.to(product_dtype)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        flat, w = rounded(x.reshape(-1, x.shape[-1])), rounded(w)
        ctx.save_for_backward(flat, w)
        return (flat @ w.t()).float().view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        flat = dy.reshape(-1, dy.shape[-1]).to(x.dtype)
        return (flat @ w).float().view(*dy.shape[:-1], -1), (flat.t() @ x).float()


def linear(x, w):
    """x [..., in], w [out, in] -> [..., out] of the type of x."""
    if product_dtype is None or x.dtype != torch.float32:
        return F.linear(x, w.to(x.dtype))
    return _Linear.apply(x, w)


# ---- RMS norm ----


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, eps):
        x, width = x.contiguous(), x.shape[-1]
        y, inv = torch.empty_like(x), x.new_empty(x.numel() // width)
        ctx.lib = kernels_for(x)
        _call(ctx.lib.rms_norm_forward, inv.numel(), width, x, w, eps, y, inv)
        ctx.save_for_backward(x, w, inv)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w, inv = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(w)
        _call(ctx.lib.rms_norm_backward, inv.numel(), x.shape[-1], x, w, inv, dy.contiguous(), dx, dw)
        return dx, dw, None


def rms_norm(x, w, eps):
    if kernels_for(x):
        return _RmsNorm.apply(x, w, eps)
    h = x.float()
    return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps) * w).to(x.dtype)


# ---- RMS norm with a gate after it ----


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, o, z, w, eps):
        o, z = o.contiguous(), z.contiguous()
        y = torch.empty_like(o)
        ctx.lib, ctx.eps = kernels_for(o, dv=o.shape[-1]), eps
        _call(ctx.lib.gated_norm_forward, o.numel() // o.shape[-1], o, z, w, eps, y)
        ctx.save_for_backward(o, z, w)
        return y

    @staticmethod
    def backward(ctx, dy):
        o, z, w = ctx.saved_tensors
        d_o, dz, dw = torch.empty_like(o), torch.empty_like(z), torch.zeros_like(w)
        _call(ctx.lib.gated_norm_backward, o.numel() // o.shape[-1], o, z, w, ctx.eps, dy.contiguous(), d_o, dz, dw)
        return d_o, dz, dw, None


def gated_norm(o, z, w, eps):
    """o and z [..., dv]: the norm first, the gate second."""
    if kernels_for(o, dv=o.shape[-1]):
        return _GatedNorm.apply(o, z, w, eps)
    return rms_norm(o, w, eps) * F.silu(z)


# ---- silu(gate) * up ----


def swiglu(h, out=None):
    """h [n, 2 width], gate first."""
    width = h.shape[-1] // 2
    lib = kernels_for(h)
    if not lib:
        return F.silu(h[..., :width]) * h[..., width:]
    out = h.new_empty(*h.shape[:-1], width) if out is None else out
    _call(lib.swiglu_forward, h.numel() // (2 * width), width, h, out)
    return out


def swiglu_backward(h, dy):
    width = h.shape[-1] // 2
    lib = kernels_for(h)
    dh = torch.empty_like(h)
    if lib:
        _call(lib.swiglu_backward, h.numel() // (2 * width), width, h, dy.contiguous(), dh)
        return dh
    gate, up = h[..., :width].float(), h[..., width:].float()
    s = torch.sigmoid(gate)
    act = gate * s
    dh[..., :width] = (dy * up * (s + act * (1 - s))).to(h.dtype)
    dh[..., width:] = (dy * act).to(h.dtype)
    return dh


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return swiglu(h)

    @staticmethod
    def backward(ctx, dy):
        return swiglu_backward(ctx.saved_tensors[0], dy)


def swiglu_with_gradient(h):
    return _Swiglu.apply(h.contiguous())


# ---- convolution of four taps over time, then silu ----


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        x, w = x.contiguous(), w.contiguous()
        y = torch.empty_like(x)
        ctx.lib = kernels_for(x)
        _call(ctx.lib.conv_silu_forward, *x.shape, x, w, y)
        ctx.save_for_backward(x, w)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        dx, dw = torch.empty_like(x), x.new_empty(x.shape[0], *w.shape)
        _call(ctx.lib.conv_silu_backward, *x.shape, x, w, dy.contiguous(), dx, dw)
        return dx, dw.sum(0)


def conv_silu(x, w):
    """x [batch, time, channels], w [4, channels]; tap 3 weighs the current token."""
    if kernels_for(x):
        return _ConvSilu.apply(x, w)
    t = x.shape[1]
    padded = F.pad(x, (0, 0, 3, 0))
    return F.silu(sum(w[j].to(x.dtype) * padded[:, j : j + t] for j in range(4)))


# ---- gated delta rule ----


class _Delta(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, g, beta, nk, nv, dk, dv):
        qkv, g, beta = qkv.contiguous(), g.contiguous(), beta.contiguous()
        b, t, _ = qkv.shape
        o = qkv.new_empty(b, t, nv, dv)
        states = qkv.new_empty(b, nv, (t + 31) // 32, dk, dv)
        ctx.lib, ctx.heads = kernels_for(qkv, dk, dv), (nk, nv)
        _call(ctx.lib.delta_forward, b, t, nk, nv, qkv, g, beta, o, states)
        ctx.save_for_backward(qkv, g, beta, states)
        return o

    @staticmethod
    def backward(ctx, d_o):
        qkv, g, beta, states = ctx.saved_tensors
        d_qkv, dg, dbeta = torch.zeros_like(qkv), torch.empty_like(g), torch.empty_like(beta)
        _call(
            ctx.lib.delta_backward, *qkv.shape[:2], *ctx.heads, qkv, g, beta, states, d_o.contiguous(), d_qkv, dg, dbeta
        )
        return d_qkv, dg, dbeta, None, None, None, None


def delta_rule(qkv, g, beta, nk, nv, dk, dv):
    """qkv [batch, time, 2 nk dk + nv dv] after the convolution, g and beta [batch, time, nv] -> [batch, time, nv, dv]"""
    if kernels_for(qkv, dk, dv):
        return _Delta.apply(qkv, g, beta, nk, nv, dk, dv)
    b, t, _ = qkv.shape
    q, k, v = qkv.float().split([nk * dk, nk * dk, nv * dv], -1)
    heads = lambda x, n: x.view(b, t, n, -1).repeat_interleave(nv // n, 2).transpose(1, 2)
    unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)
    q, k, v = unit(heads(q, nk)) / dk**0.5, unit(heads(k, nk)), heads(v, nv)
    return _chunked(q, k, v, g.float().transpose(1, 2), beta.float().transpose(1, 2)).transpose(1, 2).to(qkv.dtype)


def _chunked(q, k, v, g, beta, size=64):
    """The WY form: chunks of 64 tokens by matrix products. q, k, v [batch, head, time, width]; g, beta [b, h, t]."""
    b, h, t, _ = q.shape
    n = (t + size - 1) // size
    pad = n * size - t
    cut = lambda x: F.pad(x, (0, 0, 0, pad)).view(b, h, n, size, -1)
    q, k, v, beta = cut(q), cut(k), cut(v), cut(beta[..., None])
    g = cut(g[..., None])[..., 0].cumsum(-1)
    lower = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    # The upper part is masked before exp: there it would overflow.
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~lower, float("-inf")).exp()
    a = ((k * beta) @ k.transpose(-1, -2) * decay).masked_fill(~lower.tril(-1), 0)
    rhs = torch.cat([v * beta, k * beta * g.exp()[..., None]], -1)
    solved = torch.linalg.solve_triangular(a + torch.eye(size, device=q.device), rhs, upper=False, unitriangular=True)
    u, w = solved.split([v.shape[-1], k.shape[-1]], -1)
    within = q @ k.transpose(-1, -2) * decay
    state, out = q.new_zeros(b, h, k.shape[-1], v.shape[-1]), []
    for i in range(n):
        new = u[:, :, i] - w[:, :, i] @ state
        out.append((q[:, :, i] * g[:, :, i].exp()[..., None]) @ state + within[:, :, i] @ new)
        last = g[:, :, i, -1:]
        state = (
            state * last.exp()[..., None] + (k[:, :, i] * (last - g[:, :, i]).exp()[..., None]).transpose(-1, -2) @ new
        )
    return torch.cat(out, 2)[:, :, :t]


# ---- experts ----


class Experts(torch.autograd.Function):
    """Rows are sorted by expert, each expert multiplies its own. x [n, hidden], weights and chosen [n, k],
    gate_up [experts, 2 ff, hidden], down [experts, hidden, ff]."""

    @staticmethod
    def forward(ctx, x, weights, chosen, gate_up, down):
        n, k = chosen.shape
        flat = chosen.reshape(-1)
        order = torch.argsort(flat)
        counts = torch.bincount(flat, minlength=gate_up.shape[0]).tolist()
        place = torch.empty_like(order)
        place[order] = torch.arange(n * k, device=x.device)
        rows, gate_up, down = rounded(x)[torch.div(order, k, rounding_mode="floor")], rounded(gate_up), rounded(down)
        h, y = rows.new_empty(n * k, gate_up.shape[1]), torch.empty_like(rows)
        for e, part in _parts(counts):
            torch.mm(rows[part], gate_up[e].t(), out=h[part])
        h = h.to(x.dtype)
        act = swiglu(h).to(rows.dtype)
        for e, part in _parts(counts):
            torch.mm(act[part], down[e].t(), out=y[part])
        y = y.to(x.dtype)
        w = weights.reshape(-1)[order]
        ctx.counts = counts
        ctx.save_for_backward(rows, h, act, y, w, order, place, gate_up, down)
        return _combine(y, place, w, n, k)

    @staticmethod
    def backward(ctx, d_out):
        rows, h, act, y, w, order, place, gate_up, down = ctx.saved_tensors
        n = d_out.shape[0]
        k = order.numel() // n
        dy, dw = _spread(y, order, w, d_out, n, k)
        dy, dw = dy.to(rows.dtype), dw[place].view(n, k)
        d_act, d_rows = torch.empty_like(act), torch.empty_like(rows)
        d_gate_up, d_down = torch.zeros_like(gate_up), torch.zeros_like(down)
        for e, part in _parts(ctx.counts):
            torch.mm(dy[part], down[e], out=d_act[part])
            torch.mm(dy[part].t(), act[part], out=d_down[e])
        dh = swiglu_backward(h, d_act.to(h.dtype)).to(rows.dtype)
        for e, part in _parts(ctx.counts):
            torch.mm(dh[part], gate_up[e], out=d_rows[part])
            torch.mm(dh[part].t(), rows[part], out=d_gate_up[e])
        back = lambda g: g.to(d_out.dtype)
        return _combine(back(d_rows), place, None, n, k), dw, None, back(d_gate_up), back(d_down)


def _combine(y, place, scale, n, k):
    lib = kernels_for(y)
    if not lib:
        return (y if scale is None else y * scale[:, None])[place].view(n, k, -1).sum(1)
    out = y.new_empty(n, y.shape[1])
    _call(lib.combine, n, k, y.shape[1], y, place, scale, out)
    return out


def _spread(y, order, scale, d_out, n, k):
    lib = kernels_for(y)
    if not lib:
        d = d_out[torch.div(order, k, rounding_mode="floor")]
        return d * scale[:, None], (y * d).sum(-1)
    dy, d_scale = torch.empty_like(y), torch.empty_like(scale)
    _call(lib.spread, n, k, y.shape[1], y, order, scale, d_out.contiguous(), dy, d_scale)
    return dy, d_scale


def _parts(counts):
    start = 0
    for e, count in enumerate(counts):
        if count:
            yield e, slice(start, start + count)
        start += count


# ---- output head and loss in one ----


class HeadLoss(torch.autograd.Function):
    """Sum over rows of weight * cross entropy. The gradient is made with the loss, chunk by chunk, so that the
    logits of all rows never exist at once. rows [n, hidden], head [vocab, hidden]."""

    @staticmethod
    def forward(ctx, rows, head, targets, weights, chunk=1024):
        d_rows, d_head = torch.empty_like(rows), torch.zeros_like(head)
        factors, table = rounded(rows), rounded(head)
        losses, hits = rows.new_empty(rows.shape[0], dtype=torch.float32), 0
        for s in range(0, rows.shape[0], chunk):
            part = slice(s, s + chunk)
            logits = (rows[part] @ head.t()).float()
            target = targets[part, None]
            top, best = logits.max(-1, keepdim=True)
            hits += (best == target).float().mul(weights[part, None]).sum()
            logits.sub_(top)
            of_target = logits.gather(1, target)
            logits.exp_()
            total = logits.sum(-1, keepdim=True)
            losses[part] = (total.log() - of_target)[:, 0]
            logits.div_(total)
            logits.scatter_add_(1, target, torch.full_like(of_target, -1.0))
            logits.mul_(weights[part, None])
            d = logits.to(factors.dtype)
            d_rows[part] = d @ table
            d_head += d.t() @ factors[part]
        ctx.save_for_backward(d_rows, d_head)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses, torch.as_tensor(hits)

    @staticmethod
    def backward(ctx, d_loss, *_):
        d_rows, d_head = ctx.saved_tensors
        return d_rows * d_loss, d_head * d_loss, None, None, None

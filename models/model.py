"""The Qwen3-Next architecture in PyTorch, as small as the repository's own model needs it.

It follows docs/model.md; names of weights are those of the GGUF file. Norm weights are kept ready for use
(1 already added), the convolution as [4, channels], and the MTP block is block number n_layers.
"""
import json
import math
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import ops


RECOMPUTED_FROM = 3000  # tokens


@dataclass
class Config:
    vocab: int = 4096
    hidden: int = 256
    n_layers: int = 8
    interval: int = 4  # every so many layers one of attention
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 64
    rope_dims: int = 16  # the rest of a head has no position: far facts are found by content
    rope_theta: float = 1e6
    n_k_heads: int = 2
    n_v_heads: int = 4
    dk: int = 64
    dv: int = 64
    n_experts: int = 6
    top_k: int = 2
    ff: int = 256
    shared_ff: int = 256
    eps: float = 1e-6
    context: int = 16384

    def save(self, path):
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def matrix(*shape, scale=1.0):
    return nn.Parameter(torch.randn(*shape) * (scale / math.sqrt(shape[-1])))


class DeltaNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, inner = c, c.n_v_heads * c.dv
        self.channels = 2 * c.n_k_heads * c.dk + inner
        self.attn_qkv = matrix(self.channels, c.hidden)
        self.attn_gate = matrix(inner, c.hidden)
        self.ssm_ba = matrix(2 * c.n_v_heads, c.hidden)
        self.ssm_conv1d = nn.Parameter(torch.randn(4, self.channels) * 0.25)
        # Heads forget at rates from about 1/4 to 1/1000 a token.
        self.ssm_a_log = nn.Parameter(torch.linspace(math.log(1.0), math.log(8.0), c.n_v_heads))
        step = torch.logspace(-3, -1, c.n_v_heads)
        self.ssm_dt = nn.Parameter(torch.log(torch.expm1(step)))
        self.ssm_norm = nn.Parameter(torch.ones(c.dv))
        self.ssm_out = matrix(c.hidden, inner, scale=1 / math.sqrt(2 * c.n_layers))

    def forward(self, x, _rope):
        c, (b, t, _) = self.c, x.shape
        r = c.n_v_heads // c.n_k_heads
        ba = (
            F.linear(x, self.ssm_ba.to(x.dtype)).float().view(b, t, c.n_k_heads, 2, r)
        )  # per key head: r of b, then r of a
        beta = torch.sigmoid(ba[..., 0, :].reshape(b, t, -1))
        g = -self.ssm_a_log.exp() * F.softplus(ba[..., 1, :].reshape(b, t, -1) + self.ssm_dt)
        qkv = ops.conv_silu(ops.linear(x, self.attn_qkv), self.ssm_conv1d)
        o = ops.delta_rule(qkv, g, beta, c.n_k_heads, c.n_v_heads, c.dk, c.dv)
        z = ops.linear(x, self.attn_gate).view(b, t, c.n_v_heads, c.dv)
        return ops.linear(ops.gated_norm(o, z, self.ssm_norm, c.eps).reshape(b, t, -1), self.ssm_out)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.attn_q = matrix(2 * c.n_heads * c.head_dim, c.hidden)  # per head: query, then gate
        self.attn_k = matrix(c.n_kv_heads * c.head_dim, c.hidden)
        self.attn_v = matrix(c.n_kv_heads * c.head_dim, c.hidden)
        self.attn_q_norm = nn.Parameter(torch.ones(c.head_dim))
        self.attn_k_norm = nn.Parameter(torch.ones(c.head_dim))
        self.attn_output = matrix(c.hidden, c.n_heads * c.head_dim, scale=1 / math.sqrt(2 * c.n_layers))

    def rotate(self, x, rope):
        n, (cos, sin) = self.c.rope_dims, rope
        a, b, rest = x.split([n // 2, n // 2, x.shape[-1] - n], -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def forward(self, x, rope):
        c, (b, t, _) = self.c, x.shape
        q, gate = ops.linear(x, self.attn_q).view(b, t, c.n_heads, 2, c.head_dim).unbind(3)
        k = ops.linear(x, self.attn_k).view(b, t, c.n_kv_heads, c.head_dim)
        v = ops.linear(x, self.attn_v).view(b, t, c.n_kv_heads, c.head_dim)
        q = self.rotate(ops.rms_norm(q, self.attn_q_norm, c.eps), rope)
        k = self.rotate(ops.rms_norm(k, self.attn_k_norm, c.eps), rope)
        o = attend(q, k, v)
        return ops.linear((o * torch.sigmoid(gate)).reshape(b, t, -1), self.attn_output)


def attend(q, k, v, block=512):
    """Causal, grouped. q [b, t, heads, d], k and v [b, t, kv heads, d]. Queries go in blocks that see only the
    keys before them: half of the work and of the memory of the whole square."""
    b, t, heads, d = q.shape
    kv = k.shape[2]
    q = q.transpose(1, 2).reshape(b, kv, heads // kv, t, d) * d**-0.5
    k, v = k.transpose(1, 2).unsqueeze(2), v.transpose(1, 2).unsqueeze(2)
    out = []
    for s in range(0, t, block):
        e = min(s + block, t)
        scores = q[:, :, :, s:e] @ k[:, :, :, :e].transpose(-1, -2)
        future = torch.ones(e - s, e, dtype=torch.bool, device=q.device).triu(s + 1)
        out.append(scores.masked_fill_(future, float("-inf")).softmax(-1) @ v[:, :, :, :e])
    return torch.cat(out, 3).reshape(b, heads, t, d).transpose(1, 2)


class Mixture(nn.Module):
    """Routed experts and the shared one."""

    def __init__(self, c):
        super().__init__()
        self.c, scale = c, 1 / math.sqrt(2 * c.n_layers)
        self.ffn_gate_inp = matrix(c.n_experts, c.hidden)
        self.ffn_gate_up_exps = matrix(c.n_experts, 2 * c.ff, c.hidden)
        self.ffn_down_exps = matrix(c.n_experts, c.hidden, c.ff, scale=scale)
        self.ffn_gate_inp_shexp = matrix(c.hidden, scale=0.1)
        self.ffn_gate_up_shexp = matrix(2 * c.shared_ff, c.hidden)
        self.ffn_down_shexp = matrix(c.hidden, c.shared_ff, scale=scale)

    def forward(self, x):
        """-> the sum, and how unevenly the router spreads the tokens (1 when even)."""
        flat = x.reshape(-1, x.shape[-1])
        p = F.linear(flat.float(), self.ffn_gate_inp).softmax(-1)
        weights, chosen = p.topk(self.c.top_k, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        load = torch.bincount(chosen.reshape(-1), minlength=self.c.n_experts).float() / chosen.numel()
        uneven = self.c.n_experts * (load * p.mean(0)).sum()
        y = ops.Experts.apply(
            flat, weights.to(x.dtype), chosen, self.ffn_gate_up_exps.to(x.dtype), self.ffn_down_exps.to(x.dtype)
        )
        shared = ops.linear(
            ops.swiglu_with_gradient(ops.linear(flat, self.ffn_gate_up_shexp)), self.ffn_down_shexp
        )
        y = y + shared * torch.sigmoid(flat @ self.ffn_gate_inp_shexp.to(x.dtype))[:, None]
        return y.view_as(x), uneven


class Block(nn.Module):
    def __init__(self, c, recurrent):
        super().__init__()
        self.c = c
        self.attn_norm = nn.Parameter(torch.ones(c.hidden))
        self.mixer = DeltaNet(c) if recurrent else Attention(c)
        self.post_attention_norm = nn.Parameter(torch.ones(c.hidden))
        self.experts = Mixture(c)

    def forward(self, x, rope):
        x = x + self.mixer(ops.rms_norm(x, self.attn_norm, self.c.eps), rope)
        y, uneven = self.experts(ops.rms_norm(x, self.post_attention_norm, self.c.eps))
        return x + y, uneven


class Mtp(nn.Module):
    """The extra block: from a token and the trunk's row before it, a row that predicts the token after."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.enorm = nn.Parameter(torch.ones(c.hidden))
        self.hnorm = nn.Parameter(torch.ones(c.hidden))
        self.eh_proj = matrix(c.hidden, 2 * c.hidden)
        self.block = Block(c, recurrent=False)
        self.shared_head_norm = nn.Parameter(torch.ones(c.hidden))

    def forward(self, embedded, hidden, rope):
        """embedded [b, t, hidden] of the tokens, hidden [b, t, hidden] of the positions before them."""
        pair = torch.cat(
            [ops.rms_norm(embedded, self.enorm, self.c.eps), ops.rms_norm(hidden, self.hnorm, self.c.eps)], -1
        )
        x, uneven = self.block(ops.linear(pair, self.eh_proj), rope)
        return ops.rms_norm(x, self.shared_head_norm, self.c.eps), uneven


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        # Also the output head: with so small a vocabulary and so little text one table learns faster than two.
        self.token_embd = nn.Parameter(torch.randn(c.vocab, c.hidden) * 0.02)
        self.blk = nn.ModuleList(Block(c, (i + 1) % c.interval != 0) for i in range(c.n_layers))
        self.output_norm = nn.Parameter(torch.ones(c.hidden))
        self.mtp = Mtp(c)

    def rope(self, t, like):
        n = self.c.rope_dims
        frequency = self.c.rope_theta ** (-torch.arange(0, n, 2, dtype=torch.float64) / n)
        angle = torch.arange(t, dtype=torch.float64)[:, None] * frequency
        return [x.to(like.device, like.dtype)[None, :, None] for x in (angle.cos(), angle.sin())]

    def trunk(self, tokens, dtype=torch.float32):
        """-> the rows that the output head reads [b, t, hidden], and the sum of the layers' unevenness."""
        x = F.embedding(tokens, self.token_embd).to(dtype)
        rope, total = self.rope(tokens.shape[1], x), 0
        # What a long sequence leaves in every layer would fill the memory until the backward pass, which computes
        # it again, layer by layer.
        again = torch.is_grad_enabled() and tokens.shape[1] > RECOMPUTED_FROM
        for block in self.blk:
            x, uneven = checkpoint(block, x, rope) if again else block(x, rope)
            total = total + uneven
        return ops.rms_norm(x, self.output_norm, self.c.eps), total

    def draft(self, tokens, hidden):
        """The MTP block over a whole sequence: row p predicts token p + 1 from token p and the trunk's row p - 1.
        Row 0 has no row before it and reads zeros. The embedding gets no gradient from here."""
        before = F.pad(hidden, (0, 0, 1, 0))[:, :-1]
        embedded = F.embedding(tokens, self.token_embd.detach()).to(hidden.dtype)
        return self.mtp(embedded, before, self.rope(tokens.shape[1], hidden))

    def logits(self, hidden):
        return F.linear(hidden, self.token_embd.to(hidden.dtype))

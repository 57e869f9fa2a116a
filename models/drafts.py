"""How many of the MTP block's drafts the trunk would accept, with greedy choice.

For every answer position whose context the trunk itself would have written on, the block drafts three tokens; a
draft counts when all before it were accepted. The block reads the trunk's rows up to the last known token and its
own rows after that, as an engine would feed it.
"""
import torch
import torch.nn.functional as F

import ops


def _attention(attention, x, rope, earlier):
    """Attention of the block for draft number len(earlier): keys of the trunk-fed pass far back, those of the
    drafts before at their one position each, its own last. earlier: [(k, v)] of the passes before."""
    c, (b, t, _) = attention.c, x.shape
    q, gate = F.linear(x, attention.attn_q).view(b, t, c.n_heads, 2, c.head_dim).unbind(3)
    k = F.linear(x, attention.attn_k).view(b, t, c.n_kv_heads, c.head_dim)
    v = F.linear(x, attention.attn_v).view(b, t, c.n_kv_heads, c.head_dim)
    q = attention.rotate(ops.rms_norm(q, attention.attn_q_norm, c.eps), rope)
    k = attention.rotate(ops.rms_norm(k, attention.attn_k_norm, c.eps), rope)
    passes = earlier + [(k, v)]
    depth, r = len(passes), c.n_heads // c.n_kv_heads
    back = torch.arange(t)[:, None] - torch.arange(t)[None]  # how far a key lies behind the query
    scores, values = [], []
    for i, (keys, vals) in enumerate(passes):
        keys, vals = (z.repeat_interleave(r, 2).transpose(1, 2) for z in (keys, vals))
        s = q.transpose(1, 2) @ keys.transpose(-1, -2) * c.head_dim**-0.5
        reach = back >= depth - 1 if i == 0 else back == depth - 1 - i
        scores.append(s.masked_fill(~reach, float("-inf")))
        values.append(vals)
    o = (torch.cat(scores, -1).softmax(-1).nan_to_num() @ torch.cat(values, 2)).transpose(1, 2)
    return F.linear((o * torch.sigmoid(gate)).reshape(b, t, -1), attention.attn_output), (k, v)


@torch.no_grad()
def acceptance(model, examples, depth=3):
    """examples: [(ids, weights)] -> the shares of accepted first, second, ... drafts, each of those whose
    predecessors were accepted."""
    accepted, tried, mtp = [0] * depth, [0] * depth, model.mtp
    block = mtp.block
    for ids, weights in examples:
        tokens = torch.tensor([ids])
        t = tokens.shape[1]
        if t < depth + 2:
            continue
        hidden, _ = model.trunk(tokens)
        chosen = model.logits(hidden)[0].argmax(-1)  # [p]: the trunk's choice for p + 1
        rope = model.rope(t, hidden)
        row, known, passes = F.pad(hidden, (0, 0, 1, 0))[:, :-1], tokens, []
        # Position p of draft d stands for p, started d positions before it.
        learned = torch.tensor(weights) > 0
        alive = F.pad(learned[1:], (0, 1))  # the token at p + 1 is an answer's
        for d in range(depth):
            pair = torch.cat(
                [
                    ops.rms_norm(F.embedding(known, model.token_embd), mtp.enorm, model.c.eps),
                    ops.rms_norm(row, mtp.hnorm, model.c.eps),
                ],
                -1,
            )
            x = F.linear(pair, mtp.eh_proj)
            mixed, kv = _attention(block.mixer, ops.rms_norm(x, block.attn_norm, model.c.eps), rope, passes)
            passes.append(kv)
            x = x + mixed
            x = x + block.experts(ops.rms_norm(x, block.post_attention_norm, model.c.eps))[0]
            out = ops.rms_norm(x, mtp.shared_head_norm, model.c.eps)
            drafted = model.logits(out)[0].argmax(-1)
            hit = alive & (drafted == chosen)
            tried[d] += int(alive[d : t - depth + d].sum())
            accepted[d] += int(hit[d : t - depth + d].sum())
            # Go on only where the text goes on as drafted: there the trunk's choices are those of its own text.
            goes_on = hit & F.pad(chosen[:-1] == tokens[0, 1:], (0, 1))
            alive = F.pad(goes_on, (1, 0))[:-1]
            row, known = F.pad(out, (0, 0, 1, 0))[:, :-1], F.pad(drafted[None], (1, 0))[:, :-1]
    return [a / max(1, n) for a, n in zip(accepted, tried)]

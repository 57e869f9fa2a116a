"""Writing GGUF files: metadata, then tensors in F32, F16 or BF16."""
import struct

import numpy as np

ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_TYPES = {"F32": 0, "F16": 1, "BF16": 30}
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}  # general.file_type


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    """Type and bytes. Whole numbers are uint32 alone and int32 in lists, as other writers do it."""
    if isinstance(value, bool):
        return BOOL, struct.pack("<B", value)
    if isinstance(value, int):
        return UINT32, struct.pack("<I", value)
    if isinstance(value, float):
        return FLOAT32, struct.pack("<f", value)
    if isinstance(value, str):
        return STRING, _string(value)
    if not value:
        raise ValueError("an empty list has no type")
    if isinstance(value[0], bool):
        kind, data = BOOL, bytes(value)
    elif isinstance(value[0], int):
        kind, data = INT32, np.asarray(value, "<i4").tobytes()
    else:
        kind, data = STRING, b"".join(map(_string, value))
    return ARRAY, struct.pack("<IQ", kind, len(value)) + data


def _encode(array, kind):
    array = np.ascontiguousarray(array, np.float32)
    if kind == "F32":
        return array.astype("<f4").tobytes()
    if kind == "F16":
        return array.astype("<f2").tobytes()
    bits = array.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # to nearest, ties to even


def write(path, metadata, tensors):
    """metadata: (key, value) pairs; tensors: (name, array, type name). Dimensions are written fastest first."""
    padded = lambda n: -(-n // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata:
        kind, data = _value(value)
        head += _string(key) + struct.pack("<I", kind) + data
    offset = 0
    for name, array, kind in tensors:
        dims = array.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TENSOR_TYPES[kind], offset)
        offset += padded(array.size * (4 if kind == "F32" else 2))
    with open(path, "wb") as file:
        file.write(head.ljust(padded(len(head)), b"\0"))
        for _, array, kind in tensors:
            data = _encode(array, kind)
            file.write(data.ljust(padded(len(data)), b"\0"))

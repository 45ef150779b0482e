"""Several windows of one model in one file: a subgraph and a signature each, every weight stored once.

Each window is converted and quantised by itself, with the same ranges, and joined here through the schema's
objects: whatever is equal in two of them (constants, scales, op tables) then lies in the file once. A
window computes bit by bit what its own file computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.finish import set_versions, share_buffers
from tflite_asr.quantize.serialize import read_model, schema, signature_names, write_model


def merge(parts: Sequence[bytes]) -> bytes:
    """One flatbuffer with the signatures of all `parts`, in their order.

    Raises TfliteAsrError where a part has no signature or more than one subgraph, or two have a signature
    of one name.
    """
    merged: Any = None
    for data in parts:
        model = read_model(data)
        names = signature_names(model)
        if len(model.subgraphs) != 1 or len(names) != 1:
            raise TfliteAsrError(
                f"windows: a part has {len(model.subgraphs)} subgraphs and signatures {names}; each needs one"
            )
        if merged is None:
            merged = schema.ModelT(3, [], [], None, [schema.BufferT()], None, None, [])
        if names[0] in signature_names(merged):
            raise TfliteAsrError(f"windows: signature {names[0]!r} is in two parts; give each window once")
        for tensor in model.subgraphs[0].tensors:
            tensor.buffer += len(merged.buffers)
        for operator in model.subgraphs[0].operators:
            operator.opcodeIndex += len(merged.operatorCodes)
        model.signatureDefs[0].subgraphIndex = len(merged.subgraphs)
        merged.buffers += model.buffers
        merged.operatorCodes += model.operatorCodes
        merged.subgraphs += model.subgraphs
        merged.signatureDefs += model.signatureDefs
    if merged is None:
        raise TfliteAsrError("windows: no part to merge; give at least one window")
    set_versions(merged)
    share_buffers(merged)
    return write_model(merged)

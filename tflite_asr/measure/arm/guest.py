"""Runs inside the emulated core: opens flatbuffers, runs them, and marks the inferences that are to be counted.

`python3.11 guest.py SITE JOBS.json`, in a folder that holds what JOBS.json names: a list of
`{"model", "signature", "inputs": [FILE.npz, ...], "labels": [int, ...], "outputs": FILE.npz}`. Each job runs once on
its first inputs to warm up; then, for each label, once on each of its inputs, with a mark of that label behind each
run and a mark 0 before it. What is between the marks is `Invoke` alone. Outputs are those of the last label, their
names prefixed by `<index of the inputs>:`. maps.txt gets the program's memory map.

Nothing but NumPy and the LiteRT release that prepare-core pins is there to be imported, hence the runner's inner parts.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path


def main(site: str, jobs: str) -> None:
    """Run all jobs."""
    sys.path.insert(0, site)
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    libc = ctypes.CDLL(None)

    def mark(label: int) -> None:
        libc.getpriority(0x5AFE, label)

    for job in json.loads(Path(jobs).read_text()):
        interpreter = Interpreter(model_path=job["model"], num_threads=1)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(job["signature"])
        engine, graph, tensors = runner._interpreter_wrapper, runner._subgraph_index, runner._inputs
        given = [dict(np.load(file)) for file in job["inputs"]]
        runner(**given[0])
        outputs = {}
        for label in job["labels"]:
            for index, inputs in enumerate(given):
                for name, value in inputs.items():
                    engine.SetTensor(tensors[name], value, graph)
                mark(0)
                engine.Invoke(graph)
                mark(label)
                for name, tensor in runner._outputs:
                    outputs[f"{index}:{name}"] = engine.GetTensor(tensor, graph)
        np.savez(job["outputs"], **outputs)
    mark(0)
    Path("maps.txt").write_text(Path("/proc/self/maps").read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])

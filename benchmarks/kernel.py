"""What an empirical neural tangent kernel costs, against neural-tangents.

    KERAS_BACKEND=jax python benchmarks/kernel.py PYTHON [rounds [METHOD ...]]

PYTHON is that of an environment with neural-tangents 0.6.5 and a JAX that runs it: jax and jaxlib
0.4.20, numpy below 1.27, scipy below 1.12. The two processes compute by turns, so that whatever
else the machine does hits both; ratios are taken within each turn. Kernels are of all pairs of
outputs, of 64 inputs with 64 others, and times include bringing them to NumPy. Values must agree.
The rounds are against the fastest METHOD of neural-tangents, of all three if none is named.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

import measuring
import subjects
from keras_nladv import tangent

INPUTS = 64


def dense():
    """An MLP with 300 and 100 units."""
    units = [layers.Dense(each, "relu") for each in (300, 100)]
    return keras.Sequential([keras.Input((784,)), *units, layers.Dense(10)])


def halves(model, inputs):
    """Two batches of random inputs."""
    shape = (2, inputs, *model.input_shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def rows(title, build, inputs, rounds):
    """Times our kernel of a network alone; see `measuring.by_turns`."""
    model = build()
    x1, x2 = halves(model, inputs)
    kernel = {f"{inputs} with {inputs} inputs": lambda: tangent.empirical_ntk(model, x1, x2)}
    return measuring.by_turns(title, kernel, rounds)


def timed(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


if __name__ == "__main__":
    python, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15
    methods = sys.argv[3:] or [
        "STRUCTURED_DERIVATIVES",
        "JACOBIAN_CONTRACTION",
        "NTK_VECTOR_PRODUCTS",
    ]
    with tempfile.TemporaryDirectory() as directory:
        command = [python, str(Path(__file__).with_name("kernel_by_neural_tangents.py")), directory]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def asked(name, method):
            """Seconds of the other process."""
            print(f"{name}/{method}", file=other.stdin, flush=True)
            return float(other.stdout.readline())

        print(f"{measuring.setting()}; {other.stdout.readline().strip()}; {rounds} rounds")
        for name, build in {"LeNet-5-Caffe": subjects.lenet, "MLP 300-100": dense}.items():
            rng = np.random.default_rng(0)
            model = build()
            model.set_weights([rng.normal(0, 0.1, each.shape) for each in model.weights])
            x1, x2 = halves(model, INPUTS)
            np.savez(f"{directory}/{name}.npz", x1, x2, *model.get_weights())
            first, kernel = timed(tangent.empirical_ntk, model, x1, x2)
            print(f"\n{name}: first call {first:.2f} s")

            theirs = {}
            for method in methods:
                first = asked(name, method)
                expected = np.load(f"{directory}/kernel.npy")
                error = np.abs(kernel - expected).max() / np.abs(expected).max()
                theirs[method] = asked(name, method)
                print(
                    f"  {method}: {theirs[method]:.3f} s, first {first:.2f} s, "
                    f"differs by {error:.0e}"
                )
                assert error < 1e-5
            best = min(theirs, key=theirs.get)

            pairs = [
                (timed(tangent.empirical_ntk, model, x1, x2)[0], asked(name, best))
                for _ in range(rounds)
            ]
            ours, theirs = np.median(pairs, axis=0)
            low, ratio, high = np.percentile([a / b for a, b in pairs], [25, 50, 75])
            print(f"  ours {1e3 * ours:.1f} ms, {best} {1e3 * theirs:.1f} ms")
            print(f"  ratio {ratio:.3f} ({low:.3f}-{high:.3f})")
        other.stdin.close()
        other.wait()

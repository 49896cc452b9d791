"""The other side of `kernel.py`: kernels by neural-tangents, in an environment of its own.

That script starts it. For each line that it reads from standard input, the names of a network and
of a method, it computes a kernel, and writes how many seconds it took.
"""

import sys
import time

import jax
import neural_tangents
import numpy as np
from jax import lax, nn

directory = sys.argv[1]


def pooled(x):
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def convolved(x, kernel, bias):
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=axes) + bias


def lenet(weights, x):
    kernel1, bias1, kernel2, bias2, *dense = weights
    x = pooled(nn.relu(convolved(x, kernel1, bias1)))
    x = pooled(nn.relu(convolved(x, kernel2, bias2)))
    return mlp(dense, x.reshape(len(x), -1))


def mlp(weights, x):
    *hidden, last = zip(weights[::2], weights[1::2])
    for kernel, bias in hidden:
        x = nn.relu(x @ kernel + bias)
    return x @ last[0] + last[1]


NETWORKS = {"LeNet-5-Caffe": lenet, "MLP 300-100": mlp}
functions = {}

print(f"neural-tangents {neural_tangents.__version__}, jax {jax.__version__}", flush=True)
for line in sys.stdin:
    name, method = line.strip().split("/")
    with np.load(f"{directory}/{name}.npz") as saved:
        x1, x2, *weights = saved.values()
    if line not in functions:
        functions[line] = jax.jit(
            neural_tangents.empirical_ntk_fn(
                NETWORKS[name],
                trace_axes=(),
                vmap_axes=0,
                implementation=neural_tangents.NtkImplementation[method],
            )
        )
    began = time.perf_counter()
    kernel = np.asarray(functions[line](x1, x2, weights))
    seconds = time.perf_counter() - began
    np.save(f"{directory}/kernel.npy", kernel)
    print(seconds, flush=True)

"""How much faster `collapse` makes networks whose units are linear in part.

    KERAS_BACKEND=jax python benchmarks/surgery.py [inverted|ffn|networks|borders|CASE] [batch size]

Linear units are chosen at random, the same on both sides of a depthwise convolution. The original,
with its own activations, and the collapsed network run by turns until the median of the ratio
within a turn is known to 2 %, or for half a minute.

A CASE is one of the networks that are printed, as "inverted residual 48". `borders` is about what
`collapse` refuses, two padded convolutions of 3 taps with nothing but linear units between them:
how much faster one of 5 taps is, which is wrong along the borders. Strips that mend it would come
on top.
"""

import sys
import time
from collections import ChainMap

import keras
import numpy as np

import keras_nladv
import measuring
import subjects
from keras_nladv.merging.linear_layers import CONVOLUTIONS

NETWORKS = ("ResNet-20", "ResNet-56", "VGG16", "MobileNetV2", "EfficientNetB0", "ViT")
part = sys.argv[1] if len(sys.argv) > 1 else "inverted"
batch_size = int(sys.argv[2]) if len(sys.argv) > 2 else 32
layers = keras.layers
rng = np.random.default_rng(0)


def network(name):
    if name == "ViT":
        return subjects.vision_transformer()
    if name.startswith("ResNet-"):
        return subjects.resnet(int(name[7:]))
    return subjects.application(name)


def padded(rank, size, taps, *widths):
    inputs = x = keras.Input((*(size,) * rank, widths[0]))
    for width in widths[1:]:
        x = CONVOLUTIONS[rank](width, taps, padding="same")(x)
    return keras.Model(inputs, x)


all_cases = {
    "inverted": {
        f"inverted residual {c}": (lambda c=c: subjects.inverted_residual(c), (0.5, 0.75, 0.9, 1.0))
        for c in (24, 48, 96)
    },
    "ffn": {"feed-forward 512, 2048": (subjects.feed_forward, (0.5, 0.75, 0.9, 1.0))},
    "networks": {
        name: (lambda name=name: network(name), (0.0, 0.5, 0.9, 1.0)) for name in NETWORKS
    },
}


def speedup(model, other):
    """How many times as fast the other is: the median, and an interval that holds it by 95 %."""
    timings = keras_nladv.milliseconds([model, other], batch_size=batch_size, seconds=30)
    return [timings.rows[1][f"times_as_fast{end}"] for end in ("", "_low", "_high")]


print(f"{measuring.setting()}; batches of {batch_size}")
if part == "borders":
    for rank, size, *widths in ((2, 96, 3, 64, 64), (2, 32, 64, 64, 64), (1, 256, 64, 64, 64)):
        pair, one = padded(rank, size, 3, *widths), padded(rank, size, 5, widths[0], widths[-1])
        median, low, high = speedup(pair, one)
        print(
            f"Conv{rank}D {widths} at {size}   {median:5.2f} ({low:4.2f}-{high:4.2f})", flush=True
        )
    sys.exit()
cases = all_cases.get(part) or {part: ChainMap(*all_cases.values())[part]}
print("                           linear   times as fast (95 %)   merged   planned in")
for name, (build, shares) in cases.items():
    for share in shares:
        keras.utils.set_random_seed(0)
        model = build()
        sparse = subjects.linearized(model, share, rng)
        began = time.perf_counter()
        plan = keras_nladv.collapse_plan(sparse, batch_size=batch_size, verbose=False)
        seconds = time.perf_counter() - began
        collapsed = keras_nladv.collapse(sparse, plan)
        median, low, high = speedup(model, collapsed)
        merged = sum(map(len, plan.taken))
        print(
            f"{name:26} {share:6.0%}   {median:5.2f} ({low:4.2f}-{high:4.2f})   {merged:10}   "
            f"{seconds:8.1f} s",
            flush=True,
        )

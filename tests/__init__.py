import importlib.metadata
import os

from packaging.version import Version

# Tests compile much and compute little. Before the backend starts, and for processes of recipes.
# Keras has TensorFlow compile with XLA, too, what it trains and predicts with.
if os.environ.get("KERAS_BACKEND") in ("jax", "tensorflow"):
    flags = ["--xla_backend_optimization_level=0"]
    # Halves what it takes to compile something small; later versions do not know it.
    jax = os.environ["KERAS_BACKEND"] == "jax"
    if jax and Version(importlib.metadata.version("jaxlib")) < Version("0.11"):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags])

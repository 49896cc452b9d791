"""Starts a recipe on a CPU that is two devices: `python on_two_devices.py RECIPE ARGUMENTS`."""

import os
import runpy
import sys

if os.environ["KERAS_BACKEND"] == "jax":
    flag = "--xla_force_host_platform_device_count=2"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
elif os.environ["KERAS_BACKEND"] == "tensorflow":
    import tensorflow as tf

    (CPU,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")

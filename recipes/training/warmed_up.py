import math

import keras
from keras import ops


class WarmedUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly, and then falls twice: before and after a step.

    Args:
        peak: Float, the highest rate.
        warm_up: Integer, the number of steps in which it rises.
        start: Integer, the step at which the second fall begins.
        end: Integer, the last step.
        decay: `"cosine"`, which falls to 0 in each phase, or `"inverse-sqrt"` (Vaswani et al.
            2017), which falls as if there were one phase.
    """

    def __init__(self, peak, warm_up, start, end, decay):
        super().__init__()
        self.peak, self.warm_up, self.start, self.end = peak, warm_up, start, end
        self.decay = decay

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warm = ops.minimum(1.0, (step + 1) / max(self.warm_up, 1))
        if self.decay == "inverse-sqrt":
            fallen = ops.rsqrt(ops.maximum(1.0, step / max(self.warm_up, 1)))
        else:
            later = step >= self.start
            since = ops.where(later, step - self.start, step)
            # As floats: TensorFlow does not divide by integers.
            first, second = (float(max(n, 1)) for n in (self.start, self.end - self.start))
            steps = ops.where(later, second, first)
            fallen = 0.5 * (1 + ops.cos(math.pi * ops.minimum(1.0, since / steps)))
        return self.peak * warm * fallen

    def get_config(self):
        names = ("peak", "warm_up", "start", "end", "decay")
        return {name: getattr(self, name) for name in names}

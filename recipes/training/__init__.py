"""How networks are trained: optimizers, schedules, devices, and what is watched meanwhile."""

"""`train(cfg)`: the loop, the step, what is compiled, where it runs, checkpoints; and `trajectory` over landscapes.

Read `loop.py` first. This room trains what it is given and knows nothing of sweeps, comparisons or pages.
"""

from momentum_jax.training.loop import Interrupted, batch_indices, initial_params, train
from momentum_jax.training.trajectories import Trajectory, trajectory

__all__ = ["Interrupted", "Trajectory", "batch_indices", "initial_params", "train", "trajectory"]

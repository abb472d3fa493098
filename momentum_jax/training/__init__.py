"""`train(cfg)`: the loop, the step, what is compiled, where it runs, checkpoints; and `trajectory` over landscapes.

`train` is in `loop.py` (the host's loop), which uses `step.py` (one iteration), `groups.py` (which runs share a
program), `compile.py` (many runs as one program) and `devices.py` (where they go). `sampling.py` draws initial weights
and batches, `validate.py` refuses what cannot be trained, and `checkpoint.py` keeps the state of a training in a file.
`run.py` shows the same computation as one short, pure function of one run.

Beside the training: `trajectories.py` (paths over landscapes), `cost.py` (seconds of one iteration), `convolutions.py`
(faster gradients of convolutions on a CPU). This room trains what it is given: nothing here knows of sweeps,
comparisons or pages.
"""

from momentum_jax.training.loop import Interrupted, batch_indices, initial_params, train
from momentum_jax.training.run import make_run
from momentum_jax.training.trajectories import Trajectory, trajectory

__all__ = ["Interrupted", "Trajectory", "batch_indices", "initial_params", "make_run", "train", "trajectory"]

"""`train(cfg)`: the loop, the step, what is compiled, where it runs, checkpoints; and `trajectory` over landscapes.

`train` is in `loop.py` (the host's loop), which uses `state.py` (what a training is between two chunks), `step.py` (one
iteration) with `objective.py` (the task's loss in one form), `groups.py` (which runs share a program), `compile.py` and
`program.py` (many runs as one program), `devices.py` (where they go) and `feed.py` (data that stay on the host).
`sampling.py` draws initial weights, batches and keys, `validate.py` refuses what cannot be trained, `checkpoint.py`
keeps the state of a training in a file, and `recorded.py` hands what is recorded to a callback. `run.py` shows the same
computation as one short, pure function of one run, and `replay.py` gives what a run started from and saw.

Beside the training: `trajectories.py` (paths over landscapes), `cost.py` (seconds of one iteration), `convolutions.py`
(faster gradients of convolutions on a CPU). This room trains what it is given: nothing here knows of sweeps,
comparisons or pages.
"""

from momentum_jax.training.loop import Interrupted, train
from momentum_jax.training.recorded import Recorded
from momentum_jax.training.replay import batch_indices, initial_params, step_keys
from momentum_jax.training.run import make_run
from momentum_jax.training.trajectories import Trajectory, trajectory

__all__ = [
    "Interrupted",
    "Recorded",
    "Trajectory",
    "batch_indices",
    "initial_params",
    "make_run",
    "step_keys",
    "train",
    "trajectory",
]

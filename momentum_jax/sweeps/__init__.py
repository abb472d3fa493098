"""`sweep(cfg, space)`: trains grids and searches over devices or a Ray cluster, durably.

`driver` is the call, `plan` lists all runs and refuses those that cannot be trained, `resume` decides which of them are
still to be trained and keeps what is finished, and `batches` trains runs on devices. `workers` and `cluster` say which
devices train, `status` tells how far the sweep is. `host` has the runs of a training loop that is not ours. Nothing
here changes the bits of a run, and `training` knows nothing of sweeps.
"""

from momentum_jax.sweeps.driver import sweep

__all__ = ["sweep"]

"""`sweep(cfg, space)`: grids and searches laid over devices, durable and resumable, and over machines with Ray."""

from momentum_jax.sweeps.procedure import sweep

__all__ = ["sweep"]

"""What runs leave behind, in memory and on disk: the record of a run, results, tables, a sweep's folder, fingerprints.

This room reads and writes; it trains nothing and judges nothing.
"""

from momentum_jax.results.result import Result

__all__ = ["Result"]

"""`compare(cfg, a, b)`: tunes optimizers alike, trains them side by side, judges, and says it in words.

`procedure.py` is the way from the question to the answer; `protocols.py` says how optimizers are set beside each other,
`tuning.py` how each is tuned, `judging.py` has the numbers and `wording.py` the sentences.
"""

from momentum_jax.comparison.procedure import Comparison, compare, compare_results

__all__ = ["Comparison", "compare", "compare_results"]

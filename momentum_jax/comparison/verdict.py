"""The verdict on two optimizers: the type that `judging.py` fills with numbers and `wording.py` puts into words."""

from typing import Literal, NamedTuple

from momentum_jax.analysis import Interval

Outcome = Literal["better", "worse", "equivalent", "no difference found", "no verdict"]


class Verdict(NamedTuple):
    """What may be said of two optimizers by one metric in one protocol.

    Attributes:
      protocol: the name of the protocol.
      metric: the name of the metric.
      a: the label of the optimizer that is judged.
      b: the label of the optimizer that it is held against, which was given earlier.
      pairs: how many seeds both have finished runs of.
      median_a: the median of a's runs; of the metric "failed" the proportion.
      median_b: the same of b's.
      difference: a − b and its interval, which the outcome rests on: the median of the paired differences; of the
        metric "failed" the difference of the proportions. NaN where there are too few seeds for the level.
      mean: the mean of the paired differences, with Student's t interval.
      wins: the probability that a does better than b with the same seed.
      outcome: what a is, compared with b.
      sentence: the outcome in words.
    """

    protocol: str
    metric: str
    a: str
    b: str
    pairs: int
    median_a: float
    median_b: float
    difference: Interval
    mean: Interval
    wins: Interval
    outcome: Outcome
    sentence: str

"""What runs leave behind, in memory and on disk.

`record` is what one run leaves, `result` the arrays of many runs, `tables` their descriptions as rows, `parquet` the
one codec for records, `result_folder` and `store` the folders of a training and of a sweep, `fingerprint` what a
folder or checkpoint belongs to. This room reads and writes; it trains nothing and judges nothing.
"""

from momentum_jax.results.result import Result

__all__ = ["Result"]

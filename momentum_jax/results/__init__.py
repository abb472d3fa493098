"""What runs leave behind, in memory and on disk.

`record` is what one run leaves, `stacked` the records of many runs as arrays, `result` what users get of them, and
`tables` their descriptions as rows. `summary` is what is shown of a result, and `labelled` has its arrays for xarray.
`parquet` turns records into rows and back, `result_folder` and `store` write the folders of a training and of a sweep,
`stored` checks what was read from them, and `fingerprint` says what a folder or checkpoint belongs to. This room reads
and writes; it trains nothing and judges nothing. Methods that show a result ask `report`, and `comparison` for the
answer, when they are called.
"""

from momentum_jax.results.result import Result

__all__ = ["Result"]

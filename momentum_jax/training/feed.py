"""Reading the examples of data on the host for one chunk of iterations while the chunk before it trains."""

from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int32, PyTree

from momentum_jax.tasks import HostData


class Feed:
    """Examples of data on the host, read in a thread of its own.

    Args:
      data: where they are.
    """

    def __init__(self, data: HostData):
        self._data = data
        self._thread = ThreadPoolExecutor(1, "momentum-jax-feed")
        self._ahead: dict[Hashable, Future[PyTree[np.ndarray]]] = {}

    def begin(self, key: Hashable, rows: Int32[Array, "..."]) -> None:
        """Begins to read the rows of a chunk, unless that has begun."""
        if key not in self._ahead:
            self._ahead[key] = self._thread.submit(self._read, rows)

    def take(self, key: Hashable, rows: Int32[Array, "..."]) -> PyTree[np.ndarray]:
        """The examples of a chunk [rows, …], in the order of its rows.

        Raises:
          InputError: they cannot be read.
        """
        self.begin(key, rows)
        return self._ahead.pop(key).result()

    def forget(self) -> None:
        """Lets go of what was begun and not taken: chunks of runs some of which have diverged since."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def _read(self, rows: Any) -> PyTree[np.ndarray]:
        return self._data.read(np.asarray(jax.device_get(rows)).reshape(-1))

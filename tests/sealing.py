"""Changes files of a folder so that their digests agree with what they then hold."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from momentum_jax._base.reading import DIGEST, seal


def rewrite_sealed(path: pathlib.Path, change: Callable[[Any], Any]) -> None:
    """Replaces the JSON object in a file by what a function makes of it, with a digest that is right."""
    value = json.loads(path.read_bytes())
    del value[DIGEST]
    path.write_text(json.dumps(seal(change(value))))

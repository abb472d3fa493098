"""What the page shows of a result, as JSON types. The scripts in `assets/` draw it and compute nothing else.

`documents.py` makes the document of a comparison, a sweep or a training, and `tasks.py` that of a comparison over
tasks; each other module makes one part of it, for
the script of the same purpose.
"""

from momentum_jax.report.document.documents import (
    Document,
    comparison_document,
    sweep_document,
    training_document,
)
from momentum_jax.report.document.tasks import tasks_document

__all__ = ["Document", "comparison_document", "sweep_document", "tasks_document", "training_document"]

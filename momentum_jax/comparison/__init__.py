"""`compare(cfg, a, b)`: tunes optimizers alike, trains them side by side, judges the runs, and writes the verdicts.

Exports `compare`, `compare_results`, `Comparison` and `answer_of`; `compare_tasks`, `TaskComparison` and
`answer_of_tasks` do the same over several tasks. Each step has a file:

- `procedure.py`: `compare`, the steps in their order;
- `planning.py`: what `compare` is given, checked and planned;
- `protocols.py`: how optimizers are set beside each other, by learning rate or by effective learning rate;
- `counts.py`: how many runs that will be;
- `budget.py`: how many fit into a time;
- `tuning.py`: the trials, seeds and held-out examples of the tuning, the reruns, and the best trial of each optimizer;
- `metrics.py`, `arms.py`: what optimizers are judged by, and the runs of one optimizer with their values;
- `target.py`: the target loss that the tuning gives, and the times to it;
- `judging.py`, `verdict.py`: the numbers of a verdict, all pairs and protocols in `result.py`;
- `wording.py`: every sentence and note;
- `answer.py`, `answer_sentences.py`: the answer in two sentences, of a comparison, a sweep or a training;
- `folder.py`: `comparison.json`;
- `summary.py`: what is shown of a comparison;
- `across_tasks.py`, `task_comparison.py`, `task_answer.py`: `compare_tasks`, its profiles and summary, and its answer;
- `task_folder.py`: `tasks.json`;
- `suite.py`: tasks to compare on.

Nothing here trains by itself: the runs are those of `sweep`, and of `train` where iterations are timed.
"""

from momentum_jax.comparison.across_tasks import compare_tasks
from momentum_jax.comparison.answer import answer_of
from momentum_jax.comparison.procedure import compare, compare_results
from momentum_jax.comparison.result import Comparison
from momentum_jax.comparison.task_answer import answer_of_tasks
from momentum_jax.comparison.task_comparison import TaskComparison

__all__ = [
    "Comparison",
    "TaskComparison",
    "answer_of",
    "answer_of_tasks",
    "compare",
    "compare_results",
    "compare_tasks",
]

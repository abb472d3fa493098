"""The compiled program of some runs: it draws, trains and evaluates them, wherever they are."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Int32, PyTree

from momentum_jax._base.trees import blank
from momentum_jax.config import Config, recorded_iterations
from momentum_jax.results.record import Run
from momentum_jax.tasks import Data, Task, Variables
from momentum_jax.training.devices import Capacity, Layout, replicate, share
from momentum_jax.training.feed import Feed
from momentum_jax.training.groups import Group
from momentum_jax.training.sampling import draw_variables, init_key
from momentum_jax.training.step import History, TrainState, evaluation_variables
from momentum_jax.training.validate import traced_arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GroupState:
    """Some runs of a group on their way, on the group's devices.

    Attributes:
      group: its number.
      positions: which of the group's runs, ascending.
      active: which of them are trained; those that have diverged are not.
      places: where each is in the arrays.
      hyperparameters: the traced ones, by name, with a leading axis of places laid over the devices.
      train_states: likewise.
    """

    group: int = dataclasses.field(metadata={"static": True})
    positions: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    active: tuple[bool, ...] = dataclasses.field(metadata={"static": True})
    places: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    hyperparameters: dict[str, Float[Array, " places"]]
    train_states: TrainState


States = tuple[GroupState, ...]
"""Runs that are trained together, one entry for each group that has some of them."""
Batches = dict[int, tuple[Int32[Array, "places chunk batch"], dict[int, int]]]
"""By batch size, the rows of the training data of a chunk, and the place of each seed."""


@dataclasses.dataclass(frozen=True)
class Program:
    """All that the training of some runs needs, compiled.

    Attributes:
      cfg: of the runs.
      task: likewise.
      layout: how each device goes through its runs.
      groups: the runs.
      capacities: how many runs of each group are trained at once, and where.
      histories: the shapes and dtypes of what one iteration of a run of each group records.
      draws: by batch size, from seeds and the first iteration to the batches of a chunk; and for how many seeds.
      inits: for each group, from hyperparameters and parameters to the states that its runs start from.
      chunks: for each group, `train_chunk`.
      evaluations: for each group, the task's evaluation.
      data: the training and test data on each mesh; of data on the host, what is evaluated.
      feed: reads the training data that are on the host.
    """

    cfg: Config
    task: Task
    layout: Layout
    groups: Sequence[Group]
    capacities: Sequence[Capacity]
    histories: Sequence[History]
    draws: Mapping[int, tuple[jax.stages.Compiled, Capacity]]
    inits: Sequence[jax.stages.Compiled]
    chunks: Sequence[jax.stages.Compiled]
    evaluations: Sequence[jax.stages.Compiled]
    data: Mapping[Mesh, tuple[Data, Data | None]]
    feed: Feed | None = None

    def init(self, runs: Sequence[Run]) -> States:
        """The states that some runs start from, no more of each group than its capacity."""
        weights: dict[tuple[int, str | None], Variables] = {}
        states = []
        by_group: dict[int, list[int]] = {}
        for run in runs:
            number, position = self._places[run]
            by_group.setdefault(number, []).append(position)
        for number, positions in sorted(by_group.items()):
            group, capacity = self.groups[number], self.capacities[number]
            positions.sort()
            keys = [(group.runs[i].seed, None if self.cfg.shared_init else group.runs[i].label) for i in positions]
            for key in keys:
                if key not in weights:
                    weights[key] = jax.device_get(draw_variables(self.task, init_key(*key), self.cfg.dtype))
            active = (True,) * len(positions)
            places = capacity.deal(active)
            hyperparameters = capacity.stack([traced_arrays(group.traced[i]) for i in positions], places)
            variables = capacity.stack([weights[key] for key in keys], places)
            _, train_states = self.inits[number](capacity.mask(active, places), (), (hyperparameters, variables), ())
            states.append(GroupState(number, tuple(positions), active, places, hyperparameters, train_states))
        return tuple(states)

    @functools.cached_property
    def recorded(self) -> Int[np.ndarray, " recorded"]:
        """The iterations that histories hold."""
        return recorded_iterations(self.cfg)

    @functools.cached_property
    def evaluation_cost(self) -> float:
        """About how many iterations of a run an evaluation of it costs.

        An example costs a third of what it does in training: a gradient takes twice as long as the loss.
        """
        examples = sum(len(leaf) for data in self.task.evaluation_data for leaf in jax.tree.leaves(data)[:1])
        return examples / 3 / float(np.mean([group.batch_size for group in self.groups]))

    @functools.cached_property
    def _places(self) -> dict[Run, tuple[int, int]]:
        """The group of each run, and its position there."""
        return {run: (number, i) for number, group in enumerate(self.groups) for i, run in enumerate(group.runs)}

    def runs_of(self, states: States) -> list[Run]:
        """The runs of some states, in their order."""
        return [self.groups[state.group].runs[i] for state in states for i in state.positions]

    def step(self, states: States, start: int, stop: int) -> tuple[States, list[History | None]]:
        """Trains the active runs for the iterations start … stop − 1, at most a chunk. The states are used up.

        Returns:
          The states after them and, for each group, the history of its active runs [runs, iterations, …] on the host,
          or None if there are none.
        """
        batches = self._draw(states, start)
        read = self._read(states, batches, start, stop)
        after: list[GroupState] = []
        histories: list[History | None] = []
        for state in states:
            if not any(state.active):
                after.append(state)
                histories.append(None)
                continue
            group, capacity = self.groups[state.group], self.capacities[state.group]
            drawn, of_seed = batches[group.batch_size]
            seeds = [group.runs[i].seed for i in state.positions]
            words, rows = capacity.stack(
                [(np.uint32(seed), np.int32(of_seed.get(seed, 0))) for seed in seeds], state.places
            )
            first, length = replicate((np.int32(start), np.int32(stop - start)), capacity.mesh)
            if self.feed is None:
                examples = self.data[capacity.mesh][0], replicate(drawn, capacity.mesh)
            else:
                # The examples were read in the order in which they are used.
                order = np.arange(drawn.size, dtype=np.int32).reshape(drawn.shape)
                data = share(read[group.batch_size], {capacity.mesh})[capacity.mesh]
                examples = data, replicate(order, capacity.mesh)
            shared = (first, length, *examples)
            mask = capacity.mask(state.active, state.places)
            runs = (state.hyperparameters, words, rows)
            train_states, history = self.chunks[state.group](mask, state.train_states, runs, shared)
            after.append(dataclasses.replace(state, train_states=train_states))
            histories.append(history)
        # Only here does the host wait for the training, when all groups are on their way.
        return tuple(after), [
            None if history is None else jax.tree.map(lambda a: a[:, : stop - start], self._take_active(state, history))
            for state, history in zip(states, histories, strict=True)
        ]

    def _read(self, states: States, batches: Batches, start: int, stop: int) -> dict[int, Data]:
        """By batch size, the examples of a chunk if the data are on the host. Those of the next begin to be read."""
        if self.feed is None:
            return {}
        read = {
            size: self.feed.take((size, start, tuple(of_seed)), drawn) for size, (drawn, of_seed) in batches.items()
        }
        self.feed.forget()
        if stop < self.cfg.iterations:
            # Drawn before the training, behind which the devices would make it wait.
            for size, (drawn, of_seed) in self._draw(states, stop).items():
                self.feed.begin((size, stop, tuple(of_seed)), drawn)
        return read

    def _take_active(self, state: GroupState, stacked: PyTree[jax.Array]) -> PyTree[np.ndarray]:
        """The rows of the active runs, on the host."""
        places = [place for place, active in zip(state.places, state.active, strict=True) if active]
        return self.capacities[state.group].take(stacked, places)

    def _draw(self, states: States, start: int) -> Batches:
        """By batch size, the rows of the training data of a chunk, and the place of each seed of an active run."""
        seeds: dict[int, dict[int, None]] = {}
        for state in states:
            group = self.groups[state.group]
            of_active = (group.runs[i].seed for i, active in zip(state.positions, state.active, strict=True) if active)
            seeds.setdefault(group.batch_size, {}).update(dict.fromkeys(of_active))
        batches = {}
        for batch_size, distinct in seeds.items():
            if distinct:
                draw, capacity = self.draws[batch_size]
                everyone = (True,) * len(distinct)
                places = capacity.deal(everyone)
                words = capacity.stack([np.uint32(seed) for seed in distinct], places)
                first = replicate(np.int32(start), capacity.mesh)
                _, drawn = draw(capacity.mask(everyone, places), (), words, first)
                batches[batch_size] = drawn, dict(zip(distinct, places, strict=True))
        return batches

    def leave(self, states: States, active: Sequence[Sequence[bool]]) -> States:
        """Trains no more than these runs of each group from here on, as evenly on all devices as they can be."""
        left = []
        for state, of_group in zip(states, active, strict=True):
            capacity, of_group = self.capacities[state.group], tuple(of_group)
            moved = dataclasses.replace(state, active=of_group)
            # Under "vmap" what is not active is computed too, wherever it is.
            if self.layout == "map" and not capacity.is_even(of_group, state.places):
                rows = capacity.take((state.hyperparameters, state.train_states), state.places)
                places = capacity.deal(of_group)
                hyperparameters, train_states = capacity.stack(_rows(rows, len(places)), places)
                moved = GroupState(state.group, state.positions, of_group, places, hyperparameters, train_states)
            left.append(moved)
        return tuple(left)

    def fetch(self, states: States) -> list[TrainState]:
        """The train states of each group [runs, …], on the host: what `put` takes."""
        return [self.capacities[state.group].take(state.train_states, state.places) for state in states]

    def put(self, states: States, fetched: Sequence[TrainState]) -> States:
        """The states of the same runs, come to other train states, on the devices."""
        return tuple(
            dataclasses.replace(
                state,
                train_states=self.capacities[state.group].stack(_rows(there, len(state.places)), state.places),
            )
            for state, there in zip(states, fetched, strict=True)
        )

    def variables(self, states: States) -> list[Variables]:
        """What of every run is to be evaluated, as `init` gives it, on the host."""
        return [
            row
            for state in states
            for row in _rows(self.capacities[state.group].take(self._evaluated(state), state.places), len(state.places))
        ]

    def _evaluated(self, state: GroupState) -> Variables:
        objective = self.groups[state.group].static.objective
        return jax.vmap(functools.partial(evaluation_variables, objective))(state.train_states)

    def evaluate(self, states: States, report: Callable[[int, int], None] | None = None) -> dict[str, np.ndarray]:
        """What the task's evaluation gives for each run, by name; NaN, or 0 for integers, where it is not active.

        Args:
          states: of the runs.
          report: called with the runs that are evaluated, and of how many.
        """
        variables = [self._evaluated(state) for state in states]
        values = [
            {
                name: np.full(len(state.positions), blank(one.dtype), one.dtype)
                for name, one in self.evaluations[state.group].out_info[1].items()
            }
            for state in states
        ]
        runs, done = sum(sum(state.active) for state in states), 0
        # Where devices go through their runs one after the other, so does the evaluation, and shows how far it is.
        turns = max(capacity.per_device for capacity in self.capacities) if self.layout == "map" else 1
        for turn in range(turns):
            if report is not None and runs:
                report(done, runs)
            on_their_way = [self._evaluate_turn(state, own, turn) for state, own in zip(states, variables, strict=True)]
            for state, of_group, (chosen, computed) in zip(states, values, on_their_way, strict=True):
                taken = self.capacities[state.group].take(computed, state.places)
                for name, into in of_group.items():
                    np.copyto(into, taken[name], where=chosen)
                done += int(np.sum(chosen))
        if report is not None and runs:
            report(done, runs)
        return {name: np.concatenate([of_group[name] for of_group in values]) for name in values[0]}

    def _evaluate_turn(
        self, state: GroupState, variables: Variables, turn: int
    ) -> tuple[Bool[np.ndarray, " runs"], dict[str, Array]]:
        """Evaluates the runs whose turn it is: which they are, and the values at all places."""
        capacity = self.capacities[state.group]
        chosen = np.asarray(state.active)
        if self.layout == "map":
            chosen &= np.asarray(state.places) % capacity.per_device == turn
        mask = capacity.mask(chosen.tolist(), state.places)
        _, computed = self.evaluations[state.group](mask, (), variables, self.data[capacity.mesh])
        return chosen, computed


def _rows(stacked: PyTree[np.ndarray], runs: int) -> list[Any]:
    """What belongs to each run."""
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(runs)]

"""Processes that call one function again and again. If one dies, only its own call is affected."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

from momentum_jax._base.interrupts import uninterrupted

_ATTEMPTS = 2
# How long a process may take to end before it is killed, and between two looks at whether one has died.
_SECONDS_TO_END, _SECONDS_BETWEEN_LOOKS = 5.0, 1.0


class Died(NamedTuple):
    """What stands in place of a result if the process of a call died each time that the call was made.

    Attributes:
      exit_code: of the last process; −n if signal n ended it.
      attempts: how often the call was made.
    """

    exit_code: int
    attempts: int


class StartError(RuntimeError):
    """A process ended before it could take its first call: what it needs cannot be imported there."""


class Processes:
    """Processes that are started when they are needed. Leaving the context ends them, whatever they are doing.

    They are spawned, not forked: JAX and other libraries with threads do not survive a fork.

    Args:
      function: what they call. It must be picklable, as its arguments and results are, and must not raise.
      most: how many processes there are at most.
    """

    def __init__(self, function: Callable[..., Any], most: int):
        self._function = function
        self._most = most
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            for worker in self._workers:
                worker.leave()
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    def call(self, arguments: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Calls the function with each of some arguments, and yields position and result of each call as it finishes.

        A call whose process dies is made once more, in another process. If that dies too, its result is `Died`.

        Raises:
          StartError: a process cannot import what it needs.
        """
        waiting = collections.deque((position, 1) for position in range(len(arguments)))
        while True:
            while waiting and (idle := self._idle_worker()) is not None:
                idle.begin(waiting[0], arguments[waiting[0][0]])
                waiting.popleft()
            busy = [worker for worker in self._workers if worker.call is not None]
            if not busy:
                return
            connection.wait([worker.connection for worker in busy], _SECONDS_BETWEEN_LOOKS)
            for worker in busy:
                try:
                    if not worker.has_answered():
                        continue
                    (position, _), result = worker.finish()
                except (EOFError, OSError):
                    assert worker.call is not None
                    position, attempts = worker.call
                    self._workers.remove(worker)
                    exit_code = worker.end()
                    if not worker.ready:
                        raise StartError(f"exit code {exit_code}") from None
                    if attempts < _ATTEMPTS:
                        waiting.appendleft((position, attempts + 1))
                        continue
                    result = Died(exit_code, attempts)
                yield position, result

    def _idle_worker(self) -> "_Worker | None":
        for worker in self._workers:
            if worker.call is None:
                return worker
        if len(self._workers) == self._most:
            return None
        self._workers.append(_Worker(self._function))
        return self._workers[-1]


class _Worker:
    """A process.

    Attributes:
      connection: to it.
      call: the position of the call that it is making, and which attempt that is; or None.
      ready: whether it has imported what it needs.
    """

    def __init__(self, function: Callable[..., Any]):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.call: tuple[int, int] | None = None
        self.ready = False
        self._process = context.Process(target=_serve, args=(theirs, function))
        # There is a process for each core; libraries of linear algebra would start as many threads in each of them.
        with environment_defaults({"OMP_NUM_THREADS": "1"}):
            self._process.start()
        theirs.close()

    def begin(self, call: tuple[int, int], arguments: tuple[Any, ...]) -> None:
        self.call = call
        # A process that has died is noticed where its result is looked for.
        with contextlib.suppress(OSError):
            self.connection.send(arguments)

    def has_answered(self) -> bool:
        """Whether there is a result; raises `EOFError` or `OSError` if the process has died."""
        # The process's own children may hold its end of the connection open.
        ended = self._process.exitcode is not None
        if self.connection.poll() and not self.ready:
            self.ready = self.connection.recv()
        if self.connection.poll():
            return True
        if ended:
            raise EOFError
        return False

    def finish(self) -> tuple[tuple[int, int], Any]:
        """The call that it was making, and the result."""
        assert self.call is not None
        result, call, self.call = self.connection.recv(), self.call, None
        return call, result

    def leave(self) -> None:
        """Tells an idle process to end, and stops one that makes a call."""
        self.connection.close()
        if self.call is not None:
            self._process.terminate()

    def end(self) -> int:
        """Waits for the end of the process, and kills it if that takes long; returns its exit code."""
        self.connection.close()
        self._process.join(_SECONDS_TO_END)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        exit_code = self._process.exitcode
        assert exit_code is not None
        self._process.close()
        return exit_code


def _serve(calls: Any, function: Callable[..., Any]) -> None:
    """What a process does."""
    # A Ctrl-C reaches all processes of a terminal, and what becomes of the calls is for the first of them to say. A
    # handler, unlike `SIG_IGN`, is not inherited by the programs that a call starts.
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    calls.send(True)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            calls.send(function(*calls.recv()))


def _end_with_parent() -> None:
    """Ends this process in the middle of a call if its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def environment_defaults(settings: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the processes that are started in the block, unless the user has set them."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]

"""Threads that nobody waits for: what blocks in one holds up no interrupt and no exit."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

_Task = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonExecutor(Executor):
    """A thread pool whose threads are daemons, which Python does not wait for when it ends.

    `concurrent.futures.ThreadPoolExecutor` has it wait for a read that never comes back.

    Args:
        workers: int, threads; they are started as tasks come.
        name: str, what to call them.
    """

    def __init__(self, workers: int, name: str):
        self._workers = workers
        self._name = name
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._started = 0
        # Also where nobody shuts it down.
        self._end = weakref.finalize(self, self._tasks.put, None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a thread call a function.

        Args:
            fn: the function.
            *args: its arguments.
            **kwargs: its keyword arguments.

        Returns:
            A `Future` of what it returns.
        """
        future: Future[Any] = Future()
        self._tasks.put((future, fn, args, kwargs))
        if self._started < self._workers:
            self._started += 1
            name = f"{self._name}_{self._started - 1}"
            threading.Thread(target=_work, args=(self._tasks,), name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Lets each thread end when its present task does; tasks not yet begun are cancelled.

        Args:
            wait: not looked at: nobody waits for these threads.
            cancel_futures: not looked at: tasks are cancelled.
        """
        while not self._tasks.empty():
            task = self._tasks.get()
            if task is not None:
                task[0].cancel()
        self._end()


def _work(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, fn, args, kwargs = task
        if future.set_running_or_notify_cancel():
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - belongs to whoever asks for it
                future.set_exception(error)
            else:
                future.set_result(result)
                del result
        # What it holds may be large, and the next may be long in coming.
        del task, future, fn, args, kwargs
    # For the next thread.
    tasks.put(None)

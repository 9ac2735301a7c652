"""Long work that each process does independently: a process that fails stops the others between two pieces of work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from itl_hf.distributed import failure_text, initialize, rank, world_size
from itl_hf.failure_detection import NO_ERROR_MESSAGE, OtherProcessFailed, failure_cause, process_loss, watch

Result = TypeVar("Result")

#: How long a process waits for the others in `Processes`, where each process may need a different time for its share.
WAIT_TIMEOUT = timedelta(days=7)


class Processes:
    """Context for long work that each process does independently, with collectives only at its beginning and end.

    All processes must enter the context. A process that fails writes an error to the key-value store of the process
    group; the others read it between two pieces of work and stop as well. A process that is killed cannot write: the
    others notice it at the next `call_and_gather`, and so does the launcher. That call waits up to seven days, unlike
    the default group, since one process may finish hours before another.

    Example:
        >>> with Processes() as processes:
        ...     processes.call_and_gather(lambda: processes.rank)
        [0]
    """

    _num_contexts = 0

    def __init__(self) -> None:
        initialize()
        self.rank, self.size = rank(), world_size()
        self._group: Any = None

    def __enter__(self) -> Processes:
        self._watch = watch()
        self._watch.__enter__()
        if self.size > 1:
            Processes._num_contexts += 1
            self._error_key = f"itl_hf/failed/{Processes._num_contexts}"
            self._key_value_store = _get_default_store()
            self._group = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._group is not None:
            dist.destroy_process_group(self._group)
            # The group's threads end with its last reference, which a traceback may hold until the interpreter exits.
            self._group = None
        self._watch.__exit__(*error)

    def call_and_gather(self, function: Callable[[], Result]) -> list[Result]:
        """Calls `function` on every process and gathers what it returns. Collective: all processes must call it.

        Args:
            function (`Callable[[], Result]`):
                What to call. Its result must be picklable.

        Returns:
            `list[Result]`: The results of all processes, in the order of ranks, equal on all processes.

        Raises:
            `Exception`: The error of `function` on the process where it failed.
            `OtherProcessFailed`: On the other processes, with the text of the error.
        """
        if self.size == 1:
            return [function()]
        failure: Exception | None = None
        result: Result | None = None
        try:
            result = function()
        except BaseException as error:
            self._publish_error(error)
            # A process that was interrupted does not wait for the others, and they do not wait for it.
            if not isinstance(error, Exception) or (
                isinstance(error, OtherProcessFailed) and not error.joins_next_gather
            ):
                raise
            failure = error
        is_first_hand = failure is not None and not isinstance(failure, OtherProcessFailed)
        outcomes = self._gather_objects((result, failure_text(failure) if is_first_hand else None), failure)
        if failure is not None:
            raise failure
        for _, message in outcomes:
            if message is not None:
                raise OtherProcessFailed(message, joins_next_gather=True)
        return [result for result, _ in outcomes]

    def check_others(self) -> None:
        """Raises if another process has failed. Not a collective: it reads one key and does not wait.

        Raises:
            `OtherProcessFailed`: If another process has failed.
        """
        if self.size == 1:
            return
        try:
            store = self._key_value_store
            text = store.get(self._error_key).decode() if store.check([self._error_key]) else None
        except RuntimeError as error:
            raise OtherProcessFailed(f"another process {NO_ERROR_MESSAGE} ({error})", False) from error
        if text is not None:
            kind, message = text.split(" ", 1)
            raise OtherProcessFailed(message, joins_next_gather=kind == "error")
        if (loss := process_loss()) is not None:
            raise OtherProcessFailed(loss, joins_next_gather=False)

    def _publish_error(self, error: BaseException) -> None:
        if isinstance(error, OtherProcessFailed):
            return
        try:
            kind = "error" if isinstance(error, Exception) else "interrupt"
            self._key_value_store.set(self._error_key, f"{kind} {failure_text(error)}")
        except (RuntimeError, ValueError):  # the process that holds the key-value store has ended
            return

    def _gather_objects(self, value: Any, failure: Exception | None) -> list[Any]:
        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:
            if failure is not None:
                raise failure from None
            raise OtherProcessFailed(failure_cause(error), False) from error
        return values


def call_on_first(function: Callable[[], Result]) -> Result:
    """Calls `function` on process 0 and returns its result on every process. Collective: all processes must call it.

    For what only one process can know, such as what is on its disk.

    Args:
        function (`Callable[[], Result]`):
            What to call. Its result must be picklable.

    Raises:
        `Exception`: The error of `function` on process 0.
        `OtherProcessFailed`: On the other processes, with the text of the error.
    """
    with Processes() as processes:
        results = processes.call_and_gather(lambda: function() if processes.rank == 0 else None)
    return results[0]  # type: ignore[return-value]

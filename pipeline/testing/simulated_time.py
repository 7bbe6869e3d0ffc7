"""Simulated time: processes that can be frozen and killed.

:class:`Simulation` runs several processes in one simulated time, each with its own event loop. They share nothing but
what the test gives them. Everything runs in one thread, so a run is as deterministic as the code in it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

from pipeline.testing.simulated_loop import SimulatedLoop, Stuck, settle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ROUNDS = 10_000
"""The most rounds of an event loop at one instant; more count as an endless loop."""

INSTANT_S = 1e-9
"""Timers due within this many seconds are due now: clocks of different processes differ by rounding errors."""

NESTING = 4
"""How many blocking calls may run inside each other."""


class Vanished(BaseException):
    """Ends a blocking call of a process that was killed. Code must not catch it, since nothing outlives a process."""


class Simulation:
    """Simulated time from 0, and the processes in it. ``latency`` returns the seconds of each blocking call.

    What happens at the same instant happens in the order in which it was requested.
    """

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        self.now = 0.0
        self.latency = latency
        self.processes: list[Process] = []
        self.errors: list[str] = []
        """What event loops reported, such as exceptions that were never retrieved."""
        self.nesting = 0
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Call ``action`` at this time, or now if the time is past."""
        heappush(self._agenda, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Call ``action`` after this many simulated seconds."""
        self.at(self.now + seconds, action)

    def start(self, main: Callable[[Process], Coroutine[Any, Any, object]], *, monotonic: float = 0.0) -> Process:
        """Start a process whose own clock begins at ``monotonic``. It ends when ``main`` ends."""
        process = Process(self, monotonic - self.now)
        self.processes.append(process)
        process.begin(main(process))
        return process

    def run(self, until: float) -> None:
        """Run everything that happens up to this time."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            when, _, action = heappop(agenda)
            self.now = max(self.now, when)
            action()
        self.now = max(self.now, until)

    def close(self) -> None:
        """End every process in an orderly way. Nothing that they still do reaches a store."""
        for process in self.processes:
            process.close()


class _ProcessLoop(SimulatedLoop):
    """An event loop in the simulation's time. The simulation runs it when it has something to do."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.rounds = 0
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.set_task_factory(self._task)

    def time(self) -> float:
        return self.process.simulation.now + self.process.offset_s

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.process.wake()
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """There is only one thread."""
        return self.call_soon(callback, *args, context=context)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, context=context)
        self.tasks.add(task)
        return task

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self.process.wake_at(when)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        return self.process.call(partial(func, *args))

    def _between(self, timeout_s: float | None) -> None:
        """Stop when nothing is left to do at this instant.

        A timer that is due within a rounding error is due now. The clock then advances by that error; otherwise the
        timer's owner would look at the clock and wait again.
        """
        self.rounds += 1
        if self.rounds > ROUNDS:
            raise Stuck("a process loops without end at one instant")
        if timeout_s is None or timeout_s >= INSTANT_S or not self.process.may_go_on():
            self.stop()
        elif timeout_s:
            self.process.offset_s += INSTANT_S


class Process:
    """One process of a simulation: an event loop, and blocking calls as threads would make them.

    A frozen process does nothing while time goes on, its own clock included, as under SIGSTOP. A killed process does
    nothing any more, not even ``finally``.
    """

    def __init__(self, simulation: Simulation, offset_s: float) -> None:
        self.simulation = simulation
        self.offset_s = offset_s
        self.alive = True
        self.thaws_at: float | None = None
        self.main: asyncio.Task[object] | None = None
        self.called_at = 0.0
        """When the present blocking call was requested, by the process's own clock."""
        self.loop = _ProcessLoop(self)
        self.loop.set_exception_handler(self._complain)
        self._turning = False
        self._is_awaited = False
        self._missed = False
        self._rounds_left: int | None = None
        self._held: list[Callable[[], None]] = []
        self._remains: list[asyncio.Task[Any]] = []

    # -- its life

    def begin(self, main: Coroutine[Any, Any, object]) -> None:
        """Start the process's main task."""
        self.main = self.loop.create_task(main)
        self.main.add_done_callback(lambda task: self._leave_remains())

    @property
    def frozen(self) -> bool:
        """Whether the process is frozen now."""
        return self.thaws_at is not None

    @property
    def ended(self) -> bool:
        """Whether ``main`` has returned or raised. A killed process has not ended."""
        return self.main is not None and self.main.done()

    def kill(self, after_rounds: int = 0) -> None:
        """Kill the process now, or in the middle of its work, after this many rounds of its event loop."""
        if after_rounds:
            self._rounds_left = after_rounds
        else:
            self._die()

    def _die(self) -> None:
        self.alive = False
        self._leave_remains()

    def _leave_remains(self) -> None:
        """Keep references until :meth:`close`: collecting a coroutine would run its ``finally``."""
        self._remains = [task for task in self.loop.tasks if not task.done()]

    def freeze(self, seconds: float) -> None:
        """Freeze the process for this many simulated seconds; ignored if it is frozen or dead."""
        if self.alive and not self.frozen:
            self.thaws_at = self.simulation.now + seconds
            self.simulation.at(self.thaws_at, self._thaw)

    def _thaw(self) -> None:
        self.thaws_at = None
        held, self._held = self._held, []
        for action in held:
            self.simulation.at(self.simulation.now, action)
        if self._missed:
            self._missed = False
            self._turn()

    def close(self) -> None:
        """Cancel all remaining tasks, as the end of ``asyncio.run`` does."""
        self._die()
        self._turning = True  # only this method runs it now
        for _ in range(100):
            tasks = [task for task in self.loop.tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.rounds = 0
            self.loop.run_forever()
        self.loop.close()
        self._remains = []

    # -- its event loop

    def wake(self) -> None:
        """Run the event loop at this instant, once the code that runs now is done."""
        if not (self._turning or self._is_awaited):
            self._is_awaited = True
            self.simulation.at(self.simulation.now, self._awaited_turn)

    def wake_at(self, when: float) -> None:
        """Run the event loop at this time of its own clock."""
        self.simulation.at(when - self.offset_s, self._turn)

    def _awaited_turn(self) -> None:
        self._is_awaited = False
        self._turn()

    def _turn(self) -> None:
        """Run everything that can run now."""
        if not self.alive or self.ended:
            return
        self._turning = True
        try:
            if self.frozen:
                self._missed = True
            else:
                self.loop.rounds = 0
                self.loop.run_forever()
        finally:
            self._turning = False

    def may_go_on(self) -> bool:
        """Whether the event loop may do another round. Called before each."""
        if self._rounds_left is not None:
            self._rounds_left -= 1
            if self._rounds_left <= 0:
                self._die()
        return self.alive and not self.ended and self.thaws_at is None

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.alive and not self.ended:  # a dead process leaves its tasks pending
            self.simulation.errors.append(f"{context['message']}: {context.get('exception') or context.get('task')!r}")

    # -- its threads

    def call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Make a blocking call next to the event loop. It takes simulated time by :meth:`pause`."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.simulation.after(self.simulation.latency(), partial(self._call, work, future, self.loop.time()))
        return future

    def _call(self, work: Callable[[], Any], future: asyncio.Future[Any], called_at: float) -> None:
        """Make the call even if nothing waits for it any more, as a thread would; but not if the process is dead."""
        if not self.alive or self.ended:
            return
        if self.frozen:
            self._held.append(partial(self._call, work, future, called_at))
            return
        outcome: asyncio.Future[Any] = self.loop.create_future()
        outer, self.called_at = self.called_at, called_at
        try:
            settle(outcome, work)
        except Vanished:
            return
        finally:
            self.called_at = outer
        self.simulation.after(self.simulation.latency(), partial(_hand_on, outcome, future))

    def pause(self, seconds: float) -> None:
        """Called inside a blocking call: let this much time pass, while all other processes run.

        No time passes if :data:`NESTING` calls are already paused inside each other.

        :raises Vanished: the process was killed meanwhile.
        """
        simulation = self.simulation
        if simulation.nesting < NESTING:
            simulation.nesting += 1
            try:
                simulation.run(simulation.now + seconds)
                while self.alive and self.thaws_at is not None:
                    simulation.run(self.thaws_at)
            finally:
                simulation.nesting -= 1
        if not self.alive or self.ended:
            raise Vanished


def _hand_on(outcome: asyncio.Future[Any], future: asyncio.Future[Any]) -> None:
    error = outcome.exception()
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome.result())

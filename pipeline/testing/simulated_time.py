"""Time as a fake: an event loop on which waiting costs nothing, and processes that can be frozen and killed.

:class:`SimulatedLoop` alone runs code that waits for seconds in microseconds::

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())

:class:`Simulation` has several processes share one time, each with a loop of its own and nothing else in common but
what they are given. All is of one thread, and a run is the same each time as far as the code in it is.
"""

from __future__ import annotations

import asyncio
import selectors
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

ROUNDS = 10_000
"""Of an event loop at one instant; one that takes more is spinning."""

INSTANT_S = 1e-9
"""Timers this close are due now: clocks of different processes differ by rounding errors."""

NESTING = 4
"""Blocking calls that may be under way in the middle of each other."""


class Stuck(AssertionError):
    """Nothing will ever happen, or too much at once."""


class Vanished(BaseException):
    """Ends a blocking call of a process that is dead. Nothing may catch it, as nothing can outlive a process."""


class _NoInput(selectors.SelectSelector):
    """Nothing ever comes from outside: what would be waited for it goes to ``between``, before each round."""

    def __init__(self, between: Callable[[float | None], None]) -> None:
        super().__init__()
        self._between = between

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._between(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything can be done, and then jumps to the next timer.

    No sockets, no signals, no threads: ``run_in_executor``, and what is built upon it, makes the call at once and in
    this thread; its result is there ``call_s`` later. :class:`Stuck` is raised when everybody waits for nobody.
    """

    call_s = 0.0

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_NoInput(self._between))

    def time(self) -> float:
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        self.call_later(self.call_s, _settle, future, partial(func, *args))
        return future

    def _between(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise Stuck("every task waits, and no timer runs")
        self.now_s += timeout_s


def _settle(future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001  # whoever awaits the call is told, whatever it is
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)


class Simulation:
    """Simulated time from 0, and the processes that live in it. ``latency``: seconds, drawn for each blocking call.

    What the processes do at one instant happens in the order in which it was asked for.
    """

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        self.now = 0.0
        self.latency = latency
        self.processes: list[Process] = []
        self.errors: list[str] = []
        """What event loops complained of: exceptions that nobody took, and the like."""
        self.nesting = 0
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Have something done at a time, or now if that is past."""
        heappush(self._agenda, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self.at(self.now + seconds, action)

    def start(self, main: Callable[[Process], Coroutine[Any, Any, object]], *, monotonic: float = 0.0) -> Process:
        """Begin a process, whose own clock stands at ``monotonic``. It ends when ``main`` does."""
        process = Process(self, monotonic - self.now)
        self.processes.append(process)
        process.begin(main(process))
        return process

    def run(self, until: float) -> None:
        """Let everything happen that happens up to this time."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= until:
            when, _, action = heappop(agenda)
            self.now = max(self.now, when)
            action()
        self.now = max(self.now, until)

    def close(self) -> None:
        """End every process in good order; nothing they do any more reaches a store."""
        for process in self.processes:
            process.close()


class _ProcessLoop(SimulatedLoop):
    """Its time is the simulation's, which runs it when it has something to do."""

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
        """Stop where nothing is left to do at this instant. A timer that is a rounding error away is due; its clock
        moves on by that, or who waits for it would look at the clock and wait again."""
        self.rounds += 1
        if self.rounds > ROUNDS:
            raise Stuck("a process spins")
        if timeout_s is None or timeout_s >= INSTANT_S or not self.process.may_go_on():
            self.stop()
        elif timeout_s:
            self.process.offset_s += INSTANT_S


class Process:
    """One process of a simulation: an event loop, and blocking calls as threads would make them.

    Frozen, it does nothing while time goes on, its own clock's as well, as under SIGSTOP. Killed, it does nothing any
    more, not even ``finally``.
    """

    def __init__(self, simulation: Simulation, offset_s: float) -> None:
        self.simulation = simulation
        self.offset_s = offset_s
        self.alive = True
        self.thaws_at: float | None = None
        self.main: asyncio.Task[object] | None = None
        self.called_at = 0.0
        """When the blocking call was asked for that is being made now; by its own clock."""
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
        self.main = self.loop.create_task(main)
        self.main.add_done_callback(lambda task: self._leave_remains())

    @property
    def frozen(self) -> bool:
        return self.thaws_at is not None

    @property
    def ended(self) -> bool:
        """``main`` has returned or raised; a killed process has not ended, it is just gone."""
        return self.main is not None and self.main.done()

    def kill(self, after_rounds: int = 0) -> None:
        """At once, or in the middle of things: so many rounds of its event loop later."""
        if after_rounds:
            self._rounds_left = after_rounds
        else:
            self._die()

    def _die(self) -> None:
        self.alive = False
        self._leave_remains()

    def _leave_remains(self) -> None:
        """Nobody may come upon them before :meth:`close`: to collect a coroutine is to run its ``finally``."""
        self._remains = [task for task in self.loop.tasks if not task.done()]

    def freeze(self, seconds: float) -> None:
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
        """Cancel whatever is left, as the end of ``asyncio.run`` does."""
        self._die()
        self._turning = True  # nobody is to wake it but us
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
        if not (self._turning or self._is_awaited):
            self._is_awaited = True
            self.simulation.at(self.simulation.now, self._awaited_turn)

    def wake_at(self, when: float) -> None:
        self.simulation.at(when - self.offset_s, self._turn)

    def _awaited_turn(self) -> None:
        self._is_awaited = False
        self._turn()

    def _turn(self) -> None:
        """Run whatever can run now."""
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
        """Asked before each round of its event loop."""
        if self._rounds_left is not None:
            self._rounds_left -= 1
            if self._rounds_left <= 0:
                self._die()
        return self.alive and not self.ended and self.thaws_at is None

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.alive and not self.ended:  # the dead leave their tasks as they are
            self.simulation.errors.append(f"{context['message']}: {context.get('exception') or context.get('task')!r}")

    # -- its threads

    def call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Make a blocking call beside the event loop; :meth:`pause` is how it takes time."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.simulation.after(self.simulation.latency(), partial(self._call, work, future, self.loop.time()))
        return future

    def _call(self, work: Callable[[], Any], future: asyncio.Future[Any], called_at: float) -> None:
        """A call goes on when nobody waits for it any more, as a thread does; but not when its process is gone."""
        if not self.alive or self.ended:
            return
        if self.frozen:
            self._held.append(partial(self._call, work, future, called_at))
            return
        outcome: asyncio.Future[Any] = self.loop.create_future()
        outer, self.called_at = self.called_at, called_at
        try:
            _settle(outcome, work)
        except Vanished:
            return
        finally:
            self.called_at = outer
        self.simulation.after(self.simulation.latency(), partial(_hand_on, outcome, future))

    def pause(self, seconds: float) -> None:
        """Called in a blocking call: so much time passes there, and everybody else goes on meanwhile.

        Raises :class:`Vanished` if the process is killed meanwhile. Where too many such calls are in the middle of
        each other, no time passes.
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

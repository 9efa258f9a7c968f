"""Workers of a scheduler: which may run tasks, and how long the job waits for them.

The workers of a running scheduler are strangers: each answers before it gets a task, the ones that
join later as well.  Those that this process started see what it sees.
"""

from __future__ import annotations

import asyncio
import pkgutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archiver import __version__
from archiver.errors import MachineError, UsageError
from archiver.jobs.cluster import probe
from archiver.jobs.cluster.probe import Place, Sight
from archiver.jobs.events import Notice, OnEvent

if TYPE_CHECKING:
    from distributed import Client

START_S = 15.0  # for a first worker to come, and to answer
ANSWER_S = 10.0  # for a worker to answer
AGAIN_S = 30.0  # until a worker that did not answer is asked again
REPLY_S = 30.0  # for the scheduler to answer; said after one, lost after two of these
IDLE_S = 60.0  # of a job without any worker
QUIET_S = 60.0  # of a worker without a sign of life: said
SHOWN = 5  # workers that an error names

Info = Mapping[str, Any]


class Members:
    """The workers of one scheduler."""

    def __init__(
        self,
        client: Client,
        name: str,
        on_event: OnEvent,
        notes: Sequence[tuple[Place, Path | None]] | None = None,
    ) -> None:
        """Take all workers as they are if ``notes`` is None."""
        self.name = name
        self.able: list[str] = []  # may run tasks now
        self.alive: frozenset[str] = frozenset()
        self._client = client
        self._on_event = on_event
        self._notes = notes
        self._admitted: set[str] = set()
        self._refused: dict[str, str] = {}
        self._silent: dict[str, float] = {}  # when it did not answer
        self._why = "has no workers"
        self._seen = time.monotonic()  # when there was an able worker last
        self._said: set[str] = set()

    @property
    def is_trusted(self) -> bool:
        """Whether any worker may run any task."""
        return self._notes is None

    def wait(self) -> None:
        """Wait for a first worker, not for long; UsageError if one sees other files than this."""
        deadline = time.monotonic() + START_S
        while True:
            self._look(min(ANSWER_S, max(1.0, deadline - time.monotonic())))
            if self._refused:
                raise UsageError(self._refusal())
            if self.able:
                return
            if time.monotonic() > deadline:
                raise UsageError(
                    f"scheduler {self.name}: {self._why}, for {START_S:.0f} s; start some with "
                    f"`dask worker {self.name}` and look at what they say"
                )
            self._say(f"scheduler {self.name}: {self._why}; waiting {START_S:.0f} s for one")
            time.sleep(0.3)

    def refresh(self) -> None:
        """See who is there; MachineError if nothing can run for too long."""
        self._look(ANSWER_S)
        if self.able:
            self._seen = time.monotonic()
            return
        waited = time.monotonic() - self._seen
        if waited > IDLE_S:
            raise MachineError(
                f"scheduler {self.name}: {self._why}, for {waited:.0f} s; look at what the workers "
                "say, start others, and run the same command again"
            )
        if waited > 5:
            self._say(f"scheduler {self.name}: {self._why}; waiting {IDLE_S:.0f} s for one")

    def lost(self, error: object = "the connection was closed") -> MachineError:
        """Return the error of a scheduler that is gone."""
        return MachineError(
            f"scheduler {self.name}: was lost ({error}); "
            "when it is back, run the same command again"
        )

    def _look(self, answer_s: float) -> None:
        workers = self._workers()
        self.alive = frozenset(workers)
        running = [address for address, info in workers.items() if info["status"] == "running"]
        if self._notes is not None:
            self._admit([address for address in running if self._is_unknown(address)], answer_s)
            running = [address for address in running if address in self._admitted]
        self.able = running
        self._why = self._lack(workers)
        for address, info in workers.items():
            quiet = time.time() - info["last_seen"]
            if quiet > QUIET_S:
                self._say(
                    f"worker {address}: no sign of life for {QUIET_S:.0f} s; "
                    "its tasks go elsewhere when the scheduler gives it up"
                )

    def _workers(self) -> dict[str, Info]:
        """Ask the scheduler who is there; MachineError if it is gone or stays silent."""
        for attempt in range(2):
            try:
                scheduler: Any = self._client.scheduler
                identity = self._client.sync(  # type: ignore[no-untyped-call]
                    scheduler.identity, n_workers=-1, callback_timeout=REPLY_S
                )
                return dict(identity["workers"])
            except TimeoutError:
                if not attempt:
                    self._say(f"scheduler {self.name}: no answer for {REPLY_S:.0f} s; waiting")
            except Exception as error:
                raise self.lost(error) from error
        raise self.lost(f"no answer for {2 * REPLY_S:.0f} s")

    def _lack(self, workers: Mapping[str, Info]) -> str:
        """Say why no worker may run a task, if so."""
        states = {address: info["status"] for address, info in workers.items()}
        idle = [address for address, status in states.items() if status != "running"]
        if not workers:
            return "has no workers"
        if idle:
            return (
                f"has no worker that takes tasks ({idle[0]} is {states[idle[0]]}: a worker pauses "
                "when its memory is used up)"
            )
        if self._refused:
            return f"has no worker that can take part ({next(iter(self._refused.values()))})"
        return f"has workers that do not answer ({', '.join(sorted(workers)[:3])})"

    def _is_unknown(self, worker: str) -> bool:
        if worker in self._admitted or worker in self._refused:
            return False
        return time.monotonic() - self._silent.get(worker, -AGAIN_S) >= AGAIN_S

    def _admit(self, workers: Sequence[str], answer_s: float) -> None:
        """Ask workers that are new; refuse those that are of another release or see other files."""
        if not workers:
            return
        answers = self._ask(workers, answer_s)
        doubtful = [address for address, answer in answers.items() if _fault(answer)]
        if doubtful:  # a file may have changed meanwhile: asked once more
            answers |= self._ask(doubtful, answer_s)
        for worker, answer in answers.items():
            if isinstance(answer, TimeoutError):
                self._silent[worker] = time.monotonic()
            elif fault := _fault(answer):
                self._refused[worker] = fault
                if self._admitted:  # else it ends the job, and is said then
                    self._say(f"worker {worker} gets no task: {fault}")
            else:
                self._admitted.add(worker)
                self._compare(worker, answer)

    def _ask(self, workers: Sequence[str], answer_s: float) -> dict[str, Sight | Exception]:
        seen = probe.asked(self._notes or ())
        answers: dict[str, Sight | Exception] = self._client.sync(  # type: ignore[no-untyped-call]
            _answers, self._client, workers, seen, answer_s
        )
        return {
            address: probe.received(answer) if isinstance(answer, Sight) else answer
            for address, answer in answers.items()
        }

    def _compare(self, worker: str, answer: Sight | Exception) -> None:
        """Say which libraries of a worker are others than here."""
        if not isinstance(answer, Sight):
            return
        here, there = probe.versions(), answer.versions
        others = [f"{name} {there[name]}, here {here[name]}" for name in here
                  if there.get(name) != here[name]]  # fmt: skip
        if others:
            self._say(f"worker {worker} on {answer.host}: has {'; '.join(others)}")

    def _refusal(self) -> str:
        faults = [f"worker {address}: {fault}" for address, fault in self._refused.items()]
        more = f"; and {len(faults) - SHOWN} more workers" if len(faults) > SHOWN else ""
        return (
            f"scheduler {self.name}: {'; '.join(faults[:SHOWN])}{more}. Start "
            f"workers of archiver {__version__} where the same paths lead to the same files, or "
            "leave out --scheduler"
        )

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._on_event(Notice(message))


async def _answers(
    client: Client, workers: Sequence[str], seen: tuple[probe.Asked, ...], answer_s: float
) -> dict[str, Sight | Exception]:
    """Ask all workers at once; one that is stopped holds up no other."""
    asked = (_answer(client, address, seen, answer_s) for address in workers)
    answers = await asyncio.gather(*asked)
    return dict(zip(workers, answers, strict=True))


async def _answer(
    client: Client, worker: str, seen: tuple[probe.Asked, ...], answer_s: float
) -> Sight | Exception:
    async def run(function: Any, argument: object) -> Any:
        results = await client.run(function, argument, workers=[worker], on_error="return")
        return results[worker]

    async def both() -> Any:
        release = await run(pkgutil.resolve_name, "archiver:__version__")  # there in any release
        if release == __version__:
            return await run(probe.look, seen)
        if isinstance(release, Exception):
            return ValueError(f"has no archiver that runs ({release!r})")
        return ValueError(f"has archiver {release}, here is {__version__}")

    try:
        answer: Sight | Exception = await asyncio.wait_for(both(), answer_s)
    except (TimeoutError, OSError, KeyError) as error:  # silent, or gone meanwhile
        return TimeoutError(repr(error))
    return answer


def _fault(answer: Sight | Exception) -> str:
    """Return why a worker may not take part, "" if it may, or if it did not answer."""
    if isinstance(answer, TimeoutError):
        return ""
    if isinstance(answer, Exception):
        return str(answer)
    here, there = probe.versions()["numpy"], answer.versions["numpy"]
    if here.split(".")[0] != there.split(".")[0]:
        return f"on {answer.host}, has numpy {there}, here is {here}"
    if not answer.faults:
        return ""
    more = f" (and {len(answer.faults) - 1} more)" if len(answer.faults) > 1 else ""
    return f"on {answer.host}, sees {answer.faults[0]}{more}"

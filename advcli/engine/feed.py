"""What flows between the thread that asks and the lanes that answer.

The stream of images is read, and the outcomes are consumed, by the caller's thread alone: nothing
above the engine has to know of threads. The lanes take subjects from the feed and post their
outcomes. What has been read ahead is bounded, and a consumer that is slow stops reading ahead.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from advcli.engine.jobs import Chain, Outcome, Subject
from advcli.engine.table import Table


class Backlog(Iterator[Subject]):
    """The subjects of a run; `reopen` brings those back that are not answered in full.

    It holds what is under way, no more; keys tell subjects apart.
    """

    def __init__(self, subjects: Iterable[Subject]) -> None:
        self._source = iter(subjects)
        self._open: dict[str, Subject] = {}
        self._again: deque[Subject] = deque()
        self.broken = False  # the stream itself has failed, and will give no more

    def __next__(self) -> Subject:
        if self._again:
            return self._again.popleft()
        try:
            subject = next(self._source)
        except StopIteration:
            raise
        except BaseException:
            self.broken = True
            raise
        self._open[subject.key] = subject
        return subject

    def settle(self, outcome: Outcome) -> None:
        """Whoever asked has this answer: it is not to be computed again."""
        subject = self._open.pop(outcome.key, None)
        left = [eps for eps in subject.eps if eps != outcome.eps] if subject is not None else []
        if subject is not None and left:
            self._open[outcome.key] = replace(subject, eps=tuple(left))

    def reopen(self) -> None:
        """What is under way comes first, with the budgets that are still to be answered."""
        self._again = deque(self._open.values())


class Handover(NamedTuple):
    """Rows that go to another lane, and whose work they do, by number."""

    table: Table
    chains: dict[int, Chain]


class Feed:
    """Work on its way to `lanes` lanes, shared out so that all end at about the same time."""

    def __init__(self, subjects: Iterable[Subject], lanes: int, ahead: int) -> None:
        self._source = iter(subjects)
        self._ahead = ahead
        self._waiting: deque[Subject] = deque()
        self._ended = False
        self.stopped = False
        self._held = [0.0] * lanes  # images' worth of work before each
        self._change = threading.Condition()
        self.lanes = lanes
        self.alone = lanes == 1  # then the lane is ticked by the caller's thread
        self._idle: set[int] = set()  # lanes that have come to an end of their own work
        self._room = [0] * lanes  # rows that each could take in without a wider batch
        self._handed: list[list[Handover]] = [[] for _ in range(lanes)]

    def top_up(self, answered: Callable[[], bool] = lambda: False) -> None:
        """Read the stream until `ahead` subjects wait. Only ever called by the caller's thread.

        One is enough where something is `answered`: lanes that are as fast as the stream would keep
        the caller here while their answers pile up.
        """
        while not self._ended and len(self._waiting) < self._ahead:
            found = next(self._source, None)
            with self._change:
                if found is None:
                    self._ended = True
                else:
                    self._waiting.append(found)
                self._change.notify_all()
            if answered():
                break

    def take(self, lane: int, idle: bool) -> Subject | None:
        """The next subject for `lane`, None if it is to go on without.

        While few are left the lanes share the work evenly. An `idle` lane waits for what may come.
        """
        if self.alone:
            return self._pull()
        with self._change:
            while not self.stopped:
                fair = (len(self._waiting) + sum(self._held)) / len(self._held)
                if self._waiting and self._held[lane] < fair:
                    self._held[lane] += 1.0
                    return self._waiting.popleft()
                if not idle or (self._ended and not self._waiting):
                    return None
                self._change.wait()
            return None

    def _pull(self) -> Subject | None:
        found = None if self._ended else next(self._source, None)
        self._ended = found is None
        return found

    def holds(self, lane: int, work: float) -> None:
        """How much of what it took `lane` still has before it, in images' worth of steps."""
        with self._change:
            self._held[lane] = work
            self._change.notify_all()

    # --- at the end: rows that go from one lane to another --------------------------------------

    def idle_lane(self) -> int | None:
        """A lane that waits for work that another has begun."""
        with self._change:
            return next(iter(self._idle), None)

    def offers(self, lane: int, room: int) -> None:
        """`lane` computes `room` rows that nobody needs, and that cannot be avoided."""
        with self._change:
            self._room[lane] = room

    def claim(self, lane: int, rows: int) -> int | None:
        """Another lane with room for `rows` rows of `lane`, which has none to offer then."""
        with self._change:
            for other, room in enumerate(self._room):
                if other != lane and room >= rows:
                    self._room[other] -= rows
                    self._room[lane] = 0
                    return other
            return None

    def hand(self, lane: int, rows: Handover) -> None:
        """Rows for `lane`."""
        with self._change:
            self._handed[lane].append(rows)
            self._idle.discard(lane)
            self._change.notify_all()

    def handed(self, lane: int, *, idle: bool = False) -> list[Handover]:
        """What was handed to `lane`; an `idle` one waits for some until no lane has any work."""
        with self._change:
            if idle and not self._handed[lane]:
                self._idle.add(lane)
                self._room[lane] = 0
                self._change.notify_all()
                while not (self.stopped or self._handed[lane] or len(self._idle) == self.lanes):
                    self._change.wait()
            found, self._handed[lane] = self._handed[lane], []
            return [] if self.stopped else found

    def exhausted(self) -> bool:
        """Whether nothing more will come."""
        with self._change:
            return self.stopped or (self._ended and not self._waiting)

    def stop(self) -> None:
        """Let every lane come to its end."""
        with self._change:
            self.stopped = True
            self._change.notify_all()


class Ticking(Protocol):
    """A lane."""

    def ticks(self) -> Iterator[list[Outcome]]: ...


@dataclass(frozen=True, slots=True)
class Posted:
    """What a lane says after a tick; `outcomes` None: it has ended, by `error` if there is one."""

    lane: int
    outcomes: list[Outcome] | None
    error: BaseException | None = None


@dataclass(slots=True)
class Crew:
    """The threads of one run, one a lane."""

    feed: Feed
    lanes: Sequence[Ticking]
    _posted: queue.SimpleQueue[Posted] = field(default_factory=queue.SimpleQueue)

    def outcomes(self) -> Generator[list[Outcome], None, None]:
        """Everything that the lanes answer; whoever stops listening stops them.

        An error of one, or of the stream, ends the others too, and is raised when all that they
        know was told.
        """
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"lane {number}", daemon=True)
            for number in range(len(self.lanes))
        ]
        self.feed.top_up()
        working = len(threads)
        error: BaseException | None = None
        try:
            for thread in threads:
                thread.start()
            while working:
                posted = self._posted.get()
                if posted.outcomes is None:
                    working -= 1
                    if posted.error is not None:
                        error = error or posted.error
                        self.feed.stop()
                    continue
                if error is None:
                    try:
                        self.feed.top_up(lambda: not self._posted.empty())
                    except Exception as failed:  # noqa: BLE001 - raised when all is told
                        error = failed
                        self.feed.stop()
                yield posted.outcomes
            if error is not None:
                raise error
        finally:
            self.feed.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _work(self, number: int) -> None:
        try:
            for outcomes in self.lanes[number].ticks():
                self._posted.put(Posted(number, outcomes))
                if self.feed.stopped:  # however much is still seated
                    break
        except BaseException as error:  # noqa: BLE001 - raised again where the caller listens
            self._posted.put(Posted(number, None, error))
        else:
            self._posted.put(Posted(number, None))

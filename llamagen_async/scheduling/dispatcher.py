"""The dispatcher: takes a slot, has the policy decide what it is used for, and has that sent.

One task at a time decides. What it has chosen is sent in a slot by a task of its own, with the
context variables of whoever asked for it: so a caller who is cancelled loses neither a slot nor an
id. No task lives while there is nothing to decide or to send.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from contextvars import Context
from functools import partial
from typing import Any, Final

from llamagen_async.clock import Clock
from llamagen_async.errors import ClientClosedError, LlamaGenError, QuotaStoreError
from llamagen_async.models import Usage
from llamagen_async.observing import logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Claim, Limiter, NoSlot, Slot
from llamagen_async.scheduling.admission import AdmissionControl
from llamagen_async.scheduling.circuit import Circuit, Outage
from llamagen_async.scheduling.dispatch_loop import DispatchLoop, Turn
from llamagen_async.scheduling.failures import fail
from llamagen_async.scheduling.free_policy import FreePolicy
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.policy import Choice, Decision, DispatchPolicy, Idle
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import PollTarget
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.probing import choose_probe
from llamagen_async.scheduling.request_queue import RequestQueue
from llamagen_async.scheduling.sender import Sender
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest

__all__ = ["Dispatcher"]

_logger = logger_of(__name__)

_CLOSED: Final = "the client was closed before the request was sent"
_MAX_WAIT: Final = 60.0
"""Seconds after which it is decided again although no slot is free, at most: who may not wait for
tomorrow is not rejected as long as a store that is away can't say how much is left."""


class Dispatcher:
    """Sends the requests and status checks of one client.

    Args:
        limiter: Hands out the slots.
        queue: The requests that wait for a slot.
        polls: The generations that are waited for.
        view: Knows what the whole key has to do.
        poller: Told of the outcome of each check.
        admission: Rejects those who would wait too long.
        sender: Sends in a slot.
        circuit: Knows whether the server answers.
        clock: The server's clock.
    """

    def __init__(
        self,
        limiter: Limiter,
        queue: RequestQueue,
        polls: PollSet,
        view: KeyView,
        poller: Poller,
        admission: AdmissionControl,
        sender: Sender,
        circuit: Circuit,
        clock: Clock,
    ) -> None:
        self._limiter = limiter
        self._polls = polls
        self._view = view
        self._poller = poller
        self._admission = admission
        self._sender = sender
        self._circuit = circuit
        self._clock = clock
        circuit.listeners[self] = None
        self.sending: dict[asyncio.Task[float | None], Submission[Any]] = {}
        """The submissions on their way, by the task that sends each."""
        self.delayed: dict[Submission[Any], asyncio.TimerHandle] = {}
        """Submissions that failed and wait to be queued again, and the timer of each."""
        self._turn: Turn | None = None
        """The turn that is waited for; `None` if no claim has a position."""
        self._claims = itertools.count(1)
        limiter.subscribe(self._ask_again)
        self._closed = False
        # What the plan does not count must not stand behind what waits for a slot.
        shared, free = (polls, view, admission, circuit), RequestQueue()
        self._free = FreePolicy(limiter, free, *shared)
        self._metered = DispatchLoop(queue, DispatchPolicy(limiter, queue, *shared), metered=True)
        self._unmetered = DispatchLoop(free, self._free, metered=False)
        self._loops = (self._metered, self._unmetered)

    def submit(self, submission: Submission[Any]) -> None:
        """Queue a submission; its future gets the answer or the error."""
        kind = submission.request.kind
        loop = self._metered if kind in self._limiter.plan.metered else self._unmetered
        loop.queue.push(submission)
        if self._circuit.outage is not None and submission.hooks is not None:
            submission.hooks.held_up(self._circuit.outage.error())
        if submission.urgent and kind.is_billed:
            self._view.arrived.append(min(submission.since, self._clock.now()))
        submission.future.add_done_callback(self.wake)
        self.wake()

    def wake(self, _ended: object = None) -> None:
        """Decide again: something was added, ended or learned."""
        for loop in self._loops:
            loop.changed.set()
            has_work = self._has_work(loop)
            if loop.task is None and has_work and not self._closed:
                # Who happens to be the first to ask is no parent of what others ask for. Not by the
                # loop's factory: it would be woken again where tasks begin before they are known.
                loop.task = asyncio.Task(
                    self._run(loop), loop=self._limiter.loop, context=Context()
                )
                loop.task.add_done_callback(partial(self._on_task_done, loop))
            elif loop.task is not None and not has_work:
                loop.task.cancel()  # it may wait for a slot that nobody needs any more

    def on_outage(self, outage: Outage) -> None:
        """Tell those who wait to be sent that the server is away."""
        for submission in (*self._metered.queue, *self._unmetered.queue, *self.delayed):
            if submission.hooks is not None:
                submission.hooks.held_up(outage.error())

    def on_recovery(self) -> None:
        """Go on at full speed: the server answers again."""
        for submission, timer in list(self.delayed.items()):
            timer.cancel()
            self._queue_again(submission)
        self._polls.forgive()
        self.wake()

    async def aclose(self, grace: float) -> None:
        """Send nothing more; give billed requests on their way `grace` real seconds to return."""
        self._closed = True
        for timer in self.delayed.values():
            timer.cancel()
        for waiting in (*self._metered.queue, *self._unmetered.queue, *self.delayed):
            fail(waiting, ClientClosedError(_CLOSED))
        for task, submission in self.sending.items():
            if not submission.request.kind.is_billed:
                task.cancel()
        if self.sending:
            await asyncio.wait(list(self.sending), timeout=grace)
        tasks = [*self.sending, *(loop.task for loop in self._loops if loop.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._circuit.listeners.pop(self, None)
        self._limiter.give_up("", self._view.client, leaves=True)

    def _has_work(self, loop: DispatchLoop) -> bool:
        if loop.queue.size:
            return True
        makes_checks = (RequestKind.STATUS in self._limiter.plan.metered) is loop.metered
        return makes_checks and bool(self._polls.targets)

    async def _run(self, loop: DispatchLoop) -> None:
        """Decide about one slot after the other, and have each used as was decided."""
        try:
            while (chosen := await self._choose(loop)) is not None:
                submission, slot = chosen
                sending = self._sender.send(submission, slot)
                # A factory of the program's may take no context: what was chosen would be lost.
                task = asyncio.Task(sending, loop=self._limiter.loop, context=submission.context)
                self.sending[task] = submission
                task.add_done_callback(partial(self._on_sent, submission, slot))
                await asyncio.sleep(0)  # it is on its way before the next one is decided about
        except Exception as error:  # noqa: BLE001  # nobody may wait for ever for what broke
            self._fail_all(error)

    async def _choose(self, loop: DispatchLoop) -> tuple[Submission[Any], Slot] | None:
        """Return what is sent next and its slot; `None` if nothing is left to send."""
        try:
            while self._has_work(loop):
                loop.changed.clear()
                if self._limiter.plan.quotas:
                    await self._admission.reject_over_quota()
                now = self._clock.now()
                decision = self._decide(loop, now)
                if isinstance(decision, Idle):
                    await self._rest(loop, decision)
                    continue
                claim = self._claim if loop.metered else self._claim_free
                if (chosen := await claim(loop, decision, now)) is not None:
                    return chosen
        finally:
            if loop.metered:
                self._give_up_turn()
        return None

    def _decide(self, loop: DispatchLoop, now: float, *, holds_one: bool = False) -> Decision:
        """Decide what a slot is used for; while the server is away, creates wait if they may."""
        circuit = self._circuit
        if circuit.outage is None and not circuit.is_silent:
            return loop.policy.decide(now, holds_one=holds_one)
        until = self._admission.reject_unanswered(loop.queue, circuit)
        if circuit.is_silent and not loop.metered and (wait := self._free.read_wait(now)):
            return Idle(wait)
        if circuit.is_silent:
            decision = choose_probe(
                circuit, self._limiter, loop.queue, self._polls, now, metered=loop.metered
            )
        else:
            decision = loop.policy.decide(now, holds_one=holds_one)
            if now < circuit.create_at:
                until = min(until, circuit.create_at - now)
        if isinstance(decision, Idle) and until < decision.seconds:
            return Idle(until, lacks_slot=decision.lacks_slot)
        return decision

    async def _rest(self, loop: DispatchLoop, idle: Idle) -> None:
        """Wait until there is something to decide again."""
        if loop.metered:
            self._give_up_turn()
            if idle.lacks_slot:
                self._admission.block(idle.seconds, self._limiter.plan.rate)
        await self._clock.wait(loop.changed, idle.seconds)
        if loop.queue.size and self._limiter.plan.quotas:
            await self._admission.refresh_quota()  # it may have come back

    async def _claim(
        self, loop: DispatchLoop, choice: Choice, now: float
    ) -> tuple[Submission[Any], Slot] | None:
        """Ask for a slot, unless it is known that none is free yet; wait if there is none.

        Returns:
            What is sent and its slot; `None` if it has to be decided again.
        """
        turn, waiting, others = self._turn, loop.queue.size, self._view.others_waiting
        if turn is not None and (wait := turn.until(choice, waiting, others) - now) > 0:
            await self._clock.wait(loop.changed, min(choice.until, wait, _MAX_WAIT))
            return None
        claimed = self._view.claimed = choice.use if isinstance(choice.use, Submission) else None
        name = turn.claim if turn else f"{self._view.client}.{next(self._claims)}"
        claim = Claim(
            name,
            self._view.client,
            choice.priority,
            choice.waited,
            self._view.workload(now),
            waits=choice.waits or now < self._view.no_slot_until,
        )
        self._turn = None  # it is given up by who asks, if anything happens meanwhile
        try:
            answer = await self._limiter.reserve(claim)
        except QuotaStoreError as error:
            if not isinstance(choice.use, Submission):
                raise
            for one in loop.queue:
                fail(one, error)  # those who wait for a comic can wait for the store, too
            return None
        asked_at, now = now, self._clock.now()
        if isinstance(answer, NoSlot):
            self._view.update(answer.state, now, no_slot_for=answer.delay)
            if claim.waits:
                self._turn = Turn.begin(
                    claim,
                    claimed,
                    answer,
                    now,
                    rate=self._limiter.plan.rate,
                    waiting=waiting,
                    others=self._view.others_waiting,
                )
            else:
                self._view.claimed = None
            if not answer.is_unknown:
                self._admission.block(answer.delay, answer.limit)
            return None
        self._admission.blocked_until = None
        assert answer.grant is not None
        self._view.update(answer.grant.state, now)
        is_older = isinstance(choice.use, PollTarget) and now > asked_at  # its chance has grown
        is_outdated = is_older or turn is not None or loop.changed.is_set()
        is_out = self._circuit.outage is not None or self._circuit.is_silent
        if is_outdated or is_out or self._view.is_shared or self._limiter.plan.quotas:
            decision = self._decide(loop, now, holds_one=True)
            if isinstance(decision, Idle):
                self._view.claimed = None
                answer.give_back()
                return None
            choice = decision
        return self._take(loop, choice, now), answer

    async def _claim_free(
        self, loop: DispatchLoop, choice: Choice, now: float
    ) -> tuple[Submission[Any], Slot] | None:
        """Ask whether what needs no slot may leave; `None` if it has to be decided again."""
        answer, now = await self._limiter.unmetered_slot(is_read=choice.is_read), self._clock.now()
        if not isinstance(answer, Slot):
            self._free.read_at = now + answer
            await self._clock.wait(loop.changed, answer)
            return None
        decision = self._decide(loop, now)  # a better one may have come, or the server have gone
        return None if isinstance(decision, Idle) else (self._take(loop, decision, now), answer)

    def _give_up_turn(self) -> None:
        turn, self._turn = self._turn, None
        self._view.claimed = None
        if turn is not None:
            self._limiter.give_up(turn.claim, self._view.client)

    def _ask_again(self) -> None:
        """Ask for a slot at once: one may be free earlier than was said."""
        if self._turn is not None:
            self._turn.ask_at = -math.inf
            self._metered.changed.set()

    def _take(self, loop: DispatchLoop, choice: Choice, now: float) -> Submission[Any]:
        """Take what was chosen out of where it waits; return what is to be sent."""
        use = choice.use
        loop.policy.was_check = isinstance(use, PollTarget)
        submission: Submission[Any]
        if isinstance(use, PollTarget):
            # A target is in flight from now on, until `_checked` has the outcome.
            self._polls.mark_in_flight(use, now)
            submission = Submission[Any].check(use.request, use.parse, now, use.context)
            submission.future.add_done_callback(partial(self._checked, use, now))
        elif isinstance(use, APIRequest):
            submission = Submission[Any].probe(use, Usage.parse, now)
        else:
            submission = use
            loop.queue.remove(submission)
            if submission.request.kind.is_billed:
                self._sender.unanswered.add(submission)
        if self._circuit.is_silent:
            self._circuit.begin_probe(submission)
        return submission

    def _checked(self, target: PollTarget, sent_at: float, outcome: asyncio.Future[Any]) -> None:
        self._poller.record_check(target, sent_at, outcome)
        self._polls.mark_idle(target)
        self.wake()

    def _repeat(self, submission: Submission[Any], delay: float) -> None:
        """Queue a submission again in `delay` real seconds, where it was."""
        if submission.future.done():
            return
        if self._closed:
            fail(submission, ClientClosedError(_CLOSED))
            return
        if self._circuit.is_silent and submission.outage_timeout is not None:
            # A create waits in the queue for its turn to be the probe; a read is one.
            until_probe = self._clock.real(self._circuit.probe_at - self._clock.now())
            delay = 0.0 if submission.request.kind.is_billed else max(delay, until_probe)
        timer = asyncio.get_running_loop().call_later(delay, self._queue_again, submission)
        self.delayed[submission] = timer

    def _queue_again(self, submission: Submission[Any]) -> None:
        del self.delayed[submission]
        if not submission.future.done():
            metered = submission.request.kind in self._limiter.plan.metered
            (self._metered if metered else self._unmetered).queue.push(submission)
            self.wake()

    def _fail_all(self, error: Exception) -> None:
        """Tell everyone who waits that the limits can't be kept, so that nothing is sent."""
        if not isinstance(error, LlamaGenError):
            _logger.error("the dispatcher failed", exc_info=error)
        for submission in (*self._metered.queue, *self._unmetered.queue):
            fail(submission, error)
        self._poller.fail_all(error)

    def _on_sent(
        self, submission: Submission[Any], slot: Slot, task: asyncio.Task[float | None]
    ) -> None:
        del self.sending[task]
        if self._circuit.probe is submission:
            self._circuit.probe = None
        if task.cancelled():
            # It may not even have begun; what was reported already is not changed by this.
            slot.give_back()
            self._sender.unanswered.discard(submission)
            if not submission.future.done():
                fail(submission, ClientClosedError(_CLOSED))
        elif (error := task.exception()) is not None:
            _logger.error("the sender failed", exc_info=error)
        elif (again := task.result()) is not None:
            self._repeat(submission, again)
        self.wake()

    def _on_task_done(self, loop: DispatchLoop, task: asyncio.Task[None]) -> None:
        if loop.task is task:
            loop.task = None
        self.wake()

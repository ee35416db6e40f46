from __future__ import annotations

import asyncio
import gc
import weakref

from bentos.router.reminders import Reminders

AFTER_S = 0.02


async def test_each_comes_once_in_order_unless_cancelled() -> None:
    reminders, came, done = Reminders(AFTER_S), list[str](), asyncio.Event()
    began_s = asyncio.get_running_loop().time()
    first, second = reminders.add(lambda: came.append("first")), reminders.add(lambda: came.append("second"))
    reminders.add(lambda: came.append("third"))
    first.cancel()
    await asyncio.sleep(AFTER_S / 2)
    reminders.add(done.set)
    await asyncio.wait_for(done.wait(), 20)
    second.cancel()  # too late
    assert came == ["second", "third"]
    assert asyncio.get_running_loop().time() - began_s >= 1.5 * AFTER_S - 0.002


async def test_it_begins_again_after_a_pause_and_from_within_a_call() -> None:
    reminders, done = Reminders(AFTER_S), asyncio.Event()
    for _ in range(2):
        done.clear()
        reminders.add(lambda: reminders.add(done.set) and None)
        await asyncio.wait_for(done.wait(), 20)


async def test_what_is_cancelled_is_let_go_at_once() -> None:
    class Frame:
        def remind(self) -> None:
            raise AssertionError

    frame = Frame()
    alive = weakref.ref(frame)
    reminder = Reminders(1000.0).add(frame.remind)
    reminder.cancel()
    del frame
    gc.collect()
    assert alive() is None

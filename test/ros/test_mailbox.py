"""One slot: the newest wins, what it replaced is counted, waiting ends."""

import threading

import pytest

from m3et_ros.ros.mailbox import Mailbox


def test_the_newest_wins_and_the_rest_is_counted():
    box = Mailbox()
    assert [box.put(i) for i in (1, 2, 3)] == [False, True, True]
    assert box.take(0) == 3 and box.take(0) is None
    assert box.replaced == 2


def test_nothing_is_not_an_item():
    with pytest.raises(ValueError, match='None'):
        Mailbox().put(None)


def test_closing_empties_the_slot_and_wakes_every_waiter():
    box, taken = Mailbox(), []
    threads = [threading.Thread(target=lambda: taken.append(box.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    box.close()
    for thread in threads:
        thread.join(10)
    assert taken == [None] * 3 and box.closed
    assert box.put(1) is False and box.take(0) is None


def test_every_item_is_taken_once_or_counted():
    box, taken = Mailbox(), []

    def take():
        while (item := box.take()) is not None:
            taken.append(item)

    taker = threading.Thread(target=take)
    taker.start()
    putters = [threading.Thread(target=lambda k=k: [box.put(k * 1000 + i) for i in range(1, 500)]) for k in range(3)]
    for putter in putters:
        putter.start()
    for putter in putters:
        putter.join(10)
    while len(taken) + box.replaced < 3 * 499:
        assert taker.is_alive()
    box.close()
    taker.join(10)
    assert len(set(taken)) == len(taken) and len(taken) + box.replaced == 3 * 499

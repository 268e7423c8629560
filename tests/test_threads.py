"""Work beside the main thread: order, bounds, and what becomes of errors."""

import threading

import pytest

from keras_exfuse._threads import WriteBehind, prefetch

pytestmark = pytest.mark.backend_independent


def test_results_come_in_order_and_only_a_few_prefetch():
    taken = []

    def items():
        for number in range(8):
            taken.append(number)
            yield number

    results = prefetch(lambda number: (number, threading.get_ident()), items(), most=2)
    number, thread = next(results)
    assert number == 0 and thread != threading.get_ident()
    assert taken == [0, 1, 2]
    assert [number for number, _ in results] == list(range(1, 8))


def test_an_error_comes_where_its_result_would():
    results = prefetch(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_who_stops_early_leaves_no_thread():
    before = threading.active_count()
    results = prefetch(abs, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_calls_are_done_in_order_before_the_block_ends():
    done = []
    with WriteBehind() as queue:
        for number in range(20):
            queue.call(done.append, number)
    assert done == list(range(20))


def test_no_more_wait_than_allowed():
    begun, going_on = [], threading.Semaphore(0)

    def work(number):
        going_on.acquire()
        begun.append(number)

    with WriteBehind(most=2) as queue:
        queue.call(work, 0)
        queue.call(work, 1)
        threading.Timer(0.1, going_on.release).start()
        queue.call(work, 2)  # Returns once the first is done.
        assert begun == [0]
        going_on.release(2)


def test_an_error_is_raised_and_nothing_is_done_behind_it():
    done = []

    def work(number):
        if number == 1:
            raise OSError("the disk is full")
        done.append(number)

    with pytest.raises(OSError, match="disk is full"), WriteBehind() as queue:
        queue.call(work, 0)
        queue.call(work, 1)
        queue.call(work, 2)
    assert done == [0]


def test_an_error_of_the_block_is_raised_and_what_was_called_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt), WriteBehind() as queue:
        queue.call(done.append, 0)
        raise KeyboardInterrupt
    assert done == [0]

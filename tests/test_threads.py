"""Work beside the main thread: order, bounds, and what becomes of errors."""

import threading

import pytest

from keras_exfuse._threads import Behind, ahead

pytestmark = pytest.mark.backend_independent


def test_results_come_in_order_and_only_a_few_ahead():
    taken = []

    def items():
        for number in range(8):
            taken.append(number)
            yield number

    results = ahead(lambda number: (number, threading.get_ident()), items(), most=2)
    number, thread = next(results)
    assert number == 0 and thread != threading.get_ident()
    assert taken == [0, 1, 2]
    assert [number for number, _ in results] == list(range(1, 8))


def test_an_error_comes_where_its_result_would():
    results = ahead(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_who_stops_early_leaves_no_thread():
    before = threading.active_count()
    results = ahead(abs, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_calls_are_done_in_order_before_the_block_ends():
    done = []
    with Behind() as behind:
        for number in range(20):
            behind.call(done.append, number)
    assert done == list(range(20))


def test_no_more_wait_than_allowed():
    begun, going_on = [], threading.Semaphore(0)

    def work(number):
        going_on.acquire()
        begun.append(number)

    with Behind(most=2) as behind:
        behind.call(work, 0)
        behind.call(work, 1)
        threading.Timer(0.1, going_on.release).start()
        behind.call(work, 2)  # Returns once the first is done.
        assert begun == [0]
        going_on.release(2)


def test_an_error_is_raised_and_nothing_is_done_behind_it():
    done = []

    def work(number):
        if number == 1:
            raise OSError("the disk is full")
        done.append(number)

    with pytest.raises(OSError, match="disk is full"), Behind() as behind:
        behind.call(work, 0)
        behind.call(work, 1)
        behind.call(work, 2)
    assert done == [0]


def test_an_error_of_the_block_is_raised_and_what_was_called_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind.call(done.append, 0)
        raise KeyboardInterrupt
    assert done == [0]

"""Work shared by several threads, with results in order and bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

WAITING = 4  # per thread: finished results that wait for an earlier one


def in_order(call: Callable, items: Iterable, threads: int) -> Iterator:
    """call(item) for every item, by several threads, in the order of the items; only a few run ahead.

    The items are produced in the thread that consumes the results.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > WAITING * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

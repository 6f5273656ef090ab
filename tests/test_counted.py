"""`at_most`, by which tests judge what a call costs."""

import pytest
from counted import at_most


def test_it_fails_as_soon_as_there_are_more_calls():
    numbers = iter(range(10**9))
    with pytest.raises(AssertionError, match=r"^it calls more than 1,000 functions$"), at_most(calls=1000):
        all(abs(number) >= 0 for number in numbers)
    assert 300 < next(numbers) <= 1000
    with at_most(calls=1000):
        assert sum(map(abs, range(500))) > 0

import pytest
from search import clamp, search

CASES = [([1, 3, 5], 5, 2), ([1, 3, 5], 1, 0), ([2], 2, 0), ([], 4, -1), ([1, 3], 2, -1)]


@pytest.mark.parametrize("values,wanted,at", CASES)
def test_search(values, wanted, at):
    assert search(values, wanted) == at


def test_clamp():
    assert clamp(5, 1, 3) == 3 and clamp(0, 1, 3) == 1
    with pytest.raises(ValueError):
        clamp(1, 3, 1)

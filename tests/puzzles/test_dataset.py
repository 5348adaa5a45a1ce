"""The training stream: exact continuation, epochs, groups, noise, balance, curriculum, speed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.puzzles.dataset import IGNORE, Meta, Sampler, Split
from hrm_lab.puzzles.generators import build
from hrm_lab.puzzles.toys import copy_increment


def numbered(n, difficulty=None, tasks=None, groups=None, puzzles=None):
    """A split in which input cell 0 is the number of the example."""
    inputs = np.stack([np.arange(n), np.arange(n) + 1], 1).astype(np.int32)
    meta = Meta(seq_len=2, vocab_size=n + 1, pad_id=n, tasks=("a", "b"))
    zeros = np.zeros(n, np.int32)
    return Split(inputs, inputs % 3 + 1, zeros, zeros if tasks is None else np.asarray(tasks, np.int32),
                 np.asarray(zeros if difficulty is None else difficulty, np.float32),
                 np.arange(n, dtype=np.int32) if groups is None else np.asarray(groups, np.int32), meta,
                 None if puzzles is None else np.asarray(puzzles, np.int32))


@pytest.fixture(scope="module")
def sudoku(tmp_path_factory):
    return build("sudoku-4x4", tmp_path_factory.mktemp("s4"), 100, 20, seed=0)[0]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6), noise=st.sampled_from([0.0, 0.2]),
       balance=st.sampled_from(["none", "difficulty", "task"]), curriculum=st.sampled_from([0.0, 0.8]))
def test_resumed_stream_is_the_same_to_the_bit(sudoku, sizes, noise, balance, curriculum):
    def fresh():
        return Sampler(sudoku, 5, label_noise=noise, input_noise=noise, balance=balance, curriculum=curriculum,
                       curriculum_examples=150 if curriculum else 0)

    one, two = fresh(), fresh()
    for size in sizes:
        one.take(size)
    two.load_state(json.loads(json.dumps(one.state())))  # through JSON, as a checkpoint stores it
    for size in (1, 64, 130):
        assert equal(one.take(size), two.take(size))
    assert one.drawn == two.drawn == sum(sizes) + 195


def test_state_of_another_seed_or_dataset_is_refused(sudoku):
    state = Sampler(sudoku, 5).state()
    with pytest.raises(ValueError, match="seed is 5; expected 6"):
        Sampler(sudoku, 6).load_state(state)
    with pytest.raises(ValueError, match="examples is 100; expected 7"):
        Sampler(numbered(7), 5).load_state(state)


def test_batches_are_int64_and_seeds_differ(sudoku):
    inputs, labels, ids, tasks = Sampler(sudoku, 0).take(7)
    assert inputs.shape == labels.shape == (7, 16) and ids.shape == tasks.shape == (7,)
    assert {a.dtype for a in (inputs, labels, ids, tasks)} == {np.dtype(np.int64)}
    assert not np.array_equal(inputs, Sampler(sudoku, 1).take(7)[0])


def test_an_epoch_shows_every_example_once_in_a_new_order():
    sampler = Sampler(numbered(50), 0)
    first, second = sampler.take(50)[0][:, 0], sampler.take(50)[0][:, 0]
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()


def test_an_epoch_shows_one_puzzle_of_each_group_whole():
    """Group 0: three puzzles of 2 examples; group 1: one puzzle of 3. An epoch has 5 examples."""
    split = numbered(9, groups=[0] * 6 + [1] * 3, puzzles=[0, 0, 1, 1, 2, 2, 3, 3, 3])
    sampler, chosen, orders = Sampler(split, 0), set(), set()
    for _ in range(40):
        rows = sampler.take(5)[0][:, 0].tolist()
        orders.add(tuple(rows))
        assert sorted(rows)[2:] == [6, 7, 8]
        chosen.add(tuple(sorted(rows)[:2]))
    assert chosen == {(0, 1), (2, 3), (4, 5)} and len(orders) > 20


def test_noise_off_changes_nothing_and_noise_hits_only_what_it_should():
    split = copy_increment(400, 2, 0)[0]
    clean = Sampler(split, 1).take(400)
    noisy = Sampler(split, 1, label_noise=0.25, input_noise=0.1).take(400)
    assert equal(clean[2:], noisy[2:])
    scored, used = clean[1] != IGNORE, clean[0] != split.meta.pad_id
    assert np.array_equal(noisy[1] == IGNORE, ~scored) and np.array_equal(noisy[0] == 0, ~used)
    for share, p, change in ((scored, 0.25, clean[1] != noisy[1]), (used, 0.1, clean[0] != noisy[0])):
        assert abs(change[share].mean() - p) < 4 * (p * (1 - p) / share.sum()) ** 0.5
    assert set(np.unique(noisy[1][scored])) <= set(np.unique(split.labels[split.labels != IGNORE]))
    assert equal(clean[:1], Sampler(split, 1, label_noise=0.25).take(400)[:1])


def test_label_noise_one_always_gives_another_symbol():
    split = copy_increment(40, 2, 0)[0]
    clean, noisy = Sampler(split, 1).take(40)[1], Sampler(split, 1, label_noise=1.0).take(40)[1]
    assert (clean != noisy)[clean != IGNORE].all()


def test_balance_gives_equal_shares_to_tasks_and_difficulty_bins():
    split = numbered(1000, difficulty=[0.05] * 900 + [0.95] * 100, tasks=[0] * 20 + [1] * 980)
    tasks = Sampler(split, 0, balance="task").take(2000)[3]
    assert abs((tasks == 0).mean() - 0.5) < 0.01
    rows = Sampler(split, 0, balance="difficulty").take(2000)[0][:, 0]
    assert abs((rows >= 900).mean() - 0.5) < 0.01
    assert abs((Sampler(split, 0).take(2000)[0][:, 0] >= 900).mean() - 0.1) < 0.01


def test_curriculum_starts_easy_and_ends_with_everything():
    split = numbered(1000, difficulty=np.linspace(1, 0, 1000))  # example 999 is the easiest
    sampler = Sampler(split, 0, curriculum=0.9, curriculum_examples=5000)
    start = sampler.take(100)[0][:, 0]
    assert start.min() >= 900
    hardest = [999 - sampler.take(980)[0][:, 0].min() for _ in range(5)]
    assert hardest == sorted(hardest) and hardest[0] < 350
    sampler.take(1000)
    after = sampler.take(3000)[0][:, 0]
    assert len(set(after.tolist())) == 1000


@pytest.mark.parametrize(("options", "text"), [
    ({"label_noise": 1.5}, "label_noise is 1.5; expected 0..1"),
    ({"balance": "length"}, "balance is 'length'; expected one of none, difficulty, task"),
    ({"curriculum": 0.5}, "curriculum 0.5 with curriculum_examples 0"),
    ({"curriculum_examples": 5}, "curriculum 0.0 with curriculum_examples 5"),
])
def test_bad_options_are_refused(options, text):
    with pytest.raises(ValueError) as error:
        Sampler(numbered(4), 0, **options)
    assert text in str(error.value) and "\n" not in str(error.value)

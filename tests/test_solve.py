"""Solving from text: every complaint points at a place, the answer is held against the rules, exit codes say which."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab import cli, runs, solve
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.model import HRM, HRMConfig
from hrm_lab.puzzles import dataset, mazes, sudoku
from hrm_lab.solve import GridError, broken, read

EASY = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
MAZE = "S.#\n..#\n#.G"


def rows(text, width=9):
    return "\n".join(text[i:i + width] for i in range(0, len(text), width))


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("text", [
    EASY, rows(EASY), rows(EASY).replace(".", "0"), rows(EASY).replace(".", "_").replace("\n", "\r\n"),
    "\n".join(" ".join(r) for r in rows(EASY).split()) + "\n\n",
    solve.drawn(read(EASY).tokens, read(EASY).meta),
])
def test_a_sudoku_is_read_however_it_is_drawn(text):
    puzzle = read(text)
    assert puzzle.meta.name == "sudoku-9x9" and puzzle.meta.grid == (9, 9, 3, 3)
    assert "".join(puzzle.meta.tokens[t] for t in puzzle.tokens) == EASY
    assert puzzle.given.sum() == 30


@pytest.mark.parametrize("text, message", [
    (rows(EASY).replace("6..195", "6x.195"), "p: line 2, column 2: got 'x', expected 1-9 or . for a blank"),
    (rows(EASY).replace("6..195...", "6..195.."), "p: line 2: got 8 cells, expected 9 as in other lines"),
    (EASY[:80], "p: got 80 cells, expected 81 (or 36 or 16) for a Sudoku"),
    ("", "p: got 0 cells, expected 81"),
    (rows(EASY).replace("6..195", "6..196"),
     "p: line 2, column 6: got a second 6 in row 2 (the first: line 2, column 1)"),
    ("1...\n....\n....\n5...", "p: line 4, column 1: got '5', expected 1-4 or ."),
    ("1...\n1...\n....\n....", "p: line 2, column 1: got a second 1 in column 1 (the first: line 1, column 1)"),
    ("1...\n.1..\n....\n....", "p: line 2, column 2: got a second 1 in box 1"),
    ("²" * 81, "p: line 1, column 1: got '²'"),
    ("S.#\n..\n#.G", "p: line 2: got 2 cells, expected 3 as in line 1"),
    ("S.#\n.x#\n#.G", "p: line 2, column 2: got 'x', expected # (wall), . or a space (open), S or G"),
    ("S.#\n.S#\n#.G", "p: line 2, column 2: got 2 S, expected exactly one"),
    ("S.#\n..#\n#..", "p: got 0 G, expected exactly one"),
    ("S#.\n##.\n..G", "p: got no way from S to G, expected one through open cells"),
])
def test_what_is_no_puzzle_is_refused_with_its_place(text, message):
    with pytest.raises(GridError) as error:
        read(text, "p")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=" .0123456789SG#|+-\r\nx", max_size=120) | st.text(max_size=100))
def test_any_text_is_a_puzzle_or_one_line_of_complaint(text):
    try:
        puzzle = read(text, "p")
    except GridError as error:
        assert str(error).startswith("p") and "\n" not in str(error)
    else:
        assert puzzle.tokens.shape == (puzzle.meta.seq_len,) and len(puzzle.places) == puzzle.meta.seq_len


def test_a_maze_is_read_with_its_size():
    puzzle = read("\n" + MAZE.replace(".", " ") + "\n")
    assert puzzle.meta.name == "maze-3x3" and solve.line(puzzle.tokens, puzzle.meta) == MAZE.replace(".", " ")
    assert solve.way(puzzle.tokens, (3, 3)) == 4


# ---------------------------------------------------------------- the rules


def answer(puzzle, text):
    return np.array([puzzle.meta.tokens.index(s) if s != " " else mazes.OPEN for s in text.replace("\n", "")])


def test_an_answer_is_held_against_the_rules():
    puzzle = read(EASY)
    right = answer(puzzle, SOLVED)
    assert sudoku.check_puzzle(EASY) == tuple(map(int, SOLVED)) and broken(puzzle, right) == []
    wrong = right.copy()
    wrong[0] = 1
    assert broken(puzzle, wrong) == ["the given '5' at row 1, column 1 is not kept", "row 1, column 1 is left blank"]
    wrong = right.copy()
    wrong[2] = right[3]
    assert broken(puzzle, wrong)[0] == "6 stands twice in row 1 (row 1, column 3 and row 1, column 4)"


def test_a_way_must_be_one_and_the_shortest():
    puzzle = read("S..\n...\n..G")
    assert broken(puzzle, answer(puzzle, "Soo\n  o\n  G")) == []
    assert broken(puzzle, answer(puzzle, "So \n  o\n  G")) == ["the marked cells are no way from S to G"]
    longer = broken(puzzle, answer(puzzle, "Soo\n oo\n  G"))
    assert longer == ["the marked way has 4 cells, expected the shortest with 3"]
    assert broken(read(MAZE), answer(read(MAZE), "So#\n oo\n# G"))[0].startswith("the given '#' at row 2, column 3")


# ---------------------------------------------------------------- the command


def test_the_shipped_weights_solve_a_sudoku_and_show_how(tmp_path, capsys):
    (tmp_path / "easy.txt").write_text(rows(EASY))
    assert cli.main(["solve", str(tmp_path / "easy.txt"), "--steps"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "solved: the answer keeps every rule" in out and "5 3 4 | 6 7 8 | 9 1 2" in out
    assert "attempt 1" in out and "segment  1:" in out
    assert cli.main(["solve", EASY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == SOLVED == found["segments"][-1]["answer"] and found["solved"] and found["sure"]
    assert found["attempts"][found["chosen"] - 1]["segments"] == len(found["segments"])


def test_the_steps_end_with_the_answer_under_every_symmetry():
    held = dataset.load(ROOT / "weights" / "sudoku-9x9", "test")
    hard = held.inputs[held.tasks == 1][:6]
    found = [solve.solve(read(solve.line(x, read(EASY).meta)), attempts=4) for x in hard]
    for one in found:
        assert (one.frames[-1]["answer"] == one.answer).all()
        assert one.frames[-1]["halt"] == pytest.approx(one.attempts[one.chosen]["confidence"], abs=1e-3)
    assert any(one.chosen > 0 for one in found) and any(one.solved for one in found)


@pytest.mark.parametrize("text, solved", [
    ("3.2.12.4......12", "3421123421434312"),
    ("43.....12..3.2.1...5.2.6.435...61..4", "435612612453326145154236243561561324")])
def test_small_sudokus_have_weights_of_their_own(text, solved, capsys):
    assert cli.main(["solve", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == solved


def test_the_shipped_weights_find_the_way_through_a_maze_of_any_shape(capsys):
    maze = "G.#...#\n#...#..\n.###S#.\n...#.#.\n.#....."
    assert cli.main(["solve", maze, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["solved"] and len(found["attempts"]) == 1
    assert found["answer"] == "Go#ooo#\n#ooo#oo\n ###S#o\n   #o#o\n #  ooo"


def test_a_wrong_answer_is_exit_code_1(capsys):
    assert cli.main(["solve", "12......." + "." * 72, "--attempts", "1"]) == 1  # two clues: many solutions
    assert "not solved: " in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["nothing.txt"], "PUZZLE: got 'nothing.txt', expected a file that exists, - or a puzzle"),
    (["1" * 81], "PUZZLE: line 1, column 2: got a second 1 in row 1"),
    (["1..." + "." * 12, "--weights", str(ROOT / "weights" / "sudoku-9x9")],
     "sudoku-9x9: made for grids of 9x9 with 11 symbols, expected weights for sudoku-4x4"),
    ([EASY, "--weights", "nowhere"], "nowhere/model.safetensors: no such checkpoint"),
])
def test_a_wrong_question_is_exit_code_2(arguments, message, capsys):
    assert cli.main(["solve", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"hrm-lab solve: {message}") and err.count("\n") == 1


def test_a_file_that_is_no_text_is_refused(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"\xff\xfe123")
    assert cli.main(["solve", str(tmp_path / "x")]) == 2
    assert "byte 0: got 0xff, expected text in UTF-8" in capsys.readouterr().err


def test_other_weights_are_taken_where_they_fit(tmp_path, capsys):
    torch.manual_seed(0)
    config = HRMConfig(vocab_size=6, seq_len=9, grid=(3, 3, 1, 1), hidden=16, heads=2, H_layers=1, L_layers=1,
                       inner_multiple=16, expansion=2, halt_max_steps=2, variant="trm")
    model = HRM(config)
    runs.save_checkpoint(tmp_path / "maze/model.safetensors", model.state_dict(), {"config": vars(config)})
    assert cli.main(["solve", MAZE, "--weights", str(tmp_path / "maze"), "--json"]) == 1  # it has learnt nothing
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "maze-3x3" and len(found["attempts"]) <= 8 and found["broken"]
    assert cli.main(["solve", MAZE, "--weights", str(tmp_path / "maze"), "--attempts", "9"]) == 2
    assert "expected at most 8" in capsys.readouterr().err

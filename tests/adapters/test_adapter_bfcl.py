"""What needs fetched packages: all of BFCL's usable rows, its own checker, tokenizers of published models.

Skipped where the packages are not in data/cache, so that no test asks the network.
"""

import importlib.util
import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_examples import SAMPLE

from hrm_lab.adapters import bfcl, chats, llama3, preflight
from hrm_lab.adapters.examples import read_splits
from hrm_lab.adapters.faults import FAULTS
from hrm_lab.adapters.formats import FORMATS, template
from hrm_lab.adapters.scoring import judge
from hrm_lab.inspect_notebook import ROOT

CACHE = ROOT / "data" / "cache"
PARTS = read_splits(SAMPLE)


def need(pattern: str):
    if not list(CACHE.glob(pattern)):
        pytest.skip(f"{pattern} is not in data/cache")


@pytest.fixture(scope="module")
def rows():
    need("bfcl_eval-*.whl")
    return bfcl.load(CACHE)


def test_usable_rows_are_counted_and_their_golds_score_100_percent(rows):
    examples, counts = rows
    assert sum(e.source in bfcl.CALLS for e in examples) == 1892
    assert Counter(e.source for e in examples) == {s: counts[f"{s}/used"] for s in {e.source for e in examples}}
    assert counts["live_multiple/dropped"] == 16 and len({e.id for e in examples}) == len(examples)
    for form in FORMATS.values():
        assert all(v.exact and v.schema_valid for v in (judge(e, form.answer(e), form) for e in examples[::5]))


@pytest.mark.parametrize("seed", range(3))
def test_the_split_shares_no_function_and_no_question(rows, seed):
    able = [e for e in rows[0] if e.source in bfcl.CALLS]
    parts = bfcl.split(able, test=250, validation=80, seed=seed)
    assert len(parts["test"]) >= 250 and len(parts["validation"]) >= 80 and sum(map(len, parts.values())) == len(able)
    kinds = (lambda e: {t["name"] for t in e.tools}, lambda e: {" ".join(t["content"] for t in e.turns).lower()})
    for of in kinds:
        train, validation, test = ({x for e in parts[n] for x in of(e)} for n in ("train", "validation", "test"))
        assert not train & test and not train & validation and not validation & test


def test_verdicts_agree_with_the_checker_of_the_field(rows):
    spec = importlib.util.spec_from_file_location("bfcl_parity", ROOT / "benchmarks" / "bfcl_parity.py")
    parity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parity)
    rng = random.Random(1)
    cases = [(e, parity.mutate(e, rng)) for e in rows[0] if e.calls for _ in range(1)][::3]
    ours, theirs = parity.verdicts(CACHE, cases)
    assert len(ours) > 700 and 100 < sum(ours) < len(ours) - 100
    assert ours == [verdict is True for verdict in theirs]


# ---------------------------------------------------------------- tokenizers of published models


def published(name: str):
    if name == "llama3":
        need("llama*models-*.whl")
        return llama3.tokenizer(CACHE)
    need("smollm2-135m-instruct/tokenizer.json")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(CACHE / "smollm2-135m-instruct")


@pytest.mark.parametrize("name", ["llama3", "smollm2"])
def test_published_tokenizers_raise_no_alarm_and_hide_no_fault(name):
    text = published(name)
    for form in FORMATS.values():
        plan = preflight.plan(text, form, PARTS["train"], PARTS["validation"], PARTS["test"], max_new=300)
        assert [f for f in preflight.check(plan).findings if f.check != "sizes"] == []
    for fault in FAULTS.values():
        assert fault.finds in {f.check for f in preflight.check(fault.put(plan)).findings}, fault.name


def test_llama3s_ids_are_the_published_ones():
    text = published("llama3")
    assert text("Hello")["input_ids"] == [128000, 9906]  # its post-processor writes the beginning
    assert text.convert_tokens_to_ids(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]) == [
        128006, 128007, 128009]
    odd = 'naïve  {"a": [1, 22222]}\n\n\tx\r\n'
    assert text.decode(text(odd, add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False) == odd


def test_a_template_by_hand_gets_a_second_beginning(tmp_path):
    text = published("llama3")
    for part, examples in PARTS.items():
        said = [template(text, [*FORMATS["hermes"].messages(e), {"role": "assistant", "content": "{}"}], ask=False)
                for e in examples]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in said))
    assert {f.check for f in chats.check(tmp_path, text, 4096).findings} >= {"bos", "masking"}


def by_ranks(text: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Byte-pair encoding as tiktoken does it: join the neighbours of the lowest rank until none are left."""
    parts = [text[i:i + 1] for i in range(len(text))]
    while True:
        joins = [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False)) if a + b in ranks]
        if not joins:
            return parts
        _, i = min(joins)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=25), st.text("abcd", min_size=1, max_size=20))
def test_merges_split_words_as_ranks_do(picks, word):
    from tokenizers import Tokenizer, models

    tokens = [b"a", b"b", b"c", b"d"]
    for pick in picks:  # each new token joins two older ones, as training does
        made = tokens[pick % len(tokens)] + tokens[pick // 7 % len(tokens)]
        if made not in tokens and len(made) < 9:
            tokens.append(made)
    ranks = {token: i for i, token in enumerate(tokens)}
    pairs = [(a.decode(), b.decode()) for a, b in llama3.merges(ranks)]
    bpe = Tokenizer(models.BPE({t.decode(): i for t, i in ranks.items()}, pairs))
    assert bpe.encode(word).tokens == [part.decode() for part in by_ranks(word.encode(), ranks)]
    assert len(set(llama3.byte_letters())) == 256

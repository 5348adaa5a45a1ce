"""Pre-flight of anybody's chat rows: what can be seen before training without our own examples.

A line is one of: {"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]} (ShareGPT), {"prompt",
"completion"}, or {"text"}, a rendered conversation. The last turn is the assistant's. Unusual: nothing is known of the
grader, so golds are read by the strict parsers of hrm_lab.adapters.formats: an answer that holds a call and that no
parser reads cannot be right for any grader of JSON.
"""

import ast
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from .examples import ExampleError
from .formats import HERMES, STRUCTURED, Parsed, encode, ending, template
from .preflight import Finding, Report, places
from .preflight_tokens import MARKER

ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
CALL = re.compile(r"<tool_call>.*|\{\s*['\"](?:name|arguments)['\"].*", re.DOTALL)


@dataclass(frozen=True)
class Chat:
    """One row. `messages` ends before the answer and is empty where the row is a rendered text."""

    id: str
    messages: tuple[dict, ...]
    answer: str  # "" in a rendered text without a call
    text: str  # as the row renders it; "" where the chat template does


def is_chat(path: Path) -> bool:
    """Whether the first line of a file is a chat row."""
    if not path.is_file():
        return False
    with open(path, encoding="utf-8") as file:
        first = file.readline()
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and bool({"messages", "conversations", "text", "completion"} & set(row))


def _chat(row: dict, name: str) -> Chat:
    """Raises KeyError, TypeError, ValueError: it is none."""
    if "text" in row:
        found = CALL.search(row["text"], row["text"].rfind("assistant") + 1)
        return Chat(name, (), found[0] if found else "", row["text"])
    if "completion" in row:
        turns = ([{"role": "user", "content": row["prompt"]}] if isinstance(row["prompt"], str) else [*row["prompt"]])
        last = row["completion"] if isinstance(row["completion"], str) else row["completion"][-1]["content"]
        return Chat(name, tuple(turns), last, "")
    said = row.get("messages") or [{"role": m["from"], "content": m["value"]} for m in row["conversations"]]
    turns = [{"role": ROLES.get(m["role"], m["role"]), "content": m["content"]} for m in said]
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or not all(isinstance(m["content"], str) for m in turns):
        raise ValueError("the last of at least two turns is not the assistant's")
    return Chat(name, tuple(turns[:-1]), turns[-1]["content"], "")


def read(path: Path) -> list[Chat]:
    """The rows of a file. Raises `ExampleError` naming file and line."""
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                found.append(_chat(json.loads(line), f"{path.stem}:{number}"))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise ExampleError(f"{path}:{number}: {line[:60]!r} ({type(error).__name__}: {error}); expected "
                                   "messages, "
                                   "conversations, prompt and completion, or text") from None
    if not found:
        raise ExampleError(f"{path}: no rows; expected at least one")
    return found


def parsed(chat: Chat) -> Parsed | None:
    """The calls of an answer that holds any; None for one in words."""
    if not CALL.search(chat.answer):
        return None
    text = chat.answer
    if chat.text:  # what a rendered text writes after the call is not known
        text = text[:text.rfind("</tool_call>") + 12] if "</tool_call>" in text else text[:text.rfind("}") + 1]
    return (HERMES if "<tool_call>" in text else STRUCTURED).parse(text.strip())


def _names(chat: Chat) -> set[str]:
    """Names of functions and arguments in a gold, be it JSON or what Python prints."""
    found = parsed(chat)
    calls = list(found.calls) if found else []
    for text in re.findall(r"\{.*\}", chat.answer) if found and not calls else ():
        try:
            calls.append(ast.literal_eval(text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    calls = [c for c in calls if isinstance(c, dict) and isinstance(c.get("arguments"), dict)]
    return {str(name) for c in calls for name in (c.get("name", ""), *c["arguments"]) if name}


def _golds(rows: list[Chat], part: str) -> list[Finding]:
    read_as = {c.id: parsed(c) for c in rows}
    bad = [i for i, found in read_as.items() if found is not None and not found.calls]
    held = sum(found is not None for found in read_as.values())
    if not bad:
        return []
    first = next(c.answer for c in rows if c.id == bad[0])
    return [Finding("gold", f"{100 * len(bad) / held:.0f} % of gold calls cannot be read as JSON: {first[:60]!r}",
                    places(bad, held, f"{part} golds with a call"),
                    "No model can score there, a perfect one included; a trained one learns to write it.",
                    "json.dumps, not str, of typed values", "error")]


def _texts(rows: list[Chat], tokenizer) -> list[str]:
    return [c.text or template(tokenizer, [*c.messages, {"role": "assistant", "content": c.answer}],
                               ask=False) for c in rows]


def _rendered(rows: list[Chat], tokenizer) -> list[Finding]:
    """Findings of rows that are rendered texts."""
    own = [c for c in rows if c.text]
    if not own:
        return []
    control = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    after = ending(tokenizer)[0].strip()
    asked = template(tokenizer, [{"role": "user", "content": "u"}], ask=True)
    opening = asked[asked.rfind("u") + 1:].strip()
    foreign = [c.id for c in own if opening not in c.text]
    endless = [c.id for c in own if not c.text.rstrip().endswith(after)]
    doubled = [c.id for c in own if tokenizer.bos_token_id is not None
               and tokenizer(c.text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2]
    listed = (("template", f"texts do not hold what the chat template opens an answer with ({opening!r})", foreign,
               "What the model learnt of roles and turns before is not used."),
              ("end", f"texts do not end with {after!r}", endless, "Generation never stops; a strict score is 0 %."),
              ("bos", "tokenizing adds a second beginning-of-sequence token", doubled, "A beginning never seen."))
    found = [Finding(check, what, places(ids, len(own)), consequence, "keep messages, and let apply_chat_template "
                                                                      "render",
                     "error") for check, what, ids, consequence in listed if ids]
    split: dict[str, list[str]] = {}
    for c in own:
        for marker in {m.strip() for m in MARKER.findall(c.text)} - control:
            split.setdefault(marker, []).append(c.id)
    found += [Finding("markers", f"role marker {m!r} is {len(encode(tokenizer, m))} tokens and no special one",
                      places(ids, len(own)), "The model does not know it as a boundary.",
                      "roles by tokenizer.apply_chat_template", "error") for m, ids in sorted(split.items())]
    return [*found, Finding("masking", "rows are one text, so that nothing says where the answer begins",
                            places([c.id for c in own], len(own)), "Unless the trainer is told, the loss is over the "
                                                                   "prompt "
                            "too, nine tenths of it.", "keep messages, or prompt and completion", "warning")]


def check(folder: Path | str, tokenizer, max_length: int) -> Report:
    """Findings on train.jsonl, and on validation.jsonl and test.jsonl where they are. Raises `ExampleError`, "
      "ValueError."""
    start = time.perf_counter()
    parts = {name: read(path) for name in ("train", "validation", "test")
             if (path := Path(folder) / f"{name}.jsonl").is_file()}
    train = parts["train"]
    found = [finding for name, rows in parts.items() for finding in _golds(rows, name)]
    found += _rendered(train, tokenizer)
    lengths = {c.id: len(encode(tokenizer, text)) for c, text in zip(train, _texts(train, tokenizer), strict=True)}
    if long := [i for i, length in lengths.items() if length > max_length]:
        found.append(Finding("truncation", f"rows are longer than max_length = {max_length}", places(long, len(train)),
                             "The trainer cuts the answer, which stands last: they teach to go on with the prompt.",
                             f"raise max_length to {max(lengths.values())}, or drop the rows", "error"))
    hidden = [c.id for rows in parts.values() for c in rows if not all(
        name in " ".join([c.text.replace(c.answer, "") if c.answer else c.text, *(m["content"] for m in c.messages)])
        for name in _names(c))]
    if hidden:
        found.append(Finding("visible", "names of gold functions or arguments do not stand in the prompt",
                             places(hidden, sum(map(len, parts.values())), "rows"), "They can only be guessed.",
                             "put the schemas of all tools into the prompt", "error"))
    asked = {_question(c) for c in train}
    for name in set(parts) - {"train"}:
        if same := [c.id for c in parts[name] if _question(c) in asked]:
            found.append(Finding("leak", f"questions of {name} stand in train", places(same, len(parts[name]),
                                 f"{name} rows"), "The score measures memory there.", "split by question and function",
                                 "error"))
    if len(parts) < 3:
        found.append(Finding("sizes", "no validation.jsonl or no test.jsonl", str(folder), "Nothing can be chosen or "
                                                                                           "judged "
                             "on held-out rows.", "split before training", "warning"))
    found.sort(key=lambda f: f.severity != "error")
    made = ("gold", "template", "end", "bos", "markers", "masking", "truncation", "visible", "leak", "sizes")
    return Report(tuple(found), made, ("taught", "parity", "loss", "likelihood"), round(time.perf_counter() - start, 2))


def _question(chat: Chat) -> str:
    """The last words of the user, or of a rendered text what stands before the answer; without case and punctuation."""
    users = [m["content"] for m in chat.messages if m["role"] == "user"]
    text = users[-1] if users else chat.text[:chat.text.rfind(chat.answer)] if chat.answer else chat.text
    return " ".join(re.findall(r"\w+", text.lower()))

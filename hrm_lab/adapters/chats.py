"""Pre-flight of anybody's chat rows: what can be seen before training without our own examples.

A line is one of: {"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]} (ShareGPT), {"prompt",
"completion"}, or {"text"}, a rendered conversation. The last turn is the assistant's. Unusual: nothing is known of the
grader and of the layout of a call, so a gold is only asked to be JSON where it looks like a call: what Python prints,
with single quotes, is right for no grader of JSON.
"""

import ast
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from .examples import ExampleError
from .formats import encode, ending, template
from .preflight import Report
from .preflight_plan import Finding, some
from .preflight_tokens import MARKER

ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
CALL = re.compile(r"<tool_call\b.*|\[?\s*\{\s*['\"](?:name|tool_name|function|arguments|parameters)['\"]\s*:.*",
                  re.DOTALL)
BODY = re.compile(r"<tool_call\b([^>]*)>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


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


def bodies(answer: str) -> list[str]:
    """The JSON texts of the calls in an answer: what stands between call tags, or from the first bracket to the "
      "last."""
    if not CALL.search(answer):
        return []
    if tagged := BODY.findall(answer):
        return [body.strip() for _, body in tagged]
    start = min(at for at in (answer.find("{"), answer.find("[")) if at >= 0)
    return [answer[start:max(answer.rfind("}"), answer.rfind("]")) + 1]]


def _loads(text: str, read=json.loads):
    """What a text holds, or None."""
    try:
        return read(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _names(chat: Chat) -> set[str]:
    """Names of functions and arguments in a gold, be it JSON or what Python prints."""
    named = set(re.findall(r'name="([^"]+)"', " ".join(head for head, _ in BODY.findall(chat.answer))))
    for body in bodies(chat.answer):
        found = _loads(body) or _loads(body, ast.literal_eval)
        for call in found if isinstance(found, list) else [found]:
            if isinstance(call, dict):
                arguments = call.get("arguments", call.get("parameters", {} if "name" in call else call))
                named |= {str(call[key]) for key in ("name", "tool_name") if key in call}
                named |= set(arguments) if isinstance(arguments, dict) else set()
    return named


def _golds(rows: list[Chat], part: str) -> list[Finding]:
    held = [c for c in rows if bodies(c.answer)]
    bad = [c for c in held if not all(isinstance(_loads(body), dict | list) for body in bodies(c.answer))]
    first = repr(bad[0].answer)[:70] if bad else ""
    return some("gold", f"{100 * len(bad) / max(1, len(held)):.0f} % of gold calls cannot be read as JSON: {first}",
                [c.id for c in bad], held, "No model can score there, a perfect one included; a trained one learns to "
                "write it.", "json.dumps, not str, of typed values", f"{part} golds with a call")


def _syntax(rows: list[Chat], tokenizer) -> list[Finding]:
    """Prompts that ask for another syntax than their answers have, or hold made-up control tokens."""
    known = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    torn, odd = [], {}
    for c in rows:
        prompt, tags = _prompt(c), BODY.findall(c.answer)
        if tags and "<tool_call name=" in prompt and not all("name=" in head for head, _ in tags):
            torn.append(c.id)
        for marker in {m.strip() for m in MARKER.findall("" if c.text else prompt)} - known:
            odd.setdefault(marker, []).append(c.id)
    found = some("format", "the prompt asks for <tool_call name=...>, the answer is written otherwise", torn, rows,
                 "Rules and examples contradict each other, and a grader follows one of them.",
                 "one syntax in prompt, answer and grader")
    for m, ids in sorted(odd.items()):
        found += some("markers", f"a message holds {m!r}, which looks like a control token and is "
                      f"{len(encode(tokenizer, m))} tokens", ids, rows, "It is plain text to the model, and spends its "
                      "context.", "plain words", severity="warning")
    return found


def _prompt(c: Chat) -> str:
    """All that stands before the answer."""
    if c.text:
        return c.text[:c.text.rfind(c.answer)] if c.answer else c.text
    return " ".join(m["content"] for m in c.messages)


def _texts(rows: list[Chat], tokenizer) -> list[str]:
    return [c.text or template(tokenizer, [*c.messages, {"role": "assistant", "content": c.answer}], ask=False)
            for c in rows]


def _rendered(rows: list[Chat], tokenizer) -> list[Finding]:
    """Findings of rows that are rendered texts."""
    own = [c for c in rows if c.text]
    control = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    after, first = ending(tokenizer)[0].strip(), tokenizer.bos_token_id
    asked = template(tokenizer, [{"role": "user", "content": "u"}], ask=True)
    opening = asked[asked.rfind("u") + 1:].strip()
    split: dict[str, list[str]] = {}
    foreign, endless, stray, doubled = [], [], [], []
    for c in own:
        if opening not in c.text:
            foreign.append(c.id)
        if after not in c.text[c.text.rfind(c.answer):]:
            endless.append(c.id)
        elif not c.text.rstrip().endswith(after):
            stray.append(c.id)
        if first is not None and tokenizer(c.text[:200])["input_ids"][:2] == [first, first]:
            doubled.append(c.id)
        for marker in {m.strip() for m in MARKER.findall(c.text)} - control:
            split.setdefault(marker, []).append(c.id)
    cure = "keep messages, and let apply_chat_template render"
    found = [
        *some("template", f"texts do not hold what the chat template opens an answer with ({opening!r})", foreign, own,
              "What the model learnt of roles and turns before is not used.", cure),
        *some("end", f"texts do not end with {after!r}", endless, own,
              "Generation never stops; a strict score is 0 %.", cure),
        *some("end", f"texts go on after {after!r}", stray, own, "The model learns to write more after its turn.",
              cure),
        *some("bos", "tokenizing adds a second beginning-of-sequence token", doubled, own, "A beginning never seen.",
              cure)]
    for m, ids in sorted(split.items()):
        found += some("markers", f"role marker {m!r} is {len(encode(tokenizer, m))} tokens and no special one", ids,
                      own, "The model does not know it as a boundary.", cure)
    return found + some("masking", "rows are one text, so that nothing says where the answer begins",
                        [c.id for c in own], own, "Unless the trainer is told, the loss is over the prompt too, nine "
                        "tenths of it.", "keep messages, or prompt and completion", severity="warning")


def check(folder: Path | str, tokenizer, max_length: int) -> Report:
    """Findings on train.jsonl, and on validation.jsonl and test.jsonl where they are.

    Raises `ExampleError`: a row is none; ValueError: the tokenizer has no chat template.
    """
    start = time.perf_counter()
    parts = {name: read(path) for name in ("train", "validation", "test")
             if (path := Path(folder) / f"{name}.jsonl").is_file()}
    train, rows = parts["train"], [c for part in parts.values() for c in part]
    found = [finding for name, part in parts.items() for finding in _golds(part, name)]
    found += _rendered(train, tokenizer) + _syntax(train, tokenizer)
    lengths = {c.id: len(encode(tokenizer, text)) for c, text in zip(train, _texts(train, tokenizer), strict=True)}
    found += some("truncation", f"rows are longer than max_length = {max_length}",
                  [i for i, length in lengths.items() if length > max_length], train,
                  "The trainer cuts the answer, which stands last: they teach to go on with the prompt.",
                  f"raise max_length to {max(lengths.values())}, or drop the rows")
    found += some("visible", "names of gold functions or arguments do not stand in the prompt",
                  [c.id for c in rows if not all(name in _prompt(c) for name in _names(c))], rows,
                  "They can only be guessed.", "put the schemas of all tools into the prompt", "rows")
    asked = {_question(c) for c in train}
    for name in set(parts) - {"train"}:
        found += some("leak", f"questions of {name} stand in train",
                      [c.id for c in parts[name] if _question(c) in asked], parts[name],
                      "The score measures memory there.", "split by question and function", f"{name} rows")
    if len(parts) < 3:
        found.append(Finding("sizes", "no validation.jsonl or no test.jsonl", str(folder), "Nothing can be chosen or "
                             "judged on held-out rows.", "split before training", "warning"))
    found.sort(key=lambda f: f.severity != "error")
    made = ("gold", "format", "template", "end", "bos", "markers", "masking", "truncation", "visible", "leak", "sizes")
    return Report(tuple(found), made, ("taught", "parity", "loss", "likelihood"), round(time.perf_counter() - start, 2))


def _question(chat: Chat) -> str:
    """The last words of the user, or of a rendered text what stands before the answer; without case and punctuation."""
    users = [m["content"] for m in chat.messages if m["role"] == "user"]
    text = users[-1] if users else _prompt(chat)
    return " ".join(re.findall(r"\w+", text.lower()))

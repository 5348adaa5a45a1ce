"""Three ways to put one example before a chat model: structured, hermes, cep. Text is made by the chat template alone.

- `structured`: the tools as JSON schemas in the system message; the answer is one JSON object (several calls: an array;
  no call: an empty array).
- `hermes`: the prompt of the Hermes models (NousResearch's function-calling standard); calls between <tool_call> tags.
- `cep`: a compact engineered context: rules, a digest of the schemas with one line for each parameter, and one worked
  example; the answer as in `structured`. The name comes from one project's "context engineering prefix", which
  wrapped its rules in made-up role tokens and asked for another syntax than it trained on; here it is plain text, and
  asks for what it trains.

Unusual: a prompt is a pure function of (tokenizer, example, format), so every system that is compared gets the same
bytes, and `prompt_hash` says which; the ids of a training row begin with the ids of that prompt by construction.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .examples import Example

IGNORE = -100
DATE = "26 Jul 2024"  # templates of Llama 3.1 and later print a date: pinned, or a prompt would change overnight
HERMES_OPEN, HERMES_CLOSE = "<tool_call>\n", "\n</tool_call>"
NO_TOOL = "None of the functions fits this request."
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as json.dumps writes


@dataclass(frozen=True)
class Parsed:
    """What a text says. `strict`: it is an answer in the format's own syntax and nothing else."""

    calls: tuple[dict, ...]  # {"name", "arguments"}
    strict: bool
    error: str  # "" or a class: "not json", "no call", "not a call", "cut short", "text around the call"


@dataclass(frozen=True)
class Format:
    """A prompt format. Fields are functions, so that the three differ in nothing else."""

    name: str
    context: Callable[[Example], str]  # the system message
    write: Callable[[Iterable[dict]], str]  # calls -> answer
    read: Callable[[str], Parsed]
    wrap: tuple[str, str]  # around each call in a grammar
    shots: tuple[Example, ...] = ()  # answered before the question, each with its own context (few-shot prompts)

    def messages(self, example: Example) -> list[dict]:
        """Chat messages up to and with the user's last turn; a system message first, always."""
        said = []
        for one in (*self.shots, example):
            own = f"{one.system}\n\n" if one.system else ""
            said += [{"role": "system", "content": own + self.context(one)}, *map(dict, one.turns)]
            if one is not example:
                said.append({"role": "assistant", "content": self.answer(one)})
        return said

    def answer(self, example: Example) -> str:
        """The text to train on: the gold calls."""
        return self.write([{"name": call.name, "arguments": call.gold} for call in example.calls])

    def parse(self, text: str) -> Parsed:
        """The calls of a generated text (end token already cut off), or a class of error. Never raises."""
        return self.read(text)

    def grammar(self, example: Example, single: bool = True) -> str:
        """A grammar of llguidance (Lark syntax): one call of one of the tools, arguments as their schemas say.

        single=False allows several calls, and none. Which of the two holds is told by the data set, never by the row.
        """
        before, after = self.wrap
        parts = [f'{json.dumps(before)} ' if before else "", f' {json.dumps(after)}' if after else ""]
        rules = [f"call_{i}: %json {json.dumps(call_schema(tool) | {'x-guidance': LAYOUT})}"
                 for i, tool in enumerate(example.tools)]
        rules.append("call: " + " | ".join(f"{parts[0]}call_{i}{parts[1]}" for i in range(len(example.tools))))
        if single:
            start = "start: call"
        elif before:
            start = f'start: call ("\\n" call)* | {json.dumps(NO_TOOL)}'
        else:
            start = 'start: call | "[]" | "[" call (", " call)+ "]"'
        return "\n".join([start, *rules]) + "\n"


# ---------------------------------------------------------------- schemas


def plain_schema(schema: dict) -> dict:
    """What a grammar needs of a JSON schema: types, properties, items, enum, required; closed where properties are
    named."""
    kept = {key: schema[key] for key in ("type", "enum", "required") if key in schema}
    if schema.get("type") == "object" and "properties" in schema:
        kept["properties"] = {name: plain_schema(s) for name, s in schema["properties"].items()}
        kept["additionalProperties"] = False
    if "items" in schema:
        kept["items"] = plain_schema(schema["items"])
    return kept


def call_schema(tool: dict) -> dict:
    """JSON schema of a call {"name", "arguments"} of one tool."""
    return {"type": "object", "properties": {"name": {"const": tool["name"]},
                                             "arguments": plain_schema(tool["parameters"])},
            "required": ["name", "arguments"], "additionalProperties": False}


def _type_of(schema: dict) -> str:
    """The type of a parameter in a few characters: `integer`, `array of string`, `"a" | "b"`."""
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type", "any")
    return f"array of {_type_of(schema['items'])}" if kind == "array" and "items" in schema else kind


def _digest(schema: dict, indent: str = "  ") -> Iterable[str]:
    """Lines `name*: type - description`, a star at what is required; parameters of objects below them, indented."""
    for name, part in schema.get("properties", {}).items():
        star = "*" if name in schema.get("required", []) else ""
        said = " ".join(part.get("description", "").split())
        yield f"{indent}{name}{star}: {_type_of(part)}" + (f" - {said}" if said else "")
        inner = part.get("items", part) if part.get("type") == "array" else part
        if inner.get("type") == "object":
            yield from _digest(inner, indent + "  ")


# ---------------------------------------------------------------- contexts


def _structured_context(example: Example) -> str:
    tools = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in example.tools)
    return ('Answer with one JSON object {"name": <function>, "arguments": {<argument>: <value>}} that calls the '
            "function which does what the user asks. Several calls: a JSON array of them. No function fits: []. "
            "Nothing else.\nFunctions:\n"
            f"{tools}")


def _hermes_context(example: Example) -> str:
    tools = "\n".join(json.dumps({"type": "function", "function": tool}, ensure_ascii=False) for tool in example.tools)
    return ("You are a function calling AI model. You are provided with function signatures within <tools></tools> XML "
            "tags. You may call one or more functions to assist with the user query. Don't make assumptions about "
            f"what values to plug into functions. Here are the available tools: <tools>\n{tools}\n</tools>\n"
            "For each function call return a JSON object with function name and arguments within "
            "<tool_call></tool_call> XML tags as follows:\n<tool_call>\n"
            '{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>')


def _cep_context(example: Example) -> str:
    tools = "\n".join("\n".join([f"{tool['name']}: {' '.join(tool['description'].split())}",
                                 *_digest(tool["parameters"])]) for tool in example.tools)
    return ("Rules: call the function that fits the request. Copy values from the request, in the type of the "
            "parameter. * means required; leave out what the request does not say. Write JSON only; [] if no function "
            "fits.\n"
            "Example:\nset_alarm: Set an alarm.\n  time*: string - 24-hour time\n  days: array of string\n"
            'Request: wake me at 7 in the morning\nAnswer: {"name": "set_alarm", "arguments": {"time": "07:00"}}\n'
            f"Functions:\n{tools}")


# ---------------------------------------------------------------- answers


def _dump(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_json(calls: Iterable[dict]) -> str:
    calls = list(calls)
    return _dump(calls[0] if len(calls) == 1 else calls)


def _write_hermes(calls: Iterable[dict]) -> str:
    return "\n".join(f"{HERMES_OPEN}{_dump(call)}{HERMES_CLOSE}" for call in calls) or NO_TOOL


def _is_call(value) -> bool:
    return (isinstance(value, dict) and set(value) == {"name", "arguments"} and isinstance(value["name"], str)
            and isinstance(value["arguments"], dict))


def _refuse(text: str):
    raise ValueError(f"{text} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse)  # NaN and Infinity are Python's, not JSON's


def _decode(text: str) -> tuple[object, int]:
    """(value, end) of the JSON at the start of `text`. Raises ValueError."""
    try:
        return DECODER.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read_json(text: str) -> Parsed:
    text = text.strip()
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        return Parsed((), False, "no call")
    at = min(starts)
    try:
        value, length = _decode(text[at:])
    except ValueError:
        return Parsed((), False, "cut short" if _unfinished(text[at:]) else "not json")
    calls = value if isinstance(value, list) else [value]
    if not all(map(_is_call, calls)):
        return Parsed((), False, "not a call")
    whole = at == 0 and length == len(text)
    return Parsed(tuple(calls), whole, "" if whole else "text around the call")


def _read_hermes(text: str) -> Parsed:
    text = text.strip()
    opening, closing = HERMES_OPEN.strip(), HERMES_CLOSE.strip()
    before, *pieces = text.split(opening)
    if not pieces:
        return Parsed((), bool(text), "" if text else "no call")
    calls, strict = [], not before.strip()
    for piece in pieces:
        body, closed, after = piece.partition(closing)
        body = body.strip()
        try:
            value, length = _decode(body)
        except ValueError:
            return Parsed((), False, "cut short" if not closed and _unfinished(body) else "not json")
        if not _is_call(value):
            return Parsed((), False, "not a call")
        calls.append(value)
        strict &= bool(closed) and not after.strip() and length == len(body)
    return Parsed(tuple(calls), strict, "" if strict else "text around the call")


def _unfinished(text: str) -> bool:
    """Whether brackets stay open at the end of a text that begins like JSON."""
    depth, quoted, escaped = 0, False, False
    for c in text:
        if quoted:
            quoted, escaped = escaped or c != '"', not escaped and c == "\\"
        elif c == '"':
            quoted = True
        else:
            depth += (c in "{[") - (c in "}]")
            if depth <= 0:
                return False
    return True


STRUCTURED = Format("structured", _structured_context, _write_json, _read_json, ("", ""))
HERMES = Format("hermes", _hermes_context, _write_hermes, _read_hermes, (HERMES_OPEN, HERMES_CLOSE))
CEP = Format("cep", _cep_context, _write_json, _read_json, ("", ""))
FORMATS = {f.name: f for f in (STRUCTURED, HERMES, CEP)}


# ---------------------------------------------------------------- tokens


@dataclass(frozen=True)
class Row:
    """What a trainer sees of an example: ids, and labels (`IGNORE` where there is no loss), both (T,)."""

    id: str
    ids: tuple[int, ...]
    labels: tuple[int, ...]


def template(tokenizer, messages: list[dict], ask: bool) -> str:
    """The tokenizer's own chat template; `ask` opens the assistant's turn. Raises ValueError: it has none."""
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template; expected a chat model's tokenizer")
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask, date_string=DATE)


def prompt_text(tokenizer, example: Example, form: Format) -> str:
    """What a model is given: the same bytes for every system under one tokenizer, in training and in evaluation."""
    return template(tokenizer, form.messages(example), ask=True)


def encode(tokenizer, text: str) -> list[int]:
    """Ids of a rendered text; the template has written the beginning-of-sequence token already, if there is one."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def ending(tokenizer) -> tuple[str, int]:
    """(text after an answer, its first id: the token that ends a turn), as the chat template writes it."""
    ask = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    after = template(tokenizer, [*ask, {"role": "assistant", "content": "a"}], ask=False)
    text = after[len(template(tokenizer, ask, ask=True)) + 1:]
    ids = encode(tokenizer, text)
    if not ids:
        raise ValueError("the chat template writes nothing after an answer; expected an end-of-turn token")
    return text, ids[0]


def training_row(tokenizer, example: Example, form: Format) -> Row:
    """Prompt ids, then the answer's and the end-of-turn token, which alone carry loss. Never truncated here.

    Raises ValueError where the template does not put prompt, answer and ending one after the other.
    """
    prompt, answer = prompt_text(tokenizer, example, form), form.answer(example)
    whole = template(tokenizer, [*form.messages(example), {"role": "assistant", "content": answer}], ask=False)
    after, end = ending(tokenizer)
    if whole != prompt + answer + after:
        raise ValueError(f"example {example.id}: the chat template renders the training text otherwise than the "
                         "prompt, the answer and the ending one after the other; expected a template that only appends")
    ids = encode(tokenizer, prompt)
    answered = [*encode(tokenizer, answer), end]
    return Row(example.id, (*ids, *answered), (*[IGNORE] * len(ids), *answered))


def training_ids(tokenizer, example: Example, form: Format) -> tuple[list[int], list[int]]:
    """(ids, labels) of `training_row` as lists."""
    row = training_row(tokenizer, example, form)
    return list(row.ids), list(row.labels)


def messages_hash(examples: Iterable[Example], form: Format) -> str:
    """16 hex digits over ids and messages: the same for every system, whatever its template makes of them."""
    said = [[example.id, form.messages(example)] for example in examples]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def prompt_hash(tokenizer, examples: Iterable[Example], form: Format) -> str:
    """16 hex digits over ids and prompts in order: two results with the same one answered the same questions."""
    digest = hashlib.sha256()
    for example in examples:
        for text in (example.id, prompt_text(tokenizer, example, form)):
            digest.update(len(text.encode()).to_bytes(8, "big") + text.encode())
    return digest.hexdigest()[:16]

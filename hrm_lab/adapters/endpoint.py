"""Any OpenAI-compatible chat endpoint (Azure, vLLM, a llama.cpp server) as a baseline, asked politely and once.

The key is read from an environment variable at the time of asking, and stands in no file, no message and no cache.
Answers are kept on disk by a hash of all that determines them, so that a second run asks nothing. Unusual: an endpoint
gets the messages of the format, as every system does, but its own template makes the text, so that only the messages
can be hashed. Redirects are refused, because they would take the key along.
"""

import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrm_lab.files import write_json

from .baseline import Generation, Result, judged
from .examples import Example
from .formats import Format

LOOPBACK = ("localhost", "127.0.0.1", "::1")
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
LARGEST = 4_000_000  # bytes of a response


class EndpointError(ValueError):
    """An endpoint that cannot be asked, or whose answer is none; one line, without the key."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask. `url` ends before `/chat/completions`; Azure: .../openai/deployments/<name> with `api_version`."""

    url: str
    model: str
    key_variable: str = ""  # name of the environment variable that holds the key; "": none is sent
    key_header: str = "Authorization"  # "api-key" for Azure
    api_version: str = ""
    per_minute: float = 60.0
    retries: int = 5
    timeout: float = 60.0  # seconds
    dollars_in: float = 0.0  # a million tokens
    dollars_out: float = 0.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def _address(endpoint: Endpoint) -> tuple[str, dict]:
    """(URL, headers). Raises `EndpointError`."""
    parts = urllib.parse.urlsplit(endpoint.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(f"url is {endpoint.url!r}; expected https://host/path (or http:// on this machine)")
    headers = {"Content-Type": "application/json"}
    if endpoint.key_variable:
        key = os.environ.get(endpoint.key_variable, "")
        if not key:
            raise EndpointError(f"environment variable {endpoint.key_variable} is empty; expected the key of "
                                f"{parts.hostname}")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise EndpointError(f"url is {endpoint.url!r}; expected https, a key is not sent in the clear")
        headers[endpoint.key_header] = f"Bearer {key}" if endpoint.key_header == "Authorization" else key
    query = f"?{urllib.parse.urlencode({'api-version': endpoint.api_version})}" if endpoint.api_version else ""
    return f"{endpoint.url.rstrip('/')}/chat/completions{query}", headers


def _post(endpoint: Endpoint, body: dict, sleep: Callable[[float], None]) -> dict:
    """The decoded response; waits and asks again where that may help. Raises `EndpointError`."""
    url, headers = _address(endpoint)
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(_NoRedirect)
    said = ""
    for attempt in range(endpoint.retries + 1):
        wait = min(60.0, 2.0**attempt)
        try:
            with opener.open(request, timeout=endpoint.timeout) as response:
                return json.loads(response.read(LARGEST))
        except urllib.error.HTTPError as error:
            said = f"status {error.code}: {error.read(200).decode(errors='replace')!r}"
            if error.code not in AGAIN:
                break
            asked = error.headers.get("Retry-After", "")
            wait = min(60.0, float(asked)) if asked.replace(".", "", 1).isdigit() else wait
        except (OSError, ValueError) as error:  # no connection, a timeout, no JSON
            said = f"{type(error).__name__}: {str(error)[:120]}"
        if attempt < endpoint.retries:
            sleep(wait)
    raise EndpointError(f"{endpoint.url}: {said}; expected a chat completion ({attempt + 1} attempts)")


def _generation(answer: object, where: str) -> Generation:
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        text = choice["message"]["content"] or ""
        return Generation(str(text), choice.get("finish_reason") == "stop", int(usage.get("prompt_tokens", 0)),
                          int(usage.get("completion_tokens", 0)))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise EndpointError(f"{where}: response is {str(answer)[:120]!r} ({type(error).__name__}); expected "
                            "choices[0].message.content and usage") from None


def complete(endpoint: Endpoint, chats: Sequence[list[dict]], cache: Path | str, *, max_new: int = 128,
             sleep: Callable[[float], None] = time.sleep) -> tuple[list[Generation], dict]:
    """(answers at temperature 0, {"asked", "cached", "prompt_tokens", "tokens", "dollars"}); only what is not in the
    folder
    `cache` is asked, at most `per_minute`. Raises `EndpointError`; what came before it is kept."""
    if endpoint.per_minute <= 0 or endpoint.retries < 0 or endpoint.timeout <= 0:
        raise EndpointError(f"per_minute, retries, timeout are {endpoint.per_minute}, {endpoint.retries}, "
                            f"{endpoint.timeout}; expected above 0, at least 0, above 0")
    found, asked, spent, last = [], 0, [0, 0], -1e9
    for messages in chats:
        body = {"model": endpoint.model, "messages": messages, "temperature": 0, "max_tokens": max_new}
        key = hashlib.sha256(json.dumps([endpoint.url, endpoint.api_version, body],
                                        sort_keys=True).encode()).hexdigest()
        path = Path(cache) / f"{key}.json"
        if path.exists():
            answer = json.loads(path.read_text(encoding="utf-8"))
            found.append(_generation(answer, str(path)))
            continue
        if (rest := last + 60.0 / endpoint.per_minute - time.monotonic()) > 0:
            sleep(rest)
        last = time.monotonic()
        answer = _post(endpoint, body, sleep)
        found.append(_generation(answer, endpoint.url))
        write_json(path, answer)
        asked += 1
        spent[0] += found[-1].prompt_tokens
        spent[1] += found[-1].tokens
    return found, {"asked": asked, "cached": len(chats) - asked, "prompt_tokens": spent[0], "tokens": spent[1],
                   "dollars": round(spent[0] / 1e6 * endpoint.dollars_in + spent[1] / 1e6 * endpoint.dollars_out, 6)}


def ask(endpoint: Endpoint, examples: Sequence[Example], form: Format, cache: Path | str, *, max_new: int = 128,
        sleep: Callable[[float], None] = time.sleep) -> tuple[Result, dict]:
    """(the endpoint's answers, judged; what was asked and spent now). Raises `EndpointError`."""
    chats = [form.messages(e) for e in examples]
    made, spent = complete(endpoint, chats, cache, max_new=max_new, sleep=sleep)
    texts = [json.dumps(chat, ensure_ascii=False) for chat in chats]
    return judged(endpoint.model, examples, form, made, texts, False, ""), spent

"""Baselines: one list of questions for all, comparisons, and an endpoint that is a real server on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from chat_tokenizers import tiny_tokenizer
from test_adapter_examples import SAMPLE, example

from hrm_lab.adapters import baseline, endpoint
from hrm_lab.adapters.baseline import Generation
from hrm_lab.adapters.endpoint import Endpoint, EndpointError
from hrm_lab.adapters.examples import read
from hrm_lab.adapters.formats import FORMATS, STRUCTURED

TEST = read(SAMPLE / "test.jsonl")


def oracle(share: float, form=STRUCTURED):
    """A `Generate` that answers the first share of TEST right, and the rest in words."""
    def generate(prompts, grammars):
        assert len(prompts) == len(TEST) and (grammars is None or len(grammars) == len(TEST))
        return [Generation(form.answer(e) if i < share * len(TEST) else "Sorry.", True, 10, 5)
                for i, e in enumerate(TEST)]
    return generate


def test_results_are_compared_on_the_same_questions():
    text = tiny_tokenizer()
    half = baseline.ask("base", TEST, STRUCTURED, text, oracle(0.5), constrained=True)
    full = baseline.ask("tuned", TEST, STRUCTURED, text, oracle(1.0))
    assert half.questions == full.questions and half.prompts == full.prompts and full.tokens == 5 * len(TEST)
    assert full.verdicts[0].prompt.endswith("<|im_start|>assistant\n")
    rows = baseline.compared([half, full], "base")
    assert rows[1]["exact"]["value"] == 1.0 and rows[0]["exact"]["value"] == 0.5 and rows[0]["exact"]["n"] == 24
    difference = rows[1]["exact - base"]
    assert difference["value"] == 0.5 and difference["p"] == pytest.approx(2 / 2**12) and difference["low"] > 0
    table = baseline.markdown(rows)
    assert "100.0 % (n = 24" in table and "p = 0.00049" in table and table.count("\n") == 4
    assert json.dumps(full.json()) and "verdicts" not in full.json()
    with pytest.raises(ValueError, match="no system 'none'; expected one of base, tuned"):
        baseline.compared([half, full], "none")


def test_an_answer_short_is_refused():
    with pytest.raises(ValueError, match="1 answers to 24 prompts"):
        baseline.ask("base", TEST, STRUCTURED, tiny_tokenizer(), lambda prompts, grammars: [Generation("", True, 1, 1)])


# ---------------------------------------------------------------- an endpoint


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.seen.append((self.path, dict(self.headers), body))
        status, headers, answer = server.script.pop(0) if server.script else (200, {}, None)
        if answer is None:
            said = STRUCTURED.answer(next(e for e in TEST if e.turns[-1]["content"] == body["messages"][-1]["content"]))
            answer = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}],
                                 "usage": {"prompt_tokens": 100, "completion_tokens": 10}})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.seen, one.script, one.url = [], [], f"http://127.0.0.1:{one.server_port}/v1"
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


def test_an_endpoint_is_asked_once_and_counted(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "s3cret")
    where = Endpoint(server.url, "m", "SOME_KEY", dollars_in=2.0, dollars_out=10.0)
    waits: list[float] = []
    result, spent = endpoint.ask(where, TEST[:4], STRUCTURED, tmp_path, sleep=waits.append)
    assert result.system == "m" and all(v.exact and v.stopped for v in result.verdicts)
    assert spent == {"asked": 4, "cached": 0, "prompt_tokens": 400, "tokens": 40, "dollars": 0.0012}
    assert len(waits) == 3 and all(0.5 < wait <= 1.0 for wait in waits)  # 60 a minute
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer s3cret"
    assert body["messages"] == STRUCTURED.messages(TEST[0]) and body["temperature"] == 0
    again, spent = endpoint.ask(where, TEST[:4], STRUCTURED, tmp_path)
    assert again == result and spent["asked"] == 0 and spent["cached"] == 4 and len(server.seen) == 4
    monkeypatch.delenv("SOME_KEY")
    assert endpoint.ask(where, TEST[:4], STRUCTURED, tmp_path)[0] == result  # what is kept needs no key
    monkeypatch.setenv("SOME_KEY", "s3cret")
    assert not any("s3cret" in path.read_text() for path in tmp_path.iterdir())
    local = baseline.ask("x", TEST, STRUCTURED, tiny_tokenizer(), oracle(1.0))
    whole, _ = endpoint.ask(where, TEST, STRUCTURED, tmp_path, sleep=waits.append)
    assert whole.questions == local.questions  # one context for all


def test_other_settings_are_other_questions(server, tmp_path):
    for where in (Endpoint(server.url, "m"), Endpoint(server.url, "n"), Endpoint(f"{server.url}/", "m")):
        endpoint.complete(where, [STRUCTURED.messages(TEST[0])], tmp_path, sleep=lambda s: None)
    endpoint.complete(Endpoint(server.url, "m"), [STRUCTURED.messages(TEST[0])], tmp_path, max_new=7)
    assert len(server.seen) == 4 and "Authorization" not in server.seen[0][1]


def test_azure_has_its_own_header_and_version(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "k")
    where = Endpoint(f"{server.url}/openai/deployments/d", "d", "AZURE_KEY", "api-key", "2024-10-21")
    endpoint.complete(where, [STRUCTURED.messages(TEST[0])], tmp_path)
    path, headers, _ = server.seen[0]
    headers = {name.lower(): value for name, value in headers.items()}
    assert path == "/v1/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert headers["api-key"] == "k" and "authorization" not in headers


def test_a_busy_server_is_asked_again_as_it_says(server, tmp_path):
    server.script = [(429, {"Retry-After": "7"}, "{}"), (503, {}, "later"), (200, {}, "no json")]
    waits: list[float] = []
    found, _ = endpoint.complete(Endpoint(server.url, "m"), [STRUCTURED.messages(TEST[0])], tmp_path,
                                 sleep=waits.append)
    assert found[0].tokens == 10 and waits == [7.0, 2.0, 4.0] and len(server.seen) == 4


@pytest.mark.parametrize(("script", "said", "asked"), [
    ([(401, {}, "who are you")], "status 401: 'who are you'", 1),
    ([(500, {}, "oh")] * 3, "status 500: 'oh'; expected a chat completion (3 attempts)", 3),
    ([(302, {"Location": "http://127.0.0.1:1/"}, "")], "status 302", 1),
    ([(200, {}, '{"choices": []}')], "response is \"{'choices': []}\" (IndexError)", 1),
    ([(200, {}, "[1]")], "expected choices[0].message.content", 1),
])
def test_what_is_no_answer_is_named(server, tmp_path, monkeypatch, script, said, asked):
    monkeypatch.setenv("SOME_KEY", "s3cret")
    server.script = list(script)
    with pytest.raises(EndpointError) as error:
        endpoint.complete(Endpoint(server.url, "m", "SOME_KEY", retries=2), [STRUCTURED.messages(TEST[0])], tmp_path,
                          sleep=lambda s: None)
    assert said in str(error.value) and "s3cret" not in str(error.value) and "\n" not in str(error.value)
    assert len(server.seen) == asked and not list(tmp_path.iterdir())


def test_what_came_before_an_error_is_kept(server, tmp_path):
    server.script = [(200, {}, None), (400, {}, "no")]
    chats = [STRUCTURED.messages(e) for e in TEST[:3]]
    with pytest.raises(EndpointError):
        endpoint.complete(Endpoint(server.url, "m"), chats, tmp_path, sleep=lambda s: None)
    found, spent = endpoint.complete(Endpoint(server.url, "m"), chats, tmp_path, sleep=lambda s: None)
    assert len(found) == 3 and spent["asked"] == 2


@pytest.mark.parametrize(("where", "said"), [
    (Endpoint("file:///etc/passwd", "m"), "expected https"),
    (Endpoint("http://example.invalid/v1", "m", "SOME_KEY"), "a key is not sent in the clear"),
    (Endpoint("https://example.invalid/v1", "m", per_minute=0), "expected above 0"),
    (Endpoint("https://example.invalid/v1", "m", "NO_SUCH_KEY"), "environment variable NO_SUCH_KEY is empty"),
])
def test_a_key_goes_nowhere_in_the_clear(where, said, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "s3cret")
    with pytest.raises(EndpointError, match=said):
        endpoint.complete(where, [[{"role": "user", "content": "q"}]], tmp_path, sleep=lambda s: None)


def test_no_connection_is_one_line(tmp_path):
    where = Endpoint("http://127.0.0.1:9/v1", "m", retries=1)
    with pytest.raises(EndpointError, match="expected a chat completion .2 attempts"):
        endpoint.ask(where, [example()], FORMATS["cep"], tmp_path, sleep=lambda s: None)

"""Domains: the shipped sample is whole, unseen packages are told better than by keywords, any language serves."""

import pytest

from hrm_lab.swe import domain
from hrm_lab.swe.instances import DOMAINS

PERMISSIVE = {"PSF-2.0", "MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "ISC"}


def test_the_sample_is_whole():
    rows = domain.sample()
    assert len({(row["package"], row["path"], row["function"]) for row in rows}) == len(rows) >= 150
    assert {row["domain"] for row in rows} == set(DOMAINS) == set(domain.KEYWORDS)
    assert {row["licence"] for row in rows} <= PERMISSIVE
    assert all(row["words"] | row["context"] and row["version"] for row in rows)


def test_unseen_packages_are_told_better_than_by_the_baselines():
    scores = domain.accuracy()
    assert scores["domain_accuracy/context"]["low"] > scores["domain_accuracy/keywords"]["high"]
    assert scores["domain_accuracy/context"]["low"] > scores["domain_accuracy/function"]["high"]
    assert scores["domain_accuracy/function"]["low"] > scores["domain_accuracy/majority"]["high"]
    assert scores["domain_accuracy/context_minus_keywords"]["low"] > 0
    assert sum(scores[f"domain_accuracy/context/{name}"]["n"] for name in DOMAINS) == len(domain.sample())


@pytest.mark.parametrize("expected, code", [
    ("security", "func VerifyPassword(hash []byte, password string) error { return bcrypt.Compare(hash, password) }"),
    ("web", "function sendResponse(request, response) { response.setHeader('Content-Type', 'text/html'); }"),
    ("data science", "def mean(array, axis): return numpy.sum(array, axis) / array.shape[axis]"),
    ("text", "fn decode_utf8(bytes: &[u8], encoding: &str) -> String { replace_unicode_characters(bytes) }"),
    ("algorithms", "def shortest(graph, source): heap, visited_edges = sorted(graph.nodes), set()")])
def test_code_of_any_language(expected, code):
    assert domain.classify(code) == expected


def test_words_are_split_and_the_licence_is_not_context():
    assert domain.words("parseHTTPRequest2 user_name self") == {"parse", "http", "request", "user", "name"} - {"name"}
    head = "// Copyright Apache\n# licence\n/* BSD\n * more\n */\n#include <vector>\n"
    assert domain.context_words(head, "src/net.cpp") == {"src", "net", "cpp", "vector", "include"}


def test_context_decides_where_the_function_is_silent():
    silent = "def get(self, key):\n    return self._map[key]\n"
    assert domain.classify(silent, "Secure password hashing\nimport hmac, secrets, hashlib\n") == "security"
    assert domain.classify(silent, "HTTP client\nimport urllib.request, http.cookies\n") == "web"

"""Six languages: told apart, judged, taken apart, in one normal form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe.languages import LANGUAGES, detect, functions, normalise, problems, tokens, valid

PROGRAMS = {
    "python": "def area(w, h):\n    # sides\n    if w < 0:\n        return None\n    return w * h + 1\n",
    "javascript": "function area(w, h) {\n  // sides\n  if (w < 0) {\n    return null;\n  }\n  const s = w * h;\n"
                  "  return s === 0 ? 1 : s;\n}\n",
    "go": "package main\n\nimport \"math\"\n\nfunc area(w int, h int) int {\n\t// sides\n"
          "\tif w < 0 {\n\t\treturn 0\n\t}\n\ts := w * h\n\treturn int(math.Abs(float64(s)))\n}\n",
    "java": "import java.util.*;\n\npublic class Box {\n    // sides\n    public static int area(int w, int h) {\n"
            "        if (w < 0) {\n            return 0;\n        }\n        int s = w * h;\n"
            "        return s + 1;\n    }\n}\n",
    "cpp": "#include <vector>\nusing namespace std;\n\nint area(int w, int h) {\n    // sides\n    if (w < 0) {\n"
           "        return 0;\n    }\n    vector<int> s = {w, h};\n    return s[0] * s[1];\n}\n",
    "rust": "fn area(w: i32, h: i32) -> i32 {\n    // sides\n    if w < 0 {\n        return 0;\n    }\n"
            "    let mut s = w * h;\n    s += 1;\n    return s.abs();\n}\n",
}
each_language = pytest.mark.parametrize("language", LANGUAGES)


def test_there_are_six():
    assert list(LANGUAGES) == list(PROGRAMS)


@each_language
def test_a_program_is_detected_and_valid(language):
    assert detect(PROGRAMS[language]) == language
    assert problems(PROGRAMS[language], language) == []


@each_language
def test_a_broken_program_is_not_valid_and_the_line_is_named(language):
    broken = PROGRAMS[language].replace("w * h", "w * * ) h").replace("{w, h}", "{w, (h}")
    assert not valid(broken, language)
    assert all(problem.startswith("line ") for problem in problems(broken, language))


def test_python_is_judged_by_compile_too():
    assert problems("return 1\n", "python") == ["line 1: 'return' outside function"]


@each_language
def test_tokens_lie_where_they_say_and_leave_comments_out(language):
    code = PROGRAMS[language]
    found = tokens(code, language)
    assert all(code[token.start:token.end] == token.text for token in found)
    assert all(code[:token.start].count("\n") + 1 == token.line for token in found)
    assert "sides" not in " ".join(token.text for token in found)
    assert {"w", "h", "0"} <= {token.text for token in found}


@each_language
def test_functions_have_dotted_names(language):
    code = PROGRAMS[language]
    names = {function.name: code[function.start:function.end] for function in functions(code, language)}
    assert list(names) == ["Box.area" if language == "java" else "area"]
    assert "return" in next(iter(names.values()))


def test_methods_and_inner_functions_are_named_from_outside():
    code = ("class Stack:\n    @property\n    def top(self):\n        def inner():\n            pass\n"
            "        return inner\n")
    found = {function.name: code[function.start:] for function in functions(code, "python")}
    assert list(found) == ["Stack.top", "Stack.top.inner"]
    assert found["Stack.top"].startswith("@property")


def test_offsets_are_characters():
    code = 'x = "é😀"\ny = "ü" + x\n'
    found = [code[token.start:token.end] for token in tokens(code, "python")]
    assert found == ["x", "=", '"é😀"', "y", "=", '"ü"',
        "+", "x"]


def test_normalise_keeps_what_python_means():
    assert normalise("if a:\n  b\nc\n", "python") == normalise("if a:  # why\n\n      b\n\nc", "python")
    assert normalise("if a:\n    b\n    c\n", "python") != normalise("if a:\n    b\nc\n", "python")
    assert normalise("f(1,\n  2)", "python") == "f ( 1 , 2 )"


@each_language
def test_normalise_ignores_layout_and_comments(language):
    code = PROGRAMS[language]
    shorter = code.replace("// sides", "").replace("# sides", "").replace("w * h", "w*h")
    assert normalise(code, language) == normalise(shorter, language)
    assert normalise(code, language) != normalise(code.replace("< 0", "<= 0"), language)


@given(st.text(alphabet="ab(1 \n:=+'\"#é"))
def test_any_text_is_read_without_an_error(text):
    for language in LANGUAGES:
        normalise(text, language)
        tokens(text, language)
        problems(text, language)


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="cobol.*expected one of python"):
        problems("x", "cobol")

"""The tables of Python and JavaScript (grammar.py says what a table holds)."""

import tree_sitter_javascript
import tree_sitter_python

from .grammar import SLASHES, STRINGS, TYPES, Language, roles_of, words

PYTHON = Language(
    "python", tree_sitter_python.language, (".py",),
    roles_of("""
        block: module block; function: function_definition; class: class_definition; lambda: lambda;
        name: identifier; number: integer float; string: string; true: true; false: false; none: none;
        call: call; args: argument_list; keyword: keyword_argument; attribute: attribute; subscript: subscript;
        slice: slice; binary: binary_operator boolean_operator comparison_operator; unary: unary_operator not_operator;
        ternary: conditional_expression; paren: parenthesized_expression; assign: assignment;
        augassign: augmented_assignment; exprstmt: expression_statement; return: return_statement;
        if: if_statement; elif: elif_clause; else: else_clause; for: for_statement; while: while_statement;
        comprehension: list_comprehension generator_expression set_comprehension dictionary_comprehension;
        forclause: for_in_clause; ifclause: if_clause; list: list; tuple: tuple expression_list; dict: dictionary;
        set: set; pair: pair; type: type; params: parameters lambda_parameters; comment: comment;
        skip: import_statement import_from_statement future_import_statement decorator global_statement
        nonlocal_statement type_alias_statement; joined: concatenated_string; starred: list_splat dictionary_splat;
        jump: break_statement continue_statement pass_statement; raise: raise_statement; pattern: pattern_list
        tuple_pattern; assert: assert_statement; yield: yield; walrus: named_expression"""),
    {"assignment": "left", "augmented_assignment": "left", "for_statement": "left", "for_in_clause": "left",
     "as_pattern_target": "", "named_expression": "name", "parameters": "", "lambda_parameters": ""},
    r"(?m)^\s*(?:def \w+\(.*:|class \w+.*:|from \w+ import|import \w+$|elif .*:|(?:if|for|while) .*:$)|\bself\.|"
    r"\bNone\b",
    r"#[^\n]*",
    r"(?:[rRbBuUfF]{0,2})(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|" + STRINGS + ")",
    negation="not {0}", both="and", either="or", arithmetic=("+", "-", "*", "/", "//", "%", "**"),
    membership=(("in", "not in"), ("is", "is not", "==", "!=")), tight_bits=True, true="True", false="False",
    none="None",
    defaults={"num": ("0", "1", "-1", "2", "float('inf')", "float('-inf')"), "str": ("''", "' '"), "bool": ("True",
        "False"),
              "list": ("[]",), "dict": ("{}",), "set": ("set()",), "tuple": ("()",), "none": ("None",)},
    families=words("""
        min max sum len, sum len any all, any all, sorted reversed list set tuple, append extend insert add,
        append appendleft, pop popleft remove discard, lower upper capitalize title swapcase casefold,
        islower isupper istitle, isdigit isalpha isalnum isnumeric isdecimal isspace, startswith endswith,
        strip lstrip rstrip, split rsplit partition rpartition, split splitlines, find rfind index rindex,
            keys values items,
        int float round str bool, floor ceil round trunc int, abs float int, chr ord, bin hex oct str,
            ljust rjust center zfill,
        heappush heappop heapify, encode decode, read readline readlines, get pop setdefault,
        union intersection difference symmetric_difference, update add, issubset issuperset isdisjoint,
        bisect_left bisect_right bisect insort, isinstance issubclass, getattr hasattr, range enumerate len,
            zip zip_longest,
        map filter, log log2 log10 exp sqrt, sin cos tan, permutations combinations product,
        dumps loads, dump load, join split, match search fullmatch findall, copy deepcopy, first last, next iter,
            left right,
        ValueError TypeError KeyError IndexError, prev next, start end, head tail, row col, width height, low high,
            x y"""),
    wraps=(("num", "abs({0})", "num"), ("num", "int({0})", "num"), ("num", "round({0})", "num"), ("num", "float({0})",
        "num"),
           ("num", "str({0})", "str"), ("num", "range({0})", "list"), ("num", "chr({0})", "str"), ("num", "bool({0})",
           "bool"),
           ("str", "int({0})", "num"), ("str", "float({0})", "num"), ("str", "ord({0})", "num"), ("str", "len({0})",
           "num"),
           ("str", "set({0})", "set"), ("str", "list({0})", "list"), ("str", "sorted({0})", "list"),
           ("str", "{0}.lower()", "str"), ("str", "{0}.upper()", "str"), ("str", "{0}.strip()", "str"),
           ("str", "{0}.split()", "list"), ("str", "{0}.encode()", "str"), ("str", "repr({0})", "str"),
           ("list", "len({0})", "num"), ("list", "set({0})", "set"), ("list", "list({0})", "list"),
           ("list", "tuple({0})", "tuple"), ("list", "sorted({0})", "list"), ("list", "reversed({0})", "list"),
           ("list", "sum({0})", "num"), ("list", "max({0})", "num"), ("list", "min({0})", "num"),
           ("list", "enumerate({0})", "list"), ("list", "any({0})", "bool"), ("list", "all({0})", "bool"),
           ("list", "{0}.copy()", "list"), ("list", "iter({0})", "list"), ("list", "''.join({0})", "str"),
           ("dict", "{0}.items()", "list"), ("dict", "{0}.keys()", "list"), ("dict", "{0}.values()", "list"),
           ("dict", "{0}.copy()", "dict"), ("dict", "len({0})", "num"), ("dict", "sorted({0})", "list"),
           ("set", "len({0})", "num"), ("set", "list({0})", "list"), ("set", "sorted({0})", "list"),
           ("tuple", "list({0})", "list"), ("tuple", "len({0})", "num"), ("tuple", "set({0})", "set"),
           ("any", "str({0})", "str"), ("any", "len({0})", "num"), ("any", "int({0})", "num"), ("any", "list({0})",
           "list"),
           ("any", "set({0})", "set"), ("any", "abs({0})", "num"), ("any", "sorted({0})", "list"), ("any",
           "bool({0})", "bool"),
           ("any", "tuple({0})", "tuple"), ("any", "sum({0})", "num"), ("any", "reversed({0})", "list"), ("any",
           "[{0}]", "list"), ("any", "{0}.lower()", "str"), ("any", "{0}.strip()", "str"),
           ("any", "{0}.copy()", "any"),
           ("num", "[{0}]", "list"), ("str", "[{0}]", "list"), ("tuple", "[{0}]", "list"), ("list", "[{0}]", "list")),
    keywords=(("sorted", "reverse=True"), ("sort", "reverse=True"), ("sorted", "key=len"), ("sort", "key=len"),
              ("max", "key=len"), ("min", "key=len"), ("max", "default=0"), ("min", "default=0"),
              ("max", "default=None"), ("min", "default=None"), ("sorted", "key=lambda x: x[0]"),
              ("sorted", "key=lambda x: x[1]"), ("sort", "key=lambda x: x[1]"), ("max", "key=lambda x: x[1]"),
              ("min", "key=lambda x: x[1]"), ("sorted", "key=lambda x: -x"), ("sorted", "key=str"), ("sorted",
              "key=abs"),
              ("enumerate", "1"), ("enumerate", "start=1"), ("split", "maxsplit=1"), ("zip", "strict=True"),
              ("sorted", "key=lambda x: (len(x), x)"), ("sorted", "key=lambda x: (-len(x), x)"),
              ("sum", "1"), ("sum", "[]"), ("range", "-1"), ("get", "0"), ("get", "None"), ("pop", "0"), ("pop",
              "None"),
              ("next", "None"), ("print", "end=''"), ("join", "''"), ("split", "','"), ("split", "' '"),
              ("popitem", "last=False"), ("round", "2"), ("sorted", "key=str.lower")),
    returns={name: kind for kind, names in {
        "num": "len sum abs int float round ord index find count pow divmod floor ceil sqrt hash", "bool":
        "any all bool isinstance startswith endswith isdigit isalpha islower isupper isalnum isspace hasattr callable",
        "str": "str chr repr bin hex oct join lower upper strip lstrip rstrip replace title capitalize format input",
        "list": "list sorted split range keys values items enumerate zip map filter reversed append splitlines",
        "set": "set frozenset union intersection difference", "dict": "dict Counter defaultdict OrderedDict",
        "tuple": "tuple"}.items() for name in names.split()},
    annotations=TYPES,
    appends=("{0}.append({1})", "{0}.add({1})", "{0}.extend({1})", "{0}.insert(0, {1})"),
    end="", guard="if {0}:\n{1}", empty="not {0}", size="len({0})", raises=("raise ValueError",))

JAVASCRIPT = Language(
    "javascript", tree_sitter_javascript.language, (".js", ".mjs", ".cjs", ".jsx"),
    roles_of("""
        block: program statement_block; function: function_declaration method_definition
        generator_function_declaration; lambda: arrow_function function_expression; class: class_declaration class;
        name: identifier; attrname: property_identifier; number: number; string: string template_string; true: true;
        false: false; none: null undefined; call: call_expression new_expression; args: arguments; attribute:
        member_expression;
        subscript: subscript_expression; binary: binary_expression; unary: unary_expression; update: update_expression;
        ternary: ternary_expression; paren: parenthesized_expression; assign: assignment_expression;
        augassign: augmented_assignment_expression; exprstmt: expression_statement; return: return_statement;
        if: if_statement; else: else_clause; for: for_statement for_in_statement; while: while_statement;
        declare: variable_declarator; declaration: lexical_declaration variable_declaration;
        list: array; dict: object; pair: pair; params: formal_parameters; comment: comment; skip: import_statement
        regex;
        jump: break_statement continue_statement empty_statement; raise: throw_statement"""),
    {"variable_declarator": "name", "formal_parameters": "", "assignment_expression": "left",
        "for_in_statement": "left",
     "augmented_assignment_expression": "left", "arrow_function": "parameter", "catch_clause": "parameter"},
    r"=>|===|!==|\b(?:const|let|var) \w+ ?=|\bfunction\b|\bundefined\b|\brequire\(|console\.log",
    SLASHES, STRINGS + r"|`(?:\\.|[^`\\])*`",
    equality=("==", "!=", "===", "!=="), arithmetic=("+", "-", "*", "/", "%", "**"),
    defaults={"num": ("0", "1", "-1", "2", "Infinity", "-Infinity"), "str": ("''", "' '"), "bool": ("true", "false"),
              "list": ("[]",), "dict": ("{}",), "none": ("null", "undefined")},
    families=words("""
        min max, floor ceil round trunc abs, push unshift pop shift, slice splice substring substr,
            some every find filter,
        map filter forEach, map flatMap, indexOf lastIndexOf findIndex, includes indexOf, startsWith endsWith includes,
        toLowerCase toUpperCase, trim trimStart trimEnd, keys values entries, parseInt parseFloat Number String Boolean,
        charAt charCodeAt at, has get delete, add has delete, length size, reduce reduceRight, isNaN isFinite isInteger,
        padStart padEnd, sort reverse, join concat, replace replaceAll, set get, next prev, left right, first last"""),
    wraps=(("num", "Math.abs({0})", "num"), ("num", "Math.floor({0})", "num"), ("num", "Math.ceil({0})", "num"),
           ("num", "Math.round({0})", "num"), ("num", "String({0})", "str"), ("str", "Number({0})", "num"),
           ("str", "parseInt({0})", "num"), ("str", "{0}.length", "num"), ("str", "{0}.toLowerCase()", "str"),
           ("str", "{0}.toUpperCase()", "str"), ("str", "{0}.trim()", "str"), ("str", "{0}.split('')", "list"),
           ("list", "{0}.length", "num"), ("list", "{0}.slice()", "list"), ("list", "{0}.reverse()", "list"),
           ("list", "{0}.sort()", "list"), ("list", "{0}.sort((a, b) => a - b)", "list"), ("list", "new Set({0})",
           "list"),
           ("list", "{0}.join('')", "str"), ("dict", "Object.keys({0})", "list"), ("dict", "Object.values({0})",
           "list"),
           ("any", "Math.abs({0})", "num"), ("any", "Math.floor({0})", "num"), ("any", "{0}.length", "num"),
           ("any", "Number({0})", "num"), ("any", "String({0})", "str"), ("any", "{0}.toString()", "str"),
           ("any", "{0}.toLowerCase()", "str"), ("any", "{0}.sort()", "list"), ("any", "{0}.slice()", "list")),
    keywords=(("sort", "(a, b) => a - b"), ("sort", "(a, b) => b - a"), ("parseInt", "10"), ("split", "''"), ("split",
        "' '"),
              ("join", "''"), ("join", "' '"), ("slice", "1"), ("slice", "0"), ("reduce", "0")),
    returns={name: kind for kind, names in {
        "num": "abs floor ceil round min max indexOf parseInt parseFloat Number charCodeAt length size sqrt pow "
        "lastIndexOf",
        "bool": "includes startsWith endsWith some every has isNaN Boolean test isInteger",
        "str": "toString toLowerCase toUpperCase trim join charAt String substring replace repeat",
        "list": "split slice map filter sort reverse concat keys values entries from"}.items() for name in names.split(
        )},
    annotations=TYPES, appends=("{0}.push({1})", "{0}.add({1})", "{0}.unshift({1})"), raises=("throw new Error()",))

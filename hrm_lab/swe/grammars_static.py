"""The tables of Go, Java, C++ and Rust (grammar.py says what a table holds)."""

import tree_sitter_cpp
import tree_sitter_go
import tree_sitter_java
import tree_sitter_rust

from .grammar import SLASHES, TYPES, Language, roles_of, words

QUOTES = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])+'"

GO = Language(
    "go", tree_sitter_go.language, (".go",),
    roles_of("""
        block: statement_list source_file; function: function_declaration method_declaration; lambda: func_literal;
        name: identifier; attrname: field_identifier; number: int_literal float_literal;
        string: interpreted_string_literal raw_string_literal rune_literal; true: true; false: false; none: nil;
        call: call_expression type_conversion_expression; args: argument_list; attribute: selector_expression;
        subscript: index_expression; slice: slice_expression; binary: binary_expression; unary: unary_expression;
        paren: parenthesized_expression; assign: assignment_statement short_var_declaration; update: inc_statement
        dec_statement; exprstmt: expression_statement; return: return_statement; if: if_statement; for: for_statement;
        tuple: expression_list; list: literal_value; params: parameter_list; comment: comment; declaration:
        var_declaration;
        skip: import_declaration package_clause type_declaration package_identifier; wrapper: literal_element;
        forclause: range_clause;
        type: type_identifier qualified_type slice_type map_type array_type pointer_type generic_type;
        jump: break_statement continue_statement"""),
    {"short_var_declaration": "left", "var_spec": "name", "parameter_declaration": "name", "range_clause": "left",
     "assignment_statement": "left", "const_spec": "name"},
    r"(?m)^package \w+|\bfunc\b|:=|\bfmt\.|\bnil\b", SLASHES, QUOTES + r"|`[^`]*`",
    bitwise=("&", "|", "^", "<<", ">>", "&^"), tight_bits=True, none="nil",
    defaults={"num": ("0", "1", "-1", "2", "math.MaxInt", "math.MinInt"), "str": ('""', '" "'), "bool": ("true",
        "false"),
              "none": ("nil",), "list": ("nil",), "dict": ("nil",)},
    families=words("""
        Min Max, MaxInt MinInt, MaxInt32 MinInt32, MaxInt64 MinInt64, Floor Ceil Round Trunc Abs, ToLower ToUpper Title,
        IsLower IsUpper, IsDigit IsLetter IsSpace IsNumber, HasPrefix HasSuffix Contains, Index LastIndex,
            Split Fields SplitN,
        TrimSpace Trim TrimLeft TrimRight TrimPrefix TrimSuffix, Atoi ParseInt ParseFloat Itoa, len cap,
            int float64 int64
        string, Ints Strings Float64s, Println Printf Print Sprintf, Sqrt Pow Log Exp, Replace ReplaceAll,
            Join Repeat"""),
    wraps=(("num", "float64({0})", "num"), ("num", "int({0})", "num"), ("num", "math.Abs({0})", "num"),
           ("num", "string({0})", "str"), ("str", "len({0})", "num"), ("str", "strings.ToLower({0})", "str"),
           ("str", "strings.ToUpper({0})", "str"), ("str", "[]rune({0})", "list"), ("str", "strings.TrimSpace({0})",
           "str"),
           ("list", "len({0})", "num"), ("dict", "len({0})", "num"), ("list", "string({0})", "str"),
           ("any", "len({0})", "num"), ("any", "math.Abs({0})", "num"), ("any", "int({0})", "num"),
           ("any", "math.Floor({0})", "num"), ("any", "string({0})", "str"), ("any", "strings.ToLower({0})", "str")),
    returns={name: kind for kind, names in {
        "num": "len cap int float64 int64 Abs Floor Ceil Sqrt Pow Max Min Index Count",
        "bool": "HasPrefix HasSuffix Contains",
        "str": "string ToLower ToUpper TrimSpace Join Sprintf Itoa Repeat Replace", "list": "Split Fields append make"
    }.items() for name in names.split()},
    annotations=TYPES, appends=("{0} = append({0}, {1})",), end="", guard="if {0} {{\n{1}\n}}", empty="len({0}) == 0",
    size="len({0})", loop="for")

JAVA = Language(
    "java", tree_sitter_java.language, (".java",),
    roles_of("""
        block: program block constructor_body; function: method_declaration constructor_declaration; lambda:
        lambda_expression;
        class: class_declaration record_declaration interface_declaration; members: class_body;
        name: identifier; number: decimal_integer_literal decimal_floating_point_literal hex_integer_literal;
        string: string_literal character_literal; true: true; false: false; none: null_literal;
        call: method_invocation object_creation_expression; args: argument_list; attribute: field_access;
        subscript: array_access; binary: binary_expression; unary: unary_expression; update: update_expression;
        ternary: ternary_expression; paren: parenthesized_expression; assign: assignment_expression;
        exprstmt: expression_statement; return: return_statement; if: if_statement; for: for_statement
        enhanced_for_statement; while: while_statement; declare: variable_declarator;
        declaration: local_variable_declaration; list: array_initializer; params: formal_parameters inferred_parameters;
        type: integral_type floating_point_type boolean_type generic_type type_identifier array_type void_type
        scoped_type_identifier; comment: line_comment block_comment; skip: import_declaration package_declaration
        marker_annotation annotation modifiers; jump: break_statement continue_statement; raise: throw_statement"""),
    {"variable_declarator": "name", "formal_parameter": "name", "enhanced_for_statement": "name",
     "assignment_expression": "left", "lambda_expression": "parameters", "catch_formal_parameter": "name"},
    r"\bpublic (?:static|class|final|int|void|String)|\bimport java|\bnew \w+<|System\.out|\bString \w+ ?[=;,)]|"
    r"@Override",
    SLASHES, r'"""[\s\S]*?"""|' + QUOTES,
    bitwise=("&", "|", "^", "<<", ">>", ">>>"),
    defaults={"num": ("0", "1", "-1", "2", "Integer.MAX_VALUE", "Integer.MIN_VALUE"), "str": ('""', '" "'),
              "bool": ("true", "false"), "none": ("null",), "list": ("new ArrayList<>()", "null"),
              "dict": ("new HashMap<>()", "null"), "set": ("new HashSet<>()", "null")},
    families=words("""
        min max, MAX_VALUE MIN_VALUE, floor ceil round abs, toLowerCase toUpperCase, isLowerCase isUpperCase,
        isDigit isLetter isLetterOrDigit isWhitespace isAlphabetic,
            startsWith endsWith contains equals equalsIgnoreCase,
        indexOf lastIndexOf, add push addFirst addLast offer, pop poll peek remove pollFirst pollLast, getFirst getLast,
        keySet values entrySet, containsKey containsValue contains, get getOrDefault put, charAt codePointAt,
            size length,
        parseInt parseDouble valueOf, anyMatch allMatch noneMatch, map filter mapToInt, trim strip, sum max min average,
        first last, getKey getValue, isEmpty isBlank, put putIfAbsent, asc desc, previous next hasNext, addAll removeAll
        retainAll containsAll, reverse sort shuffle, naturalOrder reverseOrder"""),
    wraps=(("num", "Math.abs({0})", "num"), ("num", "(int) {0}", "num"), ("num", "(double) {0}", "num"),
           ("num", "Math.floor({0})", "num"), ("num", "String.valueOf({0})", "str"), ("str", "{0}.length()", "num"),
           ("str", "{0}.toLowerCase()", "str"), ("str", "{0}.toUpperCase()", "str"), ("str", "{0}.trim()", "str"),
           ("str", "{0}.toCharArray()", "list"), ("str", "Integer.parseInt({0})", "num"), ("list", "{0}.size()", "num"),
           ("list", "{0}.length", "num"), ("list", "new ArrayList<>({0})", "list"), ("dict", "{0}.keySet()", "set"),
           ("dict", "{0}.values()", "list"), ("any", "Math.abs({0})", "num"), ("any", "{0}.size()", "num"),
           ("any", "{0}.length()", "num"), ("any", "String.valueOf({0})", "str"), ("any", "{0}.toLowerCase()", "str"),
           ("any", "(int) {0}", "num"), ("any", "{0}.toString()", "str")),
    returns={name: kind for kind, names in {
        "num": "length size abs floor ceil sqrt pow min max indexOf parseInt charAt getNumericValue round",
        "bool": "contains containsKey isEmpty equals startsWith endsWith isDigit isLetter isUpperCase isLowerCase",
        "str": "toString toLowerCase toUpperCase trim substring valueOf repeat replace",
        "list": "split toCharArray stream subList"
    }.items() for name in names.split()},
    annotations=TYPES, appends=("{0}.add({1})", "{0}.append({1})", "{0}.push({1})"), empty="{0}.isEmpty()",
        size="{0}.size()",
    raises=("throw new IllegalArgumentException()",))

CPP = Language(
    "cpp", tree_sitter_cpp.language, (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".h"),
    roles_of("""
        block: translation_unit compound_statement declaration_list; function: function_definition;
        lambda: lambda_expression; class: class_specifier struct_specifier; members: field_declaration_list;
        name: identifier; attrname: field_identifier; number: number_literal;
        string: string_literal char_literal raw_string_literal; true: true; false: false; none: null nullptr;
        call: call_expression; args: argument_list; attribute: field_expression; subscript: subscript_expression;
        binary: binary_expression; unary: unary_expression pointer_expression; update: update_expression;
        ternary: conditional_expression; paren: parenthesized_expression; assign: assignment_expression;
        exprstmt: expression_statement; return: return_statement; if: if_statement; else: else_clause;
        for: for_statement for_range_loop; while: while_statement; declare: init_declarator; declaration: declaration;
        list: initializer_list; params: parameter_list; comment: comment; wrapper: condition_clause;
        indices: subscript_argument_list;
        skip: preproc_include preproc_def using_declaration lambda_capture_specifier; jump: break_statement
        continue_statement; raise: throw_statement;
        type: primitive_type type_identifier template_type qualified_identifier sized_type_specifier type_descriptor
        namespace_identifier type_qualifier placeholder_type_specifier"""),
    {"init_declarator": "declarator", "parameter_declaration": "declarator", "declaration": "declarator",
     "for_range_loop": "declarator", "assignment_expression": "left"},
    r"#include|\bstd::|\busing namespace|\bcout\b|\bvector<|->\w+|\bint \w+ ?=|\bauto \w+ ?=|\bconst \w+ ?&|\bsize_t\b",
    SLASHES, r'R"\((?:[\s\S]*?)\)"|' + QUOTES,
    defaults={"num": ("0", "1", "-1", "2", "INT_MAX", "INT_MIN"), "str": ('""', '" "'), "bool": ("true", "false"),
              "list": ("{}",), "dict": ("{}",), "set": ("{}",), "none": ("nullptr",)},
    families=words("""
        min max, INT_MAX INT_MIN, floor ceil round trunc abs, tolower toupper, islower isupper,
            isdigit isalpha isalnum isspace,
        push_back push push_front emplace_back insert, pop_back pop pop_front erase, begin end rbegin rend,
            front back top,
        find count rfind, find_first_of find_last_of, first second, size length, lower_bound upper_bound,
            stoi stol stod atoi,
        sort stable_sort, max_element min_element, prev next, all_of any_of none_of, left right, substr erase,
            sqrt pow"""),
    wraps=(("num", "abs({0})", "num"), ("num", "(int){0}", "num"), ("num", "floor({0})", "num"), ("num", "round({0})",
        "num"),
           ("num", "to_string({0})", "str"), ("num", "(double){0}", "num"), ("str", "{0}.length()", "num"),
           ("str", "stoi({0})", "num"), ("num", "tolower({0})", "num"), ("num", "toupper({0})", "num"),
           ("list", "{0}.size()", "num"), ("dict", "{0}.size()", "num"), ("any", "abs({0})", "num"),
           ("any", "{0}.size()", "num"), ("any", "{0}.length()", "num"), ("any", "(int){0}", "num"), ("any",
           "tolower({0})", "num"),
           ("any", "toupper({0})", "num"), ("any", "floor({0})", "num")),
    returns={name: kind for kind, names in {
        "num": "size length abs floor ceil sqrt pow stoi atoi count tolower toupper round",
        "bool": "empty isdigit isalpha",
        "str": "substr to_string", "list": "begin end"}.items() for name in names.split()},
    annotations=TYPES, appends=("{0}.push_back({1})", "{0} += {1}", "{0}.insert({1})"), empty="{0}.empty()",
        size="{0}.size()")

RUST = Language(
    "rust", tree_sitter_rust.language, (".rs",),
    roles_of("""
        block: source_file block; function: function_item; lambda: closure_expression; class: impl_item; members:
        declaration_list;
        name: identifier; attrname: field_identifier; number: integer_literal float_literal;
        string: string_literal char_literal raw_string_literal; true: boolean_literal; call: call_expression
        macro_invocation;
        args: arguments token_tree; attribute: field_expression; subscript: index_expression; range: range_expression;
        binary: binary_expression; unary: unary_expression reference_expression try_expression; cast:
        type_cast_expression;
        paren: parenthesized_expression; assign: assignment_expression; augassign: compound_assignment_expr;
        exprstmt: expression_statement; return: return_expression; if: if_expression; else: else_clause;
        for: for_expression; while: while_expression loop_expression; declare: let_declaration; tuple: tuple_expression;
        list: array_expression; params: parameters closure_parameters; comment: line_comment block_comment;
        type: primitive_type type_identifier generic_type reference_type scoped_type_identifier array_type tuple_type;
        skip: use_declaration attribute_item inner_attribute_item lifetime extern_crate_declaration mod_item
        scoped_identifier macro_definition; jump: break_expression continue_expression"""),
    {"let_declaration": "pattern", "parameter": "pattern", "for_expression": "pattern", "closure_parameters": "",
     "assignment_expression": "left", "compound_assignment_expr": "left", "let_condition": "pattern"},
    r"\bfn \w+|\blet mut\b|\bimpl\b|\w+!\(|::new\(|&str\b|\bVec<|\busize\b|\bi32\b|\.unwrap\(\)|-> \w+ ?\{", SLASHES,
    r'r#"[\s\S]*?"#|b?"(?:\\[\s\S]|[^"\\])*"|b?' + r"'(?:\\(?:u\{\w+\}|.)|[^'\\\n])'",
    tight_bits=True, none="None",
    defaults={"num": ("0", "1", "-1", "2", "i32::MAX", "i32::MIN"), "str": ('""', '" "', "String::new()"),
              "bool": ("true", "false"), "list": ("vec![]", "Vec::new()"), "none": ("None",)},
    families=words("""
        min max, is_positive is_negative, floor ceil round trunc abs, to_lowercase to_uppercase to_ascii_lowercase
        to_ascii_uppercase, is_lowercase is_uppercase, is_ascii_lowercase is_ascii_uppercase, is_numeric is_alphabetic
        is_alphanumeric is_whitespace is_ascii_digit, starts_with ends_with contains,
            push insert push_str push_back push_front,
        pop remove pop_front pop_back, first last, any all, map filter filter_map flat_map, iter into_iter iter_mut,
            sum product,
        keys values, find position rposition, skip take skip_while take_while, trim trim_start trim_end, chars bytes,
        unwrap unwrap_or_default, is_some is_none, is_ok is_err, i32 i64 usize u32 f64, sort sort_unstable, get get_mut,
        to_string to_owned clone, split split_whitespace, rfind find, contains contains_key, len capacity, Some Ok,
            MAX MIN"""),
    wraps=(("num", "{0}.abs()", "num"), ("num", "{0} as i32", "num"), ("num", "{0} as usize", "num"), ("num",
        "{0} as f64", "num"),
           ("num", "{0}.to_string()", "str"), ("str", "{0}.len()", "num"), ("str", "{0}.to_lowercase()", "str"),
           ("str", "{0}.to_uppercase()", "str"), ("str", "{0}.trim()", "str"), ("list", "{0}.len()", "num"),
           ("list", "{0}.clone()", "list"), ("list", "{0}.rev()", "list"), ("any", "{0}.abs()", "num"), ("any",
           "{0}.len()", "num"),
           ("any", "{0}.rev()", "list"), ("any", "{0}.clone()", "any"), ("any", "{0}.to_lowercase()", "str"),
           ("any", "{0} as i32", "num"), ("any", "{0} as usize", "num"), ("any", "{0}.as_bytes()", "list")),
    returns={name: kind for kind, names in {
        "num": "len abs floor ceil sqrt pow count",
        "bool": "contains starts_with ends_with is_empty any all is_alphabetic",
        "str": "to_string to_lowercase to_uppercase trim"}.items() for name in names.split()},
    annotations=TYPES, appends=("{0}.push({1})", "{0}.push_str({1})", "{0}.insert({1})"), guard="if {0} {{\n{1}\n}}",
    empty="{0}.is_empty()", size="{0}.len()")

"""Expressions, variables and functions of bake files: tables of source and value, and of source and message."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapstrake.bake import files, numbers
from lapstrake.bake.evaluate import Scope, evaluate
from lapstrake.bake.functions import standard
from lapstrake.bake.functions.encoding import to_json
from lapstrake.bake.load import Loader
from lapstrake.bake.parser import parse, parse_expression
from lapstrake.bake.source import Source
from lapstrake.bake.variables import Variables
from lapstrake.errors import BuildError

SPEC = (
    "absolute add and base64decode base64encode basename bcrypt byteslen bytesslice can ceil chomp chunklist cidrhost "
    "cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist compact concat contains convert csvdecode dirname "
    "distinct divide element equal flatten floor format formatdate formatlist formattimestamp greaterthan "
    "greaterthanorequalto hasindex homedir indent index indexof int join jsondecode jsonencode keys length lessthan "
    "lessthanorequalto log lookup lower max md5 merge min modulo multiply negate not notequal or parseint pow range "
    "regex regex_replace regexall replace reverse reverselist rsadecrypt sanitize semvercmp sethaselement "
    "setintersection setproduct setsubtract setsymmetricdifference setunion sha1 sha256 sha512 signum slice sort split "
    "strlen substr subtract timeadd timestamp title trim trimprefix trimspace trimsuffix try unixtimestampparse upper "
    "urlencode uuidv4 uuidv5 values zipmap"
).split()


def value(text: str, environ=None, **variables):
    loader = Loader([], variables, Variables({}, environ or {}))
    return evaluate(parse_expression(text), Scope(loader))


def shown(text: str, **variables) -> str:
    return to_json(value(text, **variables))


def failure(text: str, **variables) -> str:
    with pytest.raises(BuildError) as caught:
        value(text, **variables)
    return caught.value.message.partition(": ")[2]


EXPRESSIONS = [
    ("1 + 2 * 3 - 4", "3"),
    ("(1 + 2) * 3", "9"),
    ("7 / 2", "3.5"),
    ("-7 % 3", "-1"),
    ("1.50", "1.5"),
    ("1e3", "1000"),
    ("0.1 + 0.2", "0.3"),
    ("1 / 3 * 3", "1"),
    ("-1 + -2", "-3"),
    ("!true || true && false", "false"),
    ("1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3", "true"),
    ('1 == 1 && "a" != "b"', "true"),
    ('1 == "1"', "false"),
    ("null == null", "true"),
    ('true ? "a" : "b"', '"a"'),
    ('false ? 1 : "b"', '"b"'),
    ('true ? 1 : "b"', '"1"'),
    ("true ? null : 1", "null"),
    ("true ? [1] : []", "[1]"),
    ("false ? a : b ? 2 : 3", "2"),
    ('"a${1 + 1}b"', '"a2b"'),
    ('"${[1, 2]}"', "[1,2]"),
    ('"$${x} %%{y} $x %"', '"${x} %{y} $x %"'),
    (r'"\t\"\\\u00e9\n"', '"\t\\"\\\\é\\n"'.replace("\t", "\\t")),
    ('"%{ if b }yes%{ else }no%{ endif }"', '"yes"'),
    ('"%{ if !b }yes%{ endif }"', '""'),
    ('"%{ for v in l }(${v})%{ endfor }"', '"(1)(2)(3)"'),
    ('"%{ for i, v in l ~} ${i}=${v} %{ endfor }"', '"0=1 1=2 2=3 "'),
    ('"a ${~ 1 ~} b"', '"a1b"'),
    ("[for v in l: v * 2]", "[2,4,6]"),
    ("[for v in l: v if v != 2]", "[1,3]"),
    ('{for k, v in m: upper(k) => "${v}!"}', '{"A":"x!","B":"y!"}'),
    ('{for v in ["a", "b", "a"]: v => 1...}', '{"a":[1,1],"b":[1]}'),
    ("[for k, v in m: k]", '["a","b"]'),
    ("o[*].n", "[1,2]"),
    ("o.*.n", "[1,2]"),
    ("o[*].t[0]", '["p","q"]'),
    ("5[*]", "[5]"),
    ("null[*]", "[]"),
    ("l[0] + l[2]", "4"),
    ("l.1", "2"),
    ('m["a"]', '"x"'),
    ("m.a", '"x"'),
    ('{a = 1, "b c" = 2, (m.a) = 3, true = 4}', '{"a":1,"b c":2,"true":4,"x":3}'),
    ("{\n a = 1\n b : 2,\n}", '{"a":1,"b":2}'),
    ("[\n1,\n2,\n]", "[1,2]"),
    ("max(l...)", "3"),
    ("1 # one\n", "1"),
    ("/* c */ 1 // x", "1"),
    ("<<EOT\na\n b ${1}\nEOT\n", '"a\\n b 1\\n"'),
    ("<<-EOT\n    a\n\n      b\n    EOT\n", '"a\\n\\n  b\\n"'),
    ("<<-EOT\n    ${1}\n      b\n    EOT\n", '"1\\n  b\\n"'),
    ("a-b", "7"),
    ("9007199254740993 + 0", "9007199254740993"),
]
NAMES = {
    "b": True, "l": (1, 2, 3), "m": {"a": "x", "b": "y"}, "o": ({"n": 1, "t": ("p",)}, {"n": 2, "t": ("q",)}), "a-b": 7,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS)
def test_expression(text, expected):
    assert shown(text, **NAMES) == expected


FAILURES = [
    ("x", 'Unknown variable; There is no variable named "x".'),
    ("bb", 'Unknown variable; There is no variable named "bb".'),
    ("1 / 0", "Division by zero; The divisor is zero."),
    ('1 + "a"', "Invalid operand; Unsuitable value for right operand: a number is required."),
    ("!1", "Invalid operand; Unsuitable value for unary operand: bool required."),
    ("1 + null", "Invalid operand; Unsuitable value for right operand: it is null."),
    ('"x${l}"', "Invalid template interpolation value; A tuple can't be part of a string: a string is required."),
    ('"x${null}"', "Invalid template interpolation value; It is null, which can't be part of a string."),
    ("l[3]", "Invalid index; There is no element 3: there are 3, counted from 0."),
    ("m.c", 'Unsupported attribute; This object has no attribute "c".'),
    ("b.x", "Unsupported attribute; A bool has no attributes."),
    ("null.x", "Attempt to get attribute from null value; The value is null, so it has no attributes."),
    ("o.n", "Unsupported attribute; A tuple has no attributes; for one element write [0], for all of them [*].n."),
    ('true ? 1 : [1]', "Inconsistent conditional result types; Both results must have one type: the true one is number, the false one tuple."),
    ('"a" ? 1 : 2', "Incorrect condition type; A condition is true or false: bool required."),
    ("[for v in 1: v]", "Iteration over non-iterable value; A number has no elements."),
    ('{for v in ["a", "a"]: v => 1}', 'Duplicate object key; Two items have the key "a"; "..." after the value makes a list of them.'),
    ("uper(1)", 'Call to unknown function; There is no function named "uper". Did you mean "upper"?'),
    ("upper()", 'Error in function call; Call to function "upper" failed: 1 argument needed, "str" is missing.'),
    ('upper("a", "b")', 'Error in function call; Call to function "upper" failed: only 1 argument expected.'),
    ("upper([])", 'Invalid function argument; Invalid value for "str" parameter: string required.'),
    ("upper(null)", 'Invalid function argument; Invalid value for "str" parameter: argument must not be null.'),
    ('parseint("z", 10)', 'Invalid function argument; Invalid value for "number" parameter: cannot parse "z" as a base 10 integer.'),
    ("1 +", "Invalid expression; A value is needed here, but the end of the file was found."),
    ("'a'", 'Invalid character; "\'" has no meaning here. Strings are written between double quotes.'),
    ('"a', "Unterminated string; A quoted string ends on the line it begins on; a longer text is a heredoc (<<EOT)."),
    ('"${1"', 'Unterminated template interpolation; Expected a closing brace after the "${".'),
    ('"%{ endif }"', "Unexpected template directive; Nothing is open for this endif."),
    ("[1 2]", "Missing item separator; Items are separated by commas."),
    ("f(1 2)", "Missing argument separator; Arguments are separated by commas."),
    ("(" * 80 + "1" + ")" * 80, "Too deep; More than 64 levels of nesting."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAILURES)
def test_failure(text, message):
    assert failure(text, **NAMES) == message


FUNCTIONS = [
    ("absolute(-3)", "3"), ("add(1, 2)", "3"), ("and(true, false)", "false"), ('base64decode("aGk=")', '"hi"'),
    ('base64encode("hi")', '"aGk="'), ('basename("/a/b.c")', '"b.c"'), ('byteslen("é")', "2"),
    ('bytesslice("abcd", 1, 2)', '"bc"'), ("can(nope)", "false"), ("can(1)", "true"), ("ceil(1.2)", "2"),
    (r'chomp("a\r\n\n")', '"a"'), ("chunklist([1,2,3], 2)", "[[1,2],[3]]"), ('cidrhost("10.0.0.0/8", 258)', '"10.0.1.2"'),
    ('cidrhost("10.0.0.0/24", -1)', '"10.0.0.255"'), ('cidrnetmask("10.1.2.3/20")', '"255.255.240.0"'),
    ('cidrsubnet("10.0.0.0/8", 8, 2)', '"10.2.0.0/16"'), ('cidrsubnets("10.1.0.0/16", 4, 4, 8)', '["10.1.0.0/20","10.1.16.0/20","10.1.32.0/24"]'),
    ('coalesce(null, "a")', '"a"'), ("coalescelist([], [1])", "[1]"), ('compact(["", "a"])', '["a"]'),
    ("concat([1], [2])", "[1,2]"), ("contains([1, 2], 2)", "true"), ('convert("1", number)', "1"),
    ('convert(["1"], list(number))', "[1]"), (r'csvdecode("a,b\n1,2\n")', '[{"a":"1","b":"2"}]'), ('dirname("/a/b")', '"/a"'),
    ('dirname("a")', '"."'), ("distinct([1, 1, 2])", "[1,2]"), ("divide(7, 2)", "3.5"), ("element([1, 2, 3], 4)", "2"),
    ("equal(1, 1)", "true"), ("flatten([[1], [2, [3]]])", "[1,2,3]"), ("floor(-1.2)", "-2"),
    ('format("%s-%d-%05.1f-%q-%v", "a", 3, 2.25, "b", [1])', r'"a-3-002.2-\"b\"-[1]"'), ('format("%3d|%-3s|%x", 1, "a", 255)', '"  1|a  |ff"'),
    ('formatdate("YYYY-MM-DD\'T\'hh:mm:ssZ EEE MMM AA", "2024-02-03T14:05:06Z")', '"2024-02-03T14:05:06Z Sat Feb PM"'),
    ('formatlist("%s:%s", "r", ["a", "b"])', '["r:a","r:b"]'), ('formattimestamp("D MMMM", "2024-02-03T14:05:06+01:00")', '"3 February"'),
    ("greaterthan(2, 1)", "true"), ("greaterthanorequalto(2, 2)", "true"), ("hasindex([1], 0)", "true"), ('hasindex({a = 1}, "b")', "false"),
    (r'indent(2, "a\nb")', r'"a\n  b"'), ("index([5, 6], 1)", "6"), ("indexof([5, 6], 6)", "1"), ("int(-1.9)", "-1"),
    ('join("-", ["a", "b"], ["c"])', '"a-b-c"'), ("jsondecode(\"{\\\"a\\\": [1, 1.5, null]}\")", '{"a":[1,1.5,null]}'),
    ("jsonencode({b = true, a = null})", r'"{\"a\":null,\"b\":true}"'), ("keys({b = 1, a = 2})", '["a","b"]'), ("length([1, 2])", "2"),
    ("lessthan(1, 2)", "true"), ("lessthanorequalto(2, 2)", "true"), ("log(8, 2)", "3"), ('lookup({a = 1}, "b", 2)', "2"),
    ('lower("ABC")', '"abc"'), ("max(1, 3, 2)", "3"), ('md5("a")', '"0cc175b9c0f1b6a831c399e269772661"'),
    ("merge({a = 1}, {a = 2, b = 3})", '{"a":2,"b":3}'), ("min(1, 3)", "1"), ("modulo(7, 4)", "3"), ("multiply(2, 3)", "6"),
    ("negate(1)", "-1"), ("not(true)", "false"), ("notequal(1, 2)", "true"), ("or(false, true)", "true"), ('parseint("ff", 16)', "255"),
    ("pow(2, 10)", "1024"), ("pow(2, -1)", "0.5"), ("range(3)", "[0,1,2]"), ("range(1, 4)", "[1,2,3]"), ("range(4, 0, -2)", "[4,2]"),
    (r'regex("(\\d+)-(\\d+)", "a12-34")', '["12","34"]'), (r'regex("(?P<y>\\d+)", "a12")', '{"y":"12"}'), ('regex_replace("a1b2", "[0-9]", "<$0>")', '"a\\u003c1\\u003eb\\u003c2\\u003e"'),
    ('regexall("[a-z]", "a1b")', '["a","b"]'), ('replace("1.2.3", ".", "-")', '"1-2-3"'), ('reverse("abc")', '"cba"'),
    ("reverselist([1, 2])", "[2,1]"), ('sanitize("a.b/c d")', '"a_b_c_d"'), ('semvercmp("1.4.0", ">= 1.2, < 2")', "true"),
    ('semvercmp("v2.0.1", "^1.2")', "false"), ('semvercmp("1.2.9", "~1.2.3")', "true"), ("sethaselement([1], 1)", "true"),
    ("setintersection([1, 2], [2, 3])", "[2]"), ('setproduct(["a"], [1, 2])', '[["a",1],["a",2]]'), ("setsubtract([1, 2], [1])", "[2]"),
    ("setsymmetricdifference([1, 2], [2, 3])", "[1,3]"), ("setunion([2, 1], [3])", "[1,2,3]"), ('sha1("a")', '"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"'),
    ('substr(sha256("a"), 0, 8)', '"ca978112"'), ('substr(sha512("a"), 0, 8)', '"1f40fc92"'), ("signum(-2)", "-1"), ("slice([1, 2, 3], 1, 3)", "[2,3]"),
    ('sort(["b", "a"])', '["a","b"]'), ('split(",", "a,b")', '["a","b"]'), ('strlen("é")', "1"), ('substr("hello", -3, 2)', '"ll"'), ('substr("hello", 1, -1)', '"ello"'),
    ("subtract(3, 1)", "2"), ('timeadd("2024-01-01T00:00:00Z", "1h30m")', '"2024-01-01T01:30:00Z"'), ('title("hello world")', '"Hello World"'),
    ('trim("xxaxx", "x")', '"a"'), ('trimprefix("v1", "v")', '"1"'), ('trimspace(" a ")', '"a"'), ('trimsuffix("a.c", ".c")', '"a"'),
    ('try(nope, "x")', '"x"'), ("unixtimestampparse(1690328596).year", "2023"), ("unixtimestampparse(0).rfc3339", '"1970-01-01T00:00:00Z"'),
    ('upper("a")', '"A"'), ('urlencode("a b&c/")', '"a+b%26c%2F"'), ('uuidv5("dns", "example.com")', '"cfbff0d1-9375-5685-968c-48ce8b15ae17"'),
    ("values({b = 1, a = 2})", "[2,1]"), ('zipmap(["a", "b"], [1, 2])', '{"a":1,"b":2}'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FUNCTIONS)
def test_function(text, expected):
    assert shown(text) == expected


def test_there_are_all_functions_of_the_specification_each_with_a_test():
    assert {*standard(), "try", "can", "convert"} == set(SPEC)
    tested = {name for text, _ in FUNCTIONS for name in re.findall(r"(\w+)\(", text)}
    random = {"bcrypt", "homedir", "rsadecrypt", "timestamp", "uuidv4"}
    assert set(SPEC) - tested == random


def test_functions_whose_results_vary(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert value("homedir()") == "/home/me"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value("timestamp()"))
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", value("uuidv4()")
    )


def test_bcrypt():
    library = pytest.importorskip("bcrypt")
    assert library.checkpw(b"secret", value('bcrypt("secret", 4)').encode())


def test_rsadecrypt():
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    from base64 import b64encode

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    sent = b64encode(key.public_key().encrypt(b"hello", padding.PKCS1v15())).decode()
    assert value("rsadecrypt(sent, key)", sent=sent, key=pem.decode()) == "hello"


# -- variables ---------------------------------------------------------------------------------------


def load(text: str, environ=None, given=None):
    inputs = files.Inputs(given=given or {}, environ=environ or {}, context="cwd://", platform="linux/amd64")
    return files.load([files.File("docker-bake.hcl", text.encode())], inputs)


def variable(kind: str, environ, expr="V", default="null") -> str:
    text = (
        f'variable "V" {{\n type = {kind}\n default = {default}\n}}\ntarget "t" {{ args = {{ x = {expr} }} }}'
    )
    return load(text, environ).targets["t"].get("args")["x"]


@pytest.mark.parametrize(
    ("kind", "environ", "expr", "expected"),
    [
        ("bool", {"V": "t"}, "V", "true"),
        ("number", {"V": "99.5"}, "V + 1", "100.5"),
        ("string", {"V": '"q"'}, "V", '"q"'),
        ("list(string)", {"V": 'a,"b,c"'}, 'join("|", V)', "a|b,c"),
        ("list(number)", {"V": "3,1"}, 'join("-", [for v in V: v + 1])', "4-2"),
        ("set(number)", {"V": "3,1,1"}, "length(V)", "2"),
        ("map(number)", {"V": "a:1,b:2"}, "V.a + V.b", "3"),
        ("tuple([number, string])", {"V": "99,x"}, 'format("%d%s", V...)', "99x"),
        ("list(string)", {"V": "a", "V_JSON": '["b", "c"]'}, "length(V)", "2"),
        ("object({m = list(string)})", {"V_JSON": '{"m": ["x"]}'}, "V.m[0]", "x"),
        ("any", {}, "V == null", "true"),
        ("list(string)", {"V": ""}, "length(V)", "0"),
    ],
)
def test_typed_variable(kind, environ, expr, expected):
    assert variable(kind, environ, expr) == expected


@pytest.mark.parametrize(
    ("kind", "environ", "default", "message"),
    [
        ("number", {"V": "1z"}, "1", 'failed to parse "1z" as number'),
        ("bool", {"V": "maybe"}, "true", 'failed to parse "maybe" as bool'),
        ("list(number)", {"V": "1,1z"}, "[]", "from CSV to list of number: failed to parse element 1z"),
        ("list(string)", {"V": '"a'}, "[]", "it can't be read as CSV"),
        ("map(number)", {"V": "a:1:1"}, "{}", "expected one k/v pair"),
        ("object({a = string})", {"V": "x"}, "null", "unsupported type object"),
        ("list(list(string))", {"V": "x"}, "[]", "unsupported type list of list of string"),
        ("string", {"V_JSON": "hello"}, "null", "from JSON (V_JSON)"),
        ("number", {}, '"oops"', "invalid type for V default value"),
        ("boolean", {}, "null", "not a valid type"),
        ("tuple([string])", {"V": "a,b"}, "null", "1 elements are needed, not 2"),
    ],
)
def test_typed_variable_failure(kind, environ, default, message):
    with pytest.raises(BuildError) as caught:
        variable(kind, environ, default=default)
    assert message in caught.value.message


def test_precedence_and_untyped_conversion():
    text = 'variable "N" { default = 3 }\nvariable "B" { default = true }\nvariable "E" {}\n'
    text += 'target "t" { args = { n = N + 1, b = B ? "y" : "n", e = "[${E}]" } }'
    assert load(text).targets["t"].get("args") == {"n": "4", "b": "y", "e": "[]"}
    assert load(text, {"N": "1", "B": "0"}, {"N": "10"}).targets["t"].get("args")["n"] == "11"
    assert load(text, {"N": "1", "B": "0"}).targets["t"].get("args")["b"] == "n"
    for environ, message in (
        ({"N": "x"}, "failed to parse N as number"),
        ({"B": "x"}, "failed to parse B as bool"),
    ):
        with pytest.raises(BuildError, match=message):
            load(text, environ)
    with pytest.raises(BuildError, match="unsupported type tuple for variable L"):
        load('variable "L" { default = [1] }', {"L": "2"})
    with pytest.raises(BuildError, match="unsupported type tuple for variable L"):
        load('variable "L" { default = [1] }', {"L_JSON": "[2]"})


# -- numbers and strangers -------------------------------------------------------------------------------


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=12))
def test_numbers_read_back_as_they_print(d):
    n = numbers.parse(f"{d:f}")
    assert numbers.parse(numbers.text(n)) == n
    assert Fraction(numbers.text(n)) == Fraction(d)


@given(st.fractions(max_denominator=10**9))
@settings(max_examples=50)
def test_rounded_fractions_read_back(f):
    n = numbers.rounded(f)
    assert numbers.parse(numbers.text(n)) == n


_TOKENS = st.sampled_from(
    ['target "a" {', "}", "{", "[", "]", "(", ")", "=", "=>", "\n", '"', "${", "%{", "~}", "if", "for", "in", "else",
     "endif", "endfor", "x", "y.z", "[*]", ".*", "1", "1.5e3", "-", "!", "?", ":", ",", "...", "<<EOT\n", "<<-E\n", "E\n",
     "EOT\n", "null", "true", "#", "//", "/*", "*/", "\\", "\\u12", "upper(", "variable \"x\" {", "matrix = ", "name = ", " "]
)  # fmt: skip


@given(st.one_of(st.text(max_size=80), st.lists(_TOKENS, max_size=30).map("".join)))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_file_or_one_clear_error(text):
    try:
        load(text)
    except BuildError as e:
        assert e.message and "\x00" not in str(e.span.filename if e.span else "")


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from([*'{}[]:,"\\ \n0123.-eE', "true", "null", '"target"', '"a"', '"${x}"']), max_size=30).map("".join)))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_text_is_json_or_one_clear_error(text):
    inputs = files.Inputs()
    try:
        files.load([files.File("x.json", text.encode("utf-8", "surrogatepass"))], inputs)
    except BuildError as e:
        assert e.message


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_yaml_or_one_clear_error(text):
    try:
        files.load([files.File("x.yaml", text.encode("utf-8", "surrogatepass"))], files.Inputs())
    except BuildError as e:
        assert e.message


def test_places_count_from_one_and_end_behind():
    with pytest.raises(BuildError) as caught:
        parse(Source("f.hcl", 'target "a" {\n  tags = [\n    "x"\n    "y"\n  ]\n}\n'))
    assert caught.value.message == "f.hcl:4,5-6: Missing item separator; Items are separated by commas."
    assert caught.value.span.first == 4


def test_a_function_that_lacks_its_result_is_named_whoever_calls_it_first():
    text = 'function "f" {\n params = []\n result = g()\n}\nfunction "g" {\n params = []\n}\n'
    with pytest.raises(BuildError, match="empty result not allowed for g"):
        load(text)

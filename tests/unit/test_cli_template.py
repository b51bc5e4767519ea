"""Go templates as people write them in --format; expected texts are Go's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.cli.template import Fields, Template, align, render_rows
from lapstrake.cli.template_functions import json_indented
from lapstrake.errors import UsageError

DATA = Fields(
    Name="app", Size=12, Ratio=0.5, Done=True, Nothing=None,
    Tags=["a", "b"], Labels={"k": "v", "org.x/y": "z"},
    Manifest=Fields(mediaType="m/t", digest="sha256:1", manifests=[Fields(digest="d1"), Fields(digest="d2")]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "app"),
        ("{{ .Name }}:{{.Size}}", "app:12"),
        ("{{.Ratio}} {{.Done}} {{.Nothing}}", "0.5 true <no value>"),
        ("{{.Tags}} {{.Labels}}", "[a b] map[k:v org.x/y:z]"),
        ("{{.Manifest.MediaType}} {{.Manifest.Digest}}", "m/t sha256:1"),
        ("{{.Labels.missing}}", "<no value>"),
        ("{{json .Tags}}", '["a","b"]'),
        ("{{json .Labels}}", '{"k":"v","org.x/y":"z"}'),
        ("{{.Tags | json}}", '["a","b"]'),
        ('{{index .Labels "org.x/y"}}', "z"),
        ("{{index .Tags 1}}", "b"),
        ("{{(index .Manifest.Manifests 1).Digest}}", "d2"),
        ("{{index (slice .Tags 1) 0}}", "b"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}", "0=a 1=b "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "k=v;org.x/y=z;"),
        ("{{range .Manifest.manifests}}{{.digest}} of {{$.Name}}, {{end}}", "d1 of app, d2 of app, "),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range $t := .Tags}}{{$t}}{{end}}", "ab"),
        ("{{if .Done}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Nothing}}a{{else if eq .Size 12}}b{{else}}c{{end}}", "b"),
        ("{{if and .Done (gt .Size 3) (not .Nothing)}}y{{end}}", "y"),
        ('{{if or .Nothing ""}}y{{else}}n{{end}}', "n"),
        ("{{with .Manifest}}{{.digest}}{{end}}", "sha256:1"),
        ("{{with $m := .Manifest}}{{$m.digest}}{{end}}", "sha256:1"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ("{{$n := .Name}}{{$n}}{{$n = 3}}{{$n}}", "app3"),
        ("{{$last := 0}}{{range .Tags}}{{$last = .}}{{end}}{{$last}}", "b"),
        ("{{$x := 1}}{{range .Tags}}{{$x := .}}{{end}}{{$x}}", "1"),
        ('{{printf "%-5s|%03d|%q|%v|%5.2f|%x" .Name .Size .Name .Tags .Ratio .Size}}',
         'app  |012|"app"|[a b]| 0.50|c'),
        ('{{printf "%d%%" 5}}', "5%"),
        ('{{printf "%s"}}', "%!s(MISSING)"),
        ('{{.Name | printf "%s-%s" "x"}}', "x-app"),
        ('{{join .Tags ", "}} {{upper .Name}} {{lower "ABC"}} {{title "abc"}}', "a, b APP abc Abc"),
        ('{{split "a,b" ","}} {{truncate .Name 2}} {{pad .Name 1 2}}|', "[a b] ap  app  |"),
        ("{{len .Tags}} {{len .Name}}", "2 3"),
        ("a {{- .Name -}} b", "aappb"),
        ("{{/* a comment */}}x", "x"),
        ("{{println .Name 1}}", "app 1\n"),
        ('{{"}}"}}{{`a"b`}}', '}}a"b'),
        ("{{eq .Size 1 2 12}} {{ne .Name \"app\"}} {{le 1 1}} {{lt 2 1}}", "true false true false"),
        ("{{true}} {{nil}}", "true <no value>"),
    ],
)  # fmt: skip
def test_renders(text, expected):
    assert Template(text).render(DATA) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{.Name", "unclosed action"),
        ("{{if .Name}}", "an end is missing"),
        ("{{if .Name}}a{{else}}b", "an end is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{nosuch .Name}}", 'function "nosuch" not defined'),
        ("{{.Name .Size}}", "can't give argument to non-function .Name"),
        ("{{.Name | 5}}", "non executable command"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name)}}", "unexpected )"),
        ("{{}}x{{|}}", "missing value for command"),
        ("{{define \"x\"}}", "define is not supported"),
        ("{{" + "(" * 500 + ".Name" + ")" * 500 + "}}", "too deeply nested"),
        ("{{if .Name}}" * 500 + "{{end}}" * 500, "too deeply nested"),
    ],
)  # fmt: skip
def test_wrong_templates(text, why):
    with pytest.raises(UsageError, match="failed to parse template") as caught:
        Template(text).render(DATA)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{.Nope}}", "can't evaluate field Nope; there are .Name, .Size"),
        ("{{.Name.First}}", "can't evaluate field First in app"),
        ("{{index .Tags 9}}", "index out of range: 9"),
        ("{{len .Size}}", "len of 12"),
        ("{{lt .Name 1}}", "incompatible types"),
        ("{{$x}}", "undefined variable $x"),
        ('{{printf "%99999999d" 1}}', "too large"),
        ("{{join 5 1}}", "error calling join"),
        ("{{range true}}{{end}}", "can't iterate"),
    ],
)
def test_failures_of_execution(text, why):
    with pytest.raises(UsageError, match="failed to execute template") as caught:
        Template(text).render(DATA)
    assert why in caught.value.message


@given(st.text(alphabet="{}.$|()-\"`' abIifendrgelswth:=,0Name\\", max_size=60))
def test_any_text_is_a_template_or_one_error(text):
    try:
        Template(text).render(DATA)
    except UsageError:
        pass


ROWS = [{"ID": "1", "Name": "one"}, {"ID": "22", "Name": "日本"}]
COLUMNS = [("ID", "BUILD ID"), ("Name", "NAME")]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "BUILD ID   NAME\n1          one\n22         日本\n"),
        ("table {{.Name}}\\t{{.ID}}", "NAME   BUILD ID\none    1\n日本   22\n"),
        ("json", '{"ID":"1","Name":"one"}\n{"ID":"22","Name":"日本"}\n'),
        ("{{.ID}}", "1\n22\n"),
        ("{{.ID}}\\t{{.Name}}", "1\tone\n22\t日本\n"),
    ],
)
def test_lists(form, expected):
    assert render_rows(form, ROWS, COLUMNS) == expected


def test_other_functions_can_be_given():
    assert Template("{{json .}}", {"json": json_indented}).render({"a": 1}) == '{\n  "a": 1\n}'
    assert align([["a", "b"], ["ccc", ""]]) == "a     b\nccc\n"

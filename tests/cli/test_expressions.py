"""The language of `--where`."""

from __future__ import annotations

import pytest

from mintkey._core import Item
from mintkey.cli.endings import UsageError
from mintkey.cli.expressions import parse_condition

ITEM = Item.from_json(
    '{"a":12,"b":{"$B":"AAE="},"s":{"$SS":["x"]},"n":null,"m":{"city":"Bonn","l":[1,{"z":"q"}]},"t":true,'
    '"order total":2,"order-total":13,"a.b":12,"tick`y":{"x-y":[13]},"size":4,"q":"it\'s \\"q\\"\\n",'
    '"and":1,"base64":3,"größe":1}'
)


@pytest.mark.parametrize(
    "text",
    [
        "a=12",
        "a = 12.0 and b = base64('AAE=')",
        'm.city begins_with "Bo"',
        "m.l[1].z = 'q'",
        "`order total` in (1, 2, 3)",
        "a between 1 and 20 and t = true",
        "not exists(zz) and (a < 0 or a >= 12)",
        "`and` = 1 and base64 = 3 AND größe = 1",
        r"q = 'it\'s " + '"q"' + r"\n'",
        r'q contains "\"q\"" and q != "\u00e9"',
        "n = null and a != null and zz != null",
        "zz != 1 and not zz = 1",
        "a = 12 or a = 13 and a = 14",
        "not not (a > 11.5e0 and a < 1.25E1)",
        "a\n=\t12",
        "a < `order-total` and a <= `a.b` and `a.b` = `a` and a != `size`",
        "`order-total` = `tick``y`.`x-y`[0] and m.l[0] < `order total`",
        "size(q) = 9 and SIZE(b) >= 2 and size(s) < 2 and size(m.l) != 3 and size(`tick``y`) > 0",
        "size = 4 and `size` > `order total`",
        "not a < `zz` and not size(zz) > 0 and not q > `a`",
        "s contains 'x' and s = s1 or exists(s)".replace("s = s1", "exists(n)"),
    ],
)
def test_true(text):
    assert parse_condition(text).matches(ITEM)
    assert not parse_condition(f"not ({text})").matches(ITEM)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", 1, "expected the name of an attribute, found the end"),
        ("a = ", 5, "expected a value, found the end"),
        (
            "a = open",
            5,
            "expected a value, found open: write text in quotes, 'open', and the name of another attribute",
        ),
        ("a in (`b`)", 7, "expected a value, found '`b`'"),
        ("a = `a`", 5, "compared with itself"),
        ("a = ``", 5, "a text without its closing quote"),
        ("size(a", 7, "expected ')' after the path, found the end"),
        ("size(a) in (1)", 9, "expected a comparison such as '=' after size(…), found 'in'"),
        ("size(a) > 1.5", 11, "expected a whole number from 0, found '1.5'"),
        ("size(a) > -1", 11, "expected a whole number from 0, found '-1'"),
        ("size(a) > 1e3", 11, "expected a whole number from 0, found '1e3'"),
        ("size(a) > `b`", 11, "expected a whole number from 0, found '`b`'"),
        ("size()", 6, "expected the name of an attribute, found ')'"),
        ("a = 'x", 5, "a text without its closing quote"),
        ("a 3", 3, "expected a comparison such as '=' or 'in' after the path, found '3'"),
        ("a between 1 2", 13, "expected 'and' between the two values, found '2'"),
        ("(a = 1", 7, "expected ')' after the condition, found the end"),
        ("a = 1)", 6, "expected 'and', 'or' or the end, found ')'"),
        ("a = 1 b = 2", 7, "expected 'and', 'or' or the end, found 'b'"),
        ("a in ()", 7, "expected a value, found ')'"),
        ("a in (null)", 7, "null can be compared with = and != only"),
        ("a < null", 3, "null has no order, so < is not possible"),
        ("a = 2024-01-01", 9, "expected 'and', 'or' or the end, found '-01'"),
        ("a = 12abc", 5, "unexpected '1'"),
        ("a € 3", 3, "unexpected '€'"),
        ("a[x] = 2", 3, "expected an index from 0, found 'x'"),
        ("exists a", 8, "expected '(' after exists, found 'a'"),
        ("and = 1", 1, "expected the name of an attribute, found 'and'"),
        ("b = base64('?')", 12, "not valid base64"),
        (r"a = '\q'", 5, r"an escape in '\q' is wrong: write \\ for a backslash"),
        ("a begins_with 3", 15, "begins_with"),
        ("a = 1e200", 5, "a number must be less than 1E+126"),
        ("a between 5 and 1", 11, "the lower bound is above the upper one"),
        ("m.l[99999999999] = 1", 1, "the maximum index of a list"),
        ("(" * 40 + "a = 1", 31, "at most 30 levels of brackets and 'not'"),
        (r"a = '\ud800'", 5, "lone surrogate"),
    ],
)
def test_wrong(text, column, problem):
    with pytest.raises(UsageError) as refused:
        parse_condition(text)
    assert str(refused.value).startswith(f"--where: column {column}: ")
    assert problem in str(refused.value)

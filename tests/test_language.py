from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import ODD, nodes

from mien.errors import MienError, OptionError
from mien.film import language
from mien.film.language import (
    ALIASES,
    COLUMNS,
    FLAGS,
    FRONTAL,
    KEYWORDS,
    REASONS,
    RESERVED,
    And,
    Because,
    Column,
    Compare,
    Flag,
    Held,
    Label,
    Node,
    Not,
    Number,
    Or,
    QueryError,
    Score,
    asked,
    parts,
)
from mien.film.parser import parse
from mien.film.tables import face_columns
from mien.labels import EIGHT, LabelSet
from mien.models.quality import Limits
from mien.results import Reason

PAGE = (Path(__file__).parents[1] / "docs" / "query.md").read_text(encoding="utf-8")


@settings(deadline=None)
@given(st.one_of(nodes(EIGHT).map(lambda n: (n, EIGHT)), nodes(ODD).map(lambda n: (n, ODD))))
def test_the_canonical_spelling_reads_back_to_the_same_tree(given_: tuple[Node, LabelSet]) -> None:
    node, labels = given_
    assert parse(str(node), labels) == node
    assert parse(f"  ({node})\n", labels) == node


PIECES = [*"()<>=! \"'.:0123456789aefhopry-≥😀%&", " for ", " and ", "not ", "happy", " s", " frames"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        node = parse(text, EIGHT)
    except QueryError as error:
        at, said, query = error.position, str(error), error.query
        assert (0 <= at <= len(text), "\n" in said, query) == (True, False, text)
    else:
        assert parse(str(node), EIGHT) == node


happy, sad = Label("happy"), Label("sad")
strong = Compare(Score("happy"), ">=", Number(0.7))

READ: list[tuple[str, Node]] = [
    ("", Flag("face")),
    (" \t\n", Flag("face")),
    ("happy", happy),
    ("JOY", happy),
    ('"Happiness"', happy),
    ("'happy'", happy),
    ("happy >= 0.7", strong),
    ("happy>=.7", strong),
    ("0.7 <= happy", Compare(Number(0.7), "<=", Score("happy"))),
    ("happy ≥ 0.7", strong),
    ("happy == 1", Compare(Score("happy"), "=", Number(1))),
    ("happy <> 1", Compare(Score("happy"), "!=", Number(1))),
    ("happy > sad", Compare(Score("happy"), ">", Score("sad"))),
    ("happy > 7e-1", Compare(Score("happy"), ">", Number(0.7))),
    ("size >= 60 px", Compare(Column("side"), ">=", Number(60))),
    ("Side>=60", Compare(Column("side"), ">=", Number(60))),
    ("turn < -0.2", Compare(Column("turn"), "<", Number(-0.2))),
    ("x1 > +5", Compare(Column("x1"), ">", Number(5))),
    ("time >= 12.5", Compare(Column("time"), ">=", Number(12.5))),
    ("time >= 12.5s", Compare(Column("time"), ">=", Number(12.5))),
    ("time >= 1:02:03.5", Compare(Column("time"), ">=", Number(3723.5))),
    ("2:05 <= time", Compare(Number(125), "<=", Column("time"))),
    ("time < 2 min", Compare(Column("time"), "<", Number(120))),
    ("time < 250 ms", Compare(Column("time"), "<", Number(0.25))),
    ("happy for 8 frames", Held(happy, 8, "frames")),
    ("happy for 1 frame", Held(happy, 1, "frames")),
    ("happy FOR 8frames", Held(happy, 8, "frames")),
    ("happy for 0.5 s", Held(happy, 0.5, "s")),
    ("happy for 500 ms", Held(happy, 0.5, "s")),
    ("happy for 5 seconds", Held(happy, 5, "s")),
    ("happy for 1:30", Held(happy, 90, "s")),
    ("happy for 2 minutes", Held(happy, 120, "s")),
    ("happy for 8 frames for 1 s", Held(Held(happy, 8, "frames"), 1, "s")),
    ("happy >= 0.7 for 8 frames", Held(strong, 8, "frames")),
    ("not happy for 8 frames", Not(Held(happy, 8, "frames"))),
    ("(not happy) for 8 frames", Held(Not(happy), 8, "frames")),
    ("happy and sad for 8 frames", And((happy, Held(sad, 8, "frames")))),
    ("(happy and sad) for 8 frames", Held(And((happy, sad)), 8, "frames")),
    ("happy or sad and alone", Or((happy, And((sad, Flag("alone")))))),
    ("(happy or sad) and alone", And((Or((happy, sad)), Flag("alone")))),
    ("happy and (sad and alone)", And((happy, And((sad, Flag("alone")))))),
    ("not not happy", Not(Not(happy))),
    ("NOT (happy OR too_small)", Not(Or((happy, Because("too_small"))))),
    ("((happy))", happy),
]


@pytest.mark.parametrize(("text", "node"), READ, ids=[t for t, _ in READ])
def test_a_query_is_read(text: str, node: Node) -> None:
    assert parse(text, EIGHT) == node
    assert parse(str(node), EIGHT) == node


REFUSED = [
    ("hapy", 1, "unknown word 'hapy' at 1; did you mean 'happy'?"),
    ("happy and frontl", 11, "unknown word 'frontl' at 11; did you mean 'frontal'?"),
    ("banana", 1, "the labels are: angry, disgust"),
    ("happy >= 70", 10, "'70' at 10 is out of range, scores lie in [0, 1]; write 0.7"),
    ("-1 < happy", 1, "'-1' at 1 is out of range, scores lie in [0, 1]"),
    ("score > 1.5", 9, "'1.5' at 9 is out of range, scores lie in [0, 1]"),
    ("brightness > 300", 14, "brightness lies in [0, 255]"),
    ("yaw > -0.1", 7, "yaw lies in [0, 2]; to ask for one side, write turn"),
    ("happy >= 70%", 12, "unexpected '%' at 12; scores lie in [0, 1]"),
    ("happy && sad", 7, "unexpected '&' at 7; write 'and'"),
    ("happy | sad", 7, "write 'or'"),
    ("!happy", 1, "write 'not'"),
    ('"happy', 1, "both are needed"),
    ("“happy”", 1, "quotes are"),
    ('"smirk"', 1, "no label '\"smirk\"' at 1; the labels are: angry"),
    ("turn > −0.2", 8, "write the minus as -"),
    ("happy for", 10, "how long is missing after 'for' at 7"),
    ("happy for and", 11, "how long is missing before 'and' at 11"),
    ("happy for 8", 11, "'8' at 11 has no unit; say frames, s or ms"),
    ("happy for 8 bananas", 13, "'bananas' at 13 is no unit"),
    ("happy for 8 px", 11, "is no length; say frames, s or ms"),
    ("happy for 0 frames", 11, "'0' at 11 is no length"),
    ("happy for -2 s", 11, "'-2' at 11 is no length"),
    ("happy for 1e999 s", 11, "'1e999' at 11 is no length"),
    ("happy for 2.5 frames", 11, "'2.5' at 11 is no count"),
    ("happy for 1:75", 11, "'1:75' at 11 is no time"),
    ("time > 1:75:00", 8, "'1:75:00' at 8 is no time"),
    ("happy > 0.5 s", 9, "'0.5' at 9 is in s, which happy is not; leave the unit out"),
    ("side > 5 s", 8, "'5' at 8 is in s, which side is not; it is in px"),
    ("5 px < time", 1, "'5' at 1 is in px, which time is not; it is in s"),
    ("frame > 1:30", 9, "is in s, which frame is not"),
    ("track > 1e999", 9, "is no finite number"),
    ("happy >=", 9, "a number, label or column is missing after '>=' at 7"),
    ("happy > and", 9, "a number, label or column is missing before 'and' at 9"),
    ("happy > )", 9, "missing before ')' at 9"),
    (">= 0.7", 1, "a condition is missing before '>=' at 1"),
    ("happy and", 10, "a condition is missing after 'and' at 7"),
    ("and happy", 1, "a condition is missing before 'and' at 1"),
    ("happy or or sad", 10, "a condition is missing before 'or' at 10"),
    ("not", 4, "a condition is missing after 'not' at 1"),
    ("()", 2, "a condition is missing before ')' at 2"),
    ("for 8 frames", 1, "a condition is missing before 'for' at 1"),
    ("(happy", 1, "'(' at 1 is not closed"),
    ("sad or (happy and (alone)", 8, "'(' at 8 is not closed"),
    ("(happy sad)", 8, "'sad' at 8 follows without 'and' or 'or'"),
    ("happy)", 6, "')' at 6 closes nothing"),
    ("happy sad", 7, "'sad' at 7 follows without 'and' or 'or'"),
    ("happy 8 frames", 7, "'8' at 7 follows without 'and' or 'or'"),
    ("0.5 < happy < 0.7", 13, "'<' at 13 has no number before it; write two comparisons with 'and'"),
    ("(happy) > 0.5", 9, "'>' at 9 has no number before it"),
    ("side", 1, "'side' at 1 is a number, no condition; compare it, as in side >= 1"),
    ("happy and 0.7", 11, "compare it, as in angry >= 0.7"),
    ("1 < 2", 1, "'1' at 1 is compared with a number; name a label or a column"),
    ("alone = 1", 1, "'alone' at 1 is true or false and is not compared"),
    ("1 = blurred", 5, "'blurred' at 5 is true or false and is not compared"),
    ("no_face", 1, "'no_face' at 1 is said of frames without a face"),
    ("not " * 61 + "happy", 241, "is the 61th condition within another"),
    ("(" * 5000, 61, "ask more simply"),
    ("happy" + " for 1 s" * 99, 487, "ask more simply"),
]


@pytest.mark.parametrize(("text", "at", "message"), REFUSED, ids=[t[:30] for t, _, _ in REFUSED])
def test_what_is_not_understood_is_pointed_at(text: str, at: int, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text, EIGHT)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.position == at - 1


def test_many_conditions_side_by_side_are_no_depth() -> None:
    text = " or ".join(["happy for 2 frames and not sad"] * 500)
    assert str(parse(text, EIGHT)) == text


def test_a_query_error_is_one_of_ours_and_can_be_sent_on() -> None:
    with pytest.raises(OptionError) as caught:
        parse("happy and hapy", EIGHT)
    again = copy.copy(caught.value)
    assert isinstance(again, QueryError)
    assert isinstance(again, MienError)
    assert (str(again), again.position, again.query) == (str(caught.value), 10, "happy and hapy")


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("alone", '"alone"'),
        ("it's", '"it\'s"'),
        ('a "b"', '"a ""b"""'),
        ('a "b"', "'a \"b\"'"),
        ("it's", "'it''s'"),
        ("😀", "😀"),
        ("two words", '"two words"'),
        ("SAD", "SAD"),
        ("sad", "sad"),
        ("Time", '"Time"'),
    ],
)
def test_labels_of_ones_own_are_named(label: str, text: str) -> None:
    assert parse(text, ODD) == Label(label)
    assert parse(f"{text} > 0.5", ODD) == Compare(Score(label), ">", Number(0.5))


def test_a_word_of_the_language_is_no_label_without_quotes() -> None:
    assert parse("alone", ODD) == Flag("alone")
    assert str(Label("alone")) == '"alone"'
    labels = LabelSet("mouths", ("smile", "pout"))
    assert parse("Smile or pout", labels) == Or((Label("smile"), Label("pout")))
    with pytest.raises(QueryError, match="the labels are: smile, pout"):
        parse("happy", labels)


WANTED: list[tuple[str, tuple[str, ...]]] = [
    ("happy", ("happy",)),
    ("happy > sad", ("happy",)),
    ("happy < sad", ("sad",)),
    ("happy >= 0.7 and sad < 0.2", ("happy",)),
    ("0.7 <= happy", ("happy",)),
    ("0.7 > happy", ()),
    ("not happy", ()),
    ("not (happy < 0.5)", ("happy",)),
    ("not happy != 0.5", ("happy",)),
    ("sad for 2 s or happy or sad", ("sad", "happy")),
    ("alone and blurred and time > 3", ()),
]


@pytest.mark.parametrize(("text", "labels"), WANTED, ids=[t for t, _ in WANTED])
def test_the_labels_asked_are_those_of_which_more_is_wanted(text: str, labels: tuple[str, ...]) -> None:
    assert asked(parse(text, EIGHT)) == labels


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flag("lonely"), "unknown word 'lonely'"),
        (lambda: Column("size"), "unknown column 'size'"),
        (lambda: Because("no_face"), "unknown reason 'no_face'"),
        (lambda: Compare(Score("happy"), "~", Number(1)), "unknown comparison '~'"),
        (lambda: Compare(Score("happy"), ">", Number(7)), "7 is out of range"),
        (lambda: Compare(Number(1), ">", Number(7)), "is compared with a number"),
        (lambda: Held(happy, 0, "s"), "0 s is no length"),
        (lambda: Held(happy, 2, "years"), "2 years is no length"),  # type: ignore[arg-type]  # it is the test
        (lambda: And((happy,)), "join two conditions or more, not 1"),
        (lambda: Or(()), "join two conditions or more, not 0"),
    ],
)
def test_trees_that_no_query_has_cannot_be_made(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(OptionError, match=re.escape(message)):
        make()


def test_the_parts_of_a_tree_are_all_of_it() -> None:
    node = parse("(happy and not sad) for 2 s or alone", EIGHT)
    assert [str(p) for p in parts(node)][1:] == [
        "(happy and not sad) for 2 s",
        "happy and not sad",
        "happy",
        "not sad",
        "sad",
        "alone",
    ]


# The words


def test_every_column_of_a_query_is_one_of_the_table() -> None:
    names = set(face_columns(EIGHT)) | {"turn", "score"}
    assert set(COLUMNS) <= names
    assert set(ALIASES.values()) <= {*COLUMNS, *FLAGS}
    assert not set(COLUMNS) & (set(FLAGS) | set(REASONS) | set(KEYWORDS))
    assert {r.words for r in Reason} <= RESERVED
    assert Limits().yaw > FRONTAL


# The page


def table_of(title: str) -> dict[str, str]:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \| (.+?) \|$", section, re.MULTILINE)
    return {word: meaning for words, meaning in rows for word in re.findall(r"`(.+?)`", words)}


def test_the_page_lists_every_word() -> None:
    words = table_of("Words")
    assert {*COLUMNS, *FLAGS, *REASONS, *ALIASES} <= set(words)
    assert f"{FRONTAL}" in words["frontal"]


EXAMPLES = re.findall(r"^\| `(.+?)` \|", PAGE.partition("## Examples\n")[2].partition("\n## ")[0], re.MULTILINE)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_page_is_read(text: str) -> None:
    node = parse(text, EIGHT)
    assert parse(str(node), EIGHT) == node


def test_everything_public_is_listed() -> None:
    public = {
        n for n in vars(language) if n[0] != "_" and getattr(vars(language)[n], "__module__", "") == language.__name__
    }
    assert public <= set(language.__all__)

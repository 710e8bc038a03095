"""What the service may be used for and what it refuses, as data; the wording is in ``web/texts``.

The law that is named here is that of the European Union: the AI Act, Regulation (EU) 2024/1689, and the General Data
Protection Regulation (GDPR), (EU) 2016/679. Where ``ground`` is ``"choice"``, the law may leave it open and mien
refuses it all the same. None of this is legal advice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["NOTE_CHARACTERS", "NOTE_WORDS", "PURPOSES", "Purpose", "clean_note", "field_named_by", "note_long_enough"]

NOTE_CHARACTERS = 500
"""A note is at most so long, in characters."""
NOTE_WORDS = 4
"""A purpose that is not on the list is described in at least so many words; two Han characters count as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """One use of the service.

    Attributes
    ----------
    name
        Its id; ``purpose.<name>`` and ``purpose.<name>.reason`` are its texts.
    allowed
        Whether faces are read for it.
    ground
        Why it is refused: by the law of the European Union, or by mien's own choice; None: it is allowed.
    law
        Where the law speaks of it.
    may_name
        Refused uses whose words its note may contain, as a film about a school may name pupils.
    """

    name: str
    allowed: bool
    ground: Literal["law", "choice"] | None = None
    law: tuple[str, ...] = ()
    may_name: frozenset[str] = frozenset()


def _act(*places: str) -> tuple[str, ...]:
    return tuple(f"Regulation (EU) 2024/1689, {p}" for p in places)


def _gdpr(*places: str) -> tuple[str, ...]:
    return tuple(f"Regulation (EU) 2016/679, {p}" for p in places)


_WORK_AND_SCHOOL = frozenset({"work", "school", "driver_rating"})
_ANY = _WORK_AND_SCHOOL | {"lie_detection", "fraud_detection", "police", "decisions", "public", "covert"}

_LIST = (
    Purpose(name="development", allowed=True, law=_gdpr("Art. 6"), may_name=frozenset({"school"})),
    Purpose(name="research", allowed=True, law=_act("Art. 2(6)") + _gdpr("Art. 6", "Art. 9", "Art. 89"), may_name=_ANY),
    Purpose(name="film", allowed=True, law=_act("Art. 50(3)") + _gdpr("Art. 6", "Art. 85"), may_name=_ANY),
    Purpose(name="art", allowed=True, law=_act("Art. 50(3)") + _gdpr("Art. 6"), may_name=_ANY),
    Purpose(
        name="audience", allowed=True, law=_act("Art. 50(3)", "Annex III point 1(c)") + _gdpr("Art. 6(1)(a)", "Art. 7")
    ),
    Purpose(name="personal", allowed=True, law=_act("Art. 2(10)") + _gdpr("Art. 2(2)(c)")),
    Purpose(name="home", allowed=True, law=_act("Art. 2(10)", "Art. 50(3)") + _gdpr("Art. 2(2)(c)")),
    Purpose(name="accessibility", allowed=True, law=_act("Art. 50(3)") + _gdpr("Art. 6"), may_name=_WORK_AND_SCHOOL),
    Purpose(
        name="medical",
        allowed=True,
        law=_act("Art. 5(1)(f)", "Annex III point 1(c)") + _gdpr("Art. 9(2)(a)", "Art. 9(2)(h)"),
        may_name=_WORK_AND_SCHOOL,
    ),
    Purpose(
        name="safety",
        allowed=True,
        law=_act("Art. 5(1)(f)", "Annex III point 1(c)") + _gdpr("Art. 6"),
        may_name=_WORK_AND_SCHOOL,
    ),
    Purpose(
        name="driver",
        allowed=True,
        law=_act("Art. 5(1)(f)", "recital 18") + _gdpr("Art. 6"),
        may_name=frozenset({"work"}),
    ),
    Purpose(name="other", allowed=True, law=_act("Art. 50(3)") + _gdpr("Art. 6")),
    Purpose(name="work", allowed=False, ground="law", law=_act("Art. 5(1)(f)")),
    Purpose(name="school", allowed=False, ground="law", law=_act("Art. 5(1)(f)")),
    Purpose(name="driver_rating", allowed=False, ground="law", law=_act("Art. 5(1)(f)")),
    Purpose(
        name="lie_detection",
        allowed=False,
        ground="choice",
        law=_act("recital 44", "Annex III points 1(c), 6(b), 7(a)"),
    ),
    Purpose(
        name="fraud_detection",
        allowed=False,
        ground="choice",
        law=_act("recital 44", "Annex III point 1(c)") + _gdpr("Art. 5(1)(a)", "Art. 22"),
    ),
    Purpose(name="police", allowed=False, ground="choice", law=_act("Annex III points 1(c), 6, 7")),
    Purpose(name="decisions", allowed=False, ground="choice", law=_act("Annex III points 1(c), 5") + _gdpr("Art. 22")),
    Purpose(
        name="public",
        allowed=False,
        ground="choice",
        law=_act("Art. 50(3)", "Annex III point 1(c)") + _gdpr("Art. 6"),
    ),
    Purpose(name="covert", allowed=False, ground="law", law=_act("Art. 50(3)") + _gdpr("Art. 5(1)(a)", "Art. 13")),
)

PURPOSES: Mapping[str, Purpose] = MappingProxyType({p.name: p for p in _LIST})
"""Every purpose by its id: those that are allowed first, in the order in which a page shows them."""

# Beginnings of words; a dot ends a word, so "exam." is the exam and not the example. In Chinese, parts of the text.
_WORDS: Mapping[str, str] = {
    "driver_rating": "司机考核 驾驶员考核 司机评分 驾驶员评分",
    "work": "employe workforce worker workplace staff. staffs. personnel colleague coworker hire. hiring recruit "
    "interview applicant jobseeker callcent salespeople cashier productivity "
    "работник сотрудник персонал подчинён подчинен собеседован соискател наём. найм. найма. кадров коллег "
    "рабоч кассир 员工 雇员 职工 职员 面试 招聘 求职 应聘 同事 下属 上班 客服人员 收银员",
    "school": "student pupil exam. exams. examination examinee proctor classroom school teacher lecture kindergarten "
    "ученик учениц учащ студент школ экзамен урок. уроки. уроке. уроках. уроков. учител преподават лекци зачёт зачет "
    "детск.сад абитуриент "
    "学生 考试 考生 课堂 学校 教室 监考 上课 幼儿园 中小学 老师",
    "lie_detection": "lie. lies. lied. lying. liar deceit deceiv decepti polygraph truthful microexpression "
    "ложь. лжи. лжёт. лжет. лгут. лгать. лжец враньё вранье. врёт. врут. обман полиграф детектор.лжи микровыражен "
    "правдив 谎 撒谎 说谎 测谎 欺骗 微表情",
    "fraud_detection": "fraud scam. scams. swindl мошен афер 欺诈 诈骗 诈欺 骗贷 反欺诈",
    "police": "police policing suspect. suspects. interrogat prison inmate border. borders. custom.officer immigration "
    "полиц подозрева допрос тюрьм заключённ заключенн пограничн таможн миграцион "
    "警察 公安 嫌疑 审讯 监狱 犯人 边境 边检 海关 移民",
    "decisions": "credit.scor creditworth loan. loans. insur tenant кредит страхов заёмщик заемщик ссуд "
    "贷款 信贷 保险 租客",
    "public": "passer. passers. passerby pedestrian shopper. shoppers. crowd. crowds. billboard прохож пешеход толп "
    "покупател витрин 路人 行人 人群 顾客 广告屏",
    "covert": "secretly. covert. covertly. hidden.camera spy. spying. тайно. скрытн скрыт.камер втайне. незаметно. "
    "шпион 偷拍 暗中 秘密 偷偷",
}


def _pattern(words: str) -> re.Pattern[str]:
    parts = []
    for word in words.split():
        inner = re.escape(word.rstrip(".")).replace(r"\.", r"\w*\s+")
        end = r"\b" if word.endswith(".") else r"\w*"
        parts.append(inner if _is_han(word[0]) else rf"\b{inner}{end}")
    return re.compile("|".join(parts))


def _is_han(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff"


_PATTERNS = {name: _pattern(words) for name, words in _WORDS.items()}


def clean_note(note: str) -> str:
    """Return a note in one line without blanks around it.

    Raises
    ------
    ValueError
        It is too long, or holds control characters or others that cannot be seen; the message says which.
    """
    text = re.sub(r"[ \t\r\n]+", " ", unicodedata.normalize("NFC", note)).strip(" ")
    if len(text) > NOTE_CHARACTERS:
        msg = f"the note has {len(text)} characters, it may have {NOTE_CHARACTERS}"
        raise ValueError(msg)
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
            msg = f"the note holds the character U+{ord(character):04X}, which cannot be seen"
            raise ValueError(msg)
    return re.sub(r"\s+", " ", text).strip(" ")


def note_long_enough(note: str) -> bool:
    """Tell whether a note says enough to describe a purpose: at least `NOTE_WORDS` words.

    >>> note_long_enough("puppets in our theatre"), note_long_enough("木偶剧的脸部动画"), note_long_enough("stuff")
    (True, True, False)
    """
    han = sum(map(_is_han, note))
    words = re.findall(r"[^\W\d_]{2,}", "".join(" " if _is_han(c) else c for c in note))
    return len(words) + han // 2 >= NOTE_WORDS


def field_named_by(note: str, may_name: frozenset[str] = frozenset()) -> tuple[str, str] | None:
    """Return the refused use that a note names and the word that names it; None: none.

    A reminder, not a lock: who wants to hide the use can. Looked for in English, Russian and Chinese at once.

    >>> field_named_by("watch the students in our hall")
    ('school', 'students')
    >>> field_named_by("for example a play") is None
    True
    """
    text = re.sub(r"[-_‐‑’']", "", unicodedata.normalize("NFKC", note).casefold())
    for name, pattern in _PATTERNS.items():
        if name not in may_name and (found := pattern.search(text)):
            return name, found.group()
    return None

"""The table of problems: its codes, causes and texts."""

from __future__ import annotations

import re

import pytest

from ovn_metadata.agent.config.settings import all_options
from ovn_metadata.agent.core.codes import _TABLE, KINDS

_HEAD = re.compile(
    r"OVNMD-[1-6][0-9]{2} (error|warning)( after=\d+)?"
    r"( behind=\d{3}(,\d{3})*)?( of=host)?"
)


@pytest.mark.parametrize("code", KINDS)
def test_a_code_has_a_form_that_never_changes(code):
    assert re.fullmatch(r"OVNMD-[1-6][0-9]{2}", code)


def test_no_line_of_the_table_has_a_word_that_is_ignored():
    heads = [line for line in _TABLE.strip().splitlines() if line[0] != " "]
    assert [head for head in heads if not _HEAD.fullmatch(head)] == []
    assert [*KINDS] == [head.split()[0] for head in heads]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_cause_is_a_kind_too_and_no_kind_hides_itself(kind):
    seen = set()
    causes = set(kind.behind)
    while causes:
        seen |= causes
        causes = {b for code in causes for b in KINDS[code].behind} - seen
    assert kind.code not in seen


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_has_a_title_and_a_remedy(kind):
    assert kind.title
    assert kind.remedy
    assert not kind.remedy.endswith(".")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_remedy_says_how_a_corrected_option_comes_into_force(kind):
    """In brackets is an option that only says when the agent acts."""
    for _, _, option in all_options():
        if re.search(rf"(?<!\()\b{option.name}\b", kind.remedy):
            how = "restart the agent" if option.restart else "reload|SIGHUP"
            assert re.search(how, kind.remedy), option

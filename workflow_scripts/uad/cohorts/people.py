"""Which scans are of one person, judged by their ids.

By default visit endings are cut off: `_ses-2`, `_MR1`, `_V2`, `_visit-2`, `_tp1`, `_scan2`, `_FU1`,
`_BL`, `_m12` and their like (OASIS, ADNI, BIDS).  `cohorts.<name>.person` replaces the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from uad.common.errors import InputError

_VISIT = re.compile(
    r"(?<=[A-Za-z0-9])[_-](?:ses-[A-Za-z0-9+]+|(?:session|visit|timepoint|time|scan|wave|month|year)[_-]?\d{1,3}"
    r"|(?:mri?|v|tp|fu)[_-]?\d{1,2}|mr[_-]d\d{1,5}|d\d{4}|m\d{2,3}|y\d{1,2}|bl|baseline|followup|follow-up|fu)$",
    re.IGNORECASE,
)
_GENERAL = re.compile(
    r"(?:subj(?:ect)?|sub|patient|pat|pt|participant|person|volunteer|control|ctrl|case|healthy|scan|image|img|volume|vol"
    r"|mri|brain|train|val|test|id)(?=[^a-z]|$)",
    re.IGNORECASE,
)
_TELLING_LENGTH, _TELLING_DIGITS = 6, 3


def person_of(subject: str, rule: str | None = None) -> str:
    """The person behind a subject id.

    Args:
        rule: regular expression with one group, the person, searched in the id; default: the id without visit endings.

    Raises:
        InputError: the rule does not match.
    """
    if rule is None:
        while (cut := _VISIT.sub("", subject)) != subject:
            subject = cut
        return subject
    match = re.search(rule, subject)
    if not match or not match[1]:
        raise InputError(
            f"cohorts.<name>.person: '{rule}' does not match the subject id '{subject}'; correct it, or rename"
        )
    return match[1]


def visits(subjects: Iterable[str], rule: str | None = None) -> dict[str, list[str]]:
    """Person -> scans, for people with several scans."""
    people: dict[str, list[str]] = {}
    for subject in sorted(subjects):
        people.setdefault(person_of(subject, rule), []).append(subject)
    return {person: scans for person, scans in people.items() if len(scans) > 1}


def name_across_cohorts(person: str) -> str:
    """A person's id as other data sets may write it: no `sub-`, no punctuation, no capitals."""
    return re.sub(r"[^a-z0-9]", "", person.lower().removeprefix("sub-"))


def tells_who(person: str) -> bool:
    """Whether an id means the same person in another cohort too (`OAS2_0001`, `IXI012`; not `sub-01`, `patient12`).

    Without general words (subject, case, ...) and the zeros that then come first it has six letters and digits or
    more, three of them digits.
    """
    rest = re.sub(r"[^A-Za-z0-9]", "", _GENERAL.sub("", person)).lstrip("0")
    return len(rest) >= _TELLING_LENGTH and sum(c.isdigit() for c in rest) >= _TELLING_DIGITS

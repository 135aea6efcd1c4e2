"""The one line of an error, whatever stands in the names that it tells."""

import pickle

from mtmed.errors import InputError


def test_nothing_in_a_message_breaks_the_line_or_reaches_the_terminal_as_a_command() -> None:
    error = InputError("a\nb", "has 'c\r\nd' and '\x1b[2J\u2028'", "write\te")
    assert str(error) == r"a\x0ab: has 'c\x0d\x0ad' and '\x1b[2J\x2028'; write\x09e"
    assert (error.culprit, error.remedy) == (r"a\x0ab", r"write\x09e")


def test_several_faults_stand_in_a_line_each() -> None:
    error = InputError(
        "2 of 3 cases", "cannot be prepared", "mend them", [InputError("a\n", "b", "c"), InputError("d", "e", "f")]
    )
    assert str(error).splitlines() == [
        "2 of 3 cases: cannot be prepared:",
        r"  a\x0a: b; c",
        "  d: e; f",
        "; mend them",
    ]


def test_a_message_is_the_same_from_another_process() -> None:
    error = InputError("a\n", "b", "c", [InputError("d", "e", "f")])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

"""The rows of Table 1: a method, or one of which something was changed.

The Snakefile names its trainings after them, so nothing here imports torch.
"""

from typing import Final, NamedTuple

from dissect_embed.distillation.methods.registry import CONTROLS, METHODS

TEACHER: Final = "teacher"


class Row(NamedTuple):
    """A method, and what was changed of it; what is None is as published."""

    method: str  # a key of METHODS, or TEACHER
    control: str | None = None  # a key of CONTROLS
    beta: float | None = None
    temperature: float | None = None

    @property
    def changes(self) -> list[str]:
        """Return what was changed, a word each.

        Examples
        --------
        >>> Row("skd", "random", beta=5).changes
        ['random', 'beta=5']
        """
        numbers = [("beta", self.beta), ("temperature", self.temperature)]
        spelt = [f"{key}={spell(value)}" for key, value in numbers if value is not None]
        return [self.control, *spelt] if self.control else spelt

    @property
    def is_control(self) -> bool:
        """Whether this is one of SKD's controls, and nothing else was changed."""
        known = self.control is not None or self.beta == 0
        return METHODS[self.method].guide == "prior" and known and len(self.changes) == 1

    @property
    def target(self) -> str | None:
        """Return the name of the target that it was trained at, of those that are measured.

        Examples
        --------
        >>> Row("skd").target, Row("skd", "random").target, Row("kd").target
        ('skd', 'random', None)
        """
        is_static = self.method != TEACHER and METHODS[self.method].guide == "prior"
        if not is_static or self.beta == 0 or self.temperature is not None:
            return None
        return self.control or "skd"

    @property
    def title(self) -> str:
        """Return the row's name for people; what neither paper has is marked as ours.

        Examples
        --------
        >>> Row("skd", "random").title, Row("at", beta=10).title
        ('SKD, random S', 'AT, β = 10 (ours)')
        """
        if self.method == TEACHER:
            return TEACHER
        parts = [CONTROLS[self.control]] if self.control else []
        parts += [f"β = {spell(self.beta)}"] if self.beta is not None else []
        parts += [f"temperature {spell(self.temperature)}"] if self.temperature is not None else []
        ours = " (ours)" if parts and not self.is_control else ""
        return ", ".join([METHODS[self.method].title, *parts]) + ours

    @property
    def place(self) -> tuple[int, int, str]:
        """Return what rows are sorted by: the teacher, methods, controls, what is ours."""
        methods = [TEACHER, *METHODS]
        if not self.changes:
            place = 0
        elif self.is_control:
            place = 1 + (0 if self.control is None else 1 + list(CONTROLS).index(self.control))
        else:
            place = 2 + len(CONTROLS)
        return methods.index(self.method), place, self.title


def spell(value: float | int) -> str:
    """Return a number as short as it can be read back.

    Examples
    --------
    >>> spell(5.0), spell(0.1234567)
    ('5', '0.1234567')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))

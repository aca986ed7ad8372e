"""What values a setting may have: a kind, a range and exceptions to it, told apart and put into words in one place.

`WHOLE(1)` is a whole number of 1 or more. The same values check a setting of a config (`coma_mm.config.check_values`), an
option of a command line (`type=whole(1)`) and an argument of a class (`whole(1).check('FiniteHook: interval', interval)`).
NaN is in no range.
"""
import argparse
import math
from numbers import Integral, Real
from typing import Any, NamedTuple

from coma_mm.errors import UserError

WORDS = {bool: 'a bool (True or False)', dict: 'a dict', list: 'a list', str: 'a str'}


class Values(NamedTuple):
    """The values of a setting.

    Args:
        kind (type | tuple[type]): int, float (any finite number), bool, str, dict or list; or several of the last four.
        low (float): The smallest number. Defaults to none.
        high (float): The largest number. Defaults to none.
        above (bool): Whether `low` itself is left out. Defaults to False.
        below (bool): Whether `high` itself is left out. Defaults to False.
        steps (bool): Whether a number must be whole though it may be written as 160e3. Defaults to False.
        also (tuple[tuple[Any, str]]): Other values, and what each stands for. Defaults to none.
        several (bool): Whether it may be a list of such values, at any depth, or a dict, which is not looked into. Defaults
            to False.
        length (int): How many there must be in such a list; 0: any number, or a single one. Defaults to 0.
    """
    kind: type | tuple[type, ...]
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    steps: bool = False
    also: tuple[tuple[Any, str], ...] = ()
    several: bool = False
    length: int = 0

    def __contains__(self, value: Any) -> bool:
        """Whether a single value is one of them."""
        if any(type(value) is type(other) and value == other for other, _ in self.also):
            return True
        if self.kind not in (int, float):
            return isinstance(value, self._kinds()) or bool in self._kinds() and type(value) is int and value in (0, 1)
        if isinstance(value, bool) or not isinstance(value, Integral if self.kind is int else Real):
            return False
        if not math.isfinite(value) or self.steps and value != int(value):
            return False
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high)

    def _kinds(self) -> tuple[type, ...]:
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind, )
        return (*kinds, tuple) if list in kinds else kinds

    def __str__(self) -> str:
        """In words: 'a number above 0', 'a whole number, 1 or more, or -1 (never)'."""
        if self.length:
            return f'a list of {self.length}, each {self._replace(length=0)}'
        if self.kind not in (int, float):
            return ' or '.join(word for kind, word in WORDS.items() if kind in self._kinds())
        text = 'a whole number' if self.kind is int or self.steps else 'a number'
        low, high = f'{self.low:.12g}', f'{self.high:.12g}'
        if math.isfinite(self.low) and self.high > 1e9:  # a limit that nobody meets but by a slip
            text += f' above {low}' if self.above else f', {low} or more'
            text += f', up to {high}' if math.isfinite(self.high) else ''
        elif math.isfinite(self.low):
            text += f' above {low}' if self.above else f' from {low}'
            text += (' and' if self.above else ' to') * self.below + f' below {high}' if self.below else (
                f', up to {high}' if self.above else f' to {high}')
        elif math.isfinite(self.high):
            text += f' below {high}' if self.below else f', {high} or less'
        return ', or '.join([text, *(f'{other!r} ({meaning})' for other, meaning in self.also)])

    def wrong(self, value: Any, place: str = '') -> tuple[str, Any] | None:
        """The first value that is not one of them.

        Args:
            value (Any): A value, or a list of several if there may be any.
            place (str): What it is called. Defaults to ''.

        Returns:
            tuple[str, Any] | None: The name of its place (that of an item ends with the item's number) and the value.
        """
        if self.length and (not isinstance(value, (list, tuple)) or len(value) != self.length):
            return place, value
        if self.several and isinstance(value, (list, tuple)):
            single = self._replace(length=0)
            found = (single.wrong(one, f'{place}.{number}') for number, one in enumerate(value))
            return next(filter(None, found), None)
        if self.several and (value is None or isinstance(value, dict)):
            return None
        return None if value in self else (place, value)

    def check(self, what: str, value: Any) -> Any:
        """Check a value.

        Args:
            what (str): What it is, and whose setting: 'CoMA: momentum'.
            value (Any): The value, or a list of several if there may be any.

        Returns:
            Any: The value.

        Raises:
            UserError: If it is not one of them.
        """
        if wrong := self.wrong(value, what):
            raise UserError(f'{wrong[0]}={wrong[1]!r}: expected {self}{hint(wrong[1], self)}')
        return value

    def __call__(self, text: str) -> Any:
        """The value that an option's text stands for; for argparse, as `type`."""
        try:
            value = int(text) if self.kind is int else float(text)
        except ValueError:
            value = None
        if value is None or value not in self:
            raise argparse.ArgumentTypeError(f'{text!r}: expected {self}')
        return value


def hint(value: Any, values: Values) -> str:
    """What to do about a text that spells a number or a switch; '' about any other value."""
    if not isinstance(value, str) or values.kind not in (int, float, bool):
        return ''
    return ' (it is a text here: leave the quotes away)' if spelt(value) is not None else ''


def spelt(text: str) -> bool | float | None:
    """bool | float | None: The switch or the number that a text spells, if it does."""
    word = text.strip('\'" ').lower()
    if word in ('true', 'false'):
        return word == 'true'
    try:
        return float(word)
    except ValueError:
        return None


SWITCH = Values(bool)


def whole(low: float = -math.inf, high: float = math.inf, **more: Any) -> Values:
    """Whole numbers from `low` to `high`."""
    return Values(int, low, high, **more)


def steps(low: float, **more: Any) -> Values:
    """Whole numbers from `low`, which may be written as 160e3: numbers of iterations, of epochs."""
    return Values(float, low, steps=True, **more)


def number(low: float = -math.inf, high: float = math.inf, **more: Any) -> Values:
    """Finite numbers from `low` to `high`."""
    return Values(float, low, high, **more)


def above(low: float, high: float = math.inf, **more: Any) -> Values:
    """Finite numbers above `low`, up to `high`."""
    return Values(float, low, high, above=True, **more)


def each(values: Values, length: int = 0) -> Values:
    """One such value, or a list of them; with `length` a list of so many."""
    return values._replace(several=True, length=length)


SEED = whole(0, 2**32 - 1)
"""What NumPy takes for a seed."""
SHARE = number(0, 1)

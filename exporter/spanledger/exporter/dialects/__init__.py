"""The attribute vocabularies spans are written in, one file each.

To add one: write its file, and its line in `DIALECTS`. Earlier dialects win, field by field, so a span that speaks two
is merged without a rule.
"""

from typing import Final

from .base import Dialect, Draft, Field, Operation
from .genai import GENAI
from .openinference import OPENINFERENCE
from .own import OWN

DIALECTS: Final[tuple[Dialect, ...]] = (
    OWN,
    OPENINFERENCE,
    GENAI,  # always spoken, so always last
)

__all__ = ["DIALECTS", "Dialect", "Draft", "Field", "Operation"]

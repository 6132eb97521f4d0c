"""SQL expressions that databases spell differently; each backend's module says how."""

from typing import Any

from sqlalchemy import ColumnElement, Double
from sqlalchemy.sql.functions import FunctionElement


class percentile(FunctionElement[float]):
    """``percentile(column, fraction)``: the value below which *fraction* (0 to 1) of the non-NULL values lie.

    An aggregate; interpolates linearly between the two nearest values, like SQL's ``percentile_cont``. NULL if there
    are none.
    """

    type = Double()
    inherit_cache = True
    name = "percentile"

    def __init__(self, column: ColumnElement[Any], fraction: float) -> None:
        super().__init__(column, fraction)

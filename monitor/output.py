"""What commands print for machines."""

import json


def as_json(value: object) -> str:
    """Return one line of JSON; what JSON lacks is written as `str` gives it."""
    return json.dumps(value, ensure_ascii=False, default=str)

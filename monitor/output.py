"""Machine-readable output of the commands."""

import json


def as_json(value: object) -> str:
    """Return one line of JSON; types that JSON lacks are written as their `str`."""
    return json.dumps(value, ensure_ascii=False, default=str)

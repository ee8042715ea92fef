"""Copy Presidio's English pattern recognizers: `python -m monitor.training.presidio_patterns`.

Writes `monitor/detect/pii/presidio.json`: regular expressions, scores and context words (MIT, Microsoft), so
that the detector runs them without loading Presidio and spaCy. Tests compare with the installed Presidio.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from monitor.detect.pii import presidio


def installed() -> dict[str, Any]:
    """Return what `presidio.json` holds for the version of Presidio that is installed."""
    from presidio_analyzer import PatternRecognizer
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer
    from presidio_analyzer.predefined_recognizers.generic.iban_patterns import regex_per_country
    from presidio_analyzer.recognizer_registry import RecognizerRegistry

    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    patterns = [r for r in registry.recognizers if isinstance(r, PatternRecognizer)]
    return {
        "source": "github.com/microsoft/presidio, MIT License, Copyright (c) Microsoft Corporation",
        "version": importlib.metadata.version("presidio-analyzer"),
        "recognizers": [
            {
                "kind": recognizer.supported_entities[0],
                "flags": int(recognizer.global_regex_flags),
                "patterns": [[pattern.score, pattern.regex] for pattern in recognizer.patterns],
                "context": recognizer.context,
            }
            for recognizer in patterns
        ],
        "iban": regex_per_country,
        "phone": {
            "regions": list(PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS),
            "score": PhoneRecognizer.SCORE,
            "context": PhoneRecognizer.CONTEXT,
        },
    }


def main() -> None:
    """Write the file anew."""
    path = Path(presidio.__file__).with_name("presidio.json")
    path.write_text(json.dumps(installed(), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Run the command line as `python -m monitor`, or as the script `riskmon`."""

import sys

from monitor.daemon import early_signals


def main() -> None:
    """Run the command line. A daemon handles signals before its command is imported."""
    if sys.argv[1:2] == ["run"]:
        early_signals.hold()
    from monitor import cli

    cli.main()


if __name__ == "__main__":
    main()

"""`python -m monitor` is `riskmon`."""

from monitor.cli import main

if __name__ == "__main__":
    main()

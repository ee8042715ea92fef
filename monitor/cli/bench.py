"""`riskmon bench`: measurements on this machine, interleaved and with their spread."""

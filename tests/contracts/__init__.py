"""What every implementation of a port promises: one suite per port, run over the real one and the fake."""

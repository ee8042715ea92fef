"""The composition root: builds every adapter from a configuration and runs the engine with them."""

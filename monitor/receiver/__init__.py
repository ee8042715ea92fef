"""Receives what applications export: bytes in, durable or refused; a thin module per protocol."""

"""A small HTTP server for machines: bounded, with one deadline per request and a table of routes."""

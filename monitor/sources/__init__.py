"""Sources: adapters that fill `monitor.stream.Source`. One contract suite runs against all of them."""

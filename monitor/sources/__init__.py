"""Sources: adapters that fill `monitor.ports.Source`. One contract suite runs against all of them."""

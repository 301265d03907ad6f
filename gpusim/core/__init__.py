"""Clock, components, probes and random streams: what every layer may use."""

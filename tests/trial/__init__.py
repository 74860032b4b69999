"""An operator's trial: real brokers, real workers, a real Prometheus with the rules as they are, and eight faults."""

"""The fault harness: real Kafka, real worker processes, one fault after the other, and an independent check of it all.

``python -m tests.faults --rounds 200 --seed 1``; each module's head says what it is for.
"""

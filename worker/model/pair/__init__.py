"""Encoder and decoder: derived from the one model that was trained, or given as two; proven against it."""

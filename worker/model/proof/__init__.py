"""The proof that the streaming form says what the trained model says."""

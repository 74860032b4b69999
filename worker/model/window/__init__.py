"""The window form: the trained model as it is, on the last events of each sequence."""

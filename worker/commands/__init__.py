"""The commands. Importing one must be cheap: what it needs is imported when it runs."""

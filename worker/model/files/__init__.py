"""Reading model files: hash first, then what the file claims to be, then Keras."""

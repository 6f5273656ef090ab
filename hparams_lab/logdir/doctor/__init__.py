"""What is wrong with a log directory, what TensorBoard makes of it, and how it is mended.

`tree` reads every event file once into facts, `checks` and `declared` turn facts into ailments, `cures` says what must
change in which file, `repair` does it, into a copy or in place. `deadly` is the quick scan of `board`: only what kills
the server or its HParams tab.
"""

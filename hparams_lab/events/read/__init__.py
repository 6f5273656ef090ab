"""Event files read: layouts of records, the scan of a file, many short files at once, what several files say."""

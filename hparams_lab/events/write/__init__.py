"""Event files written: scalars encoded by columns, the writer of a file, a log written in the background."""

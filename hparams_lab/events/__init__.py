"""Event files, in three rooms: `format`, what their bytes mean; `read`, bytes to points; `write`, points to bytes."""

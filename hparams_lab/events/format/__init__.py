"""The format of event files: records and their checksums, summaries, media, tensors, final values in 64 bits."""

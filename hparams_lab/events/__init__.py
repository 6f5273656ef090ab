"""Event files in layers, each wrapping the one below: crc, record, event_file, summaries, writer, reader, logdir.

Never imports TensorFlow.
"""

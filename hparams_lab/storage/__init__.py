"""What makes a change last: durable writes, locks, the ownership of a log directory, paths, scratch directories."""

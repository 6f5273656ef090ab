"""What is trained: the `Target` protocol, and the forms in which a train function travels to another process."""

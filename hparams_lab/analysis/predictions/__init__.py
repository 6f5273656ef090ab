"""What the best model says of test images, asked in a process of its own, and the picture of it."""

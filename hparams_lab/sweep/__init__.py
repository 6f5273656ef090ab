"""A sweep: its plan and strategies, what is done and to do, the scheduler, its signals, events and progress."""

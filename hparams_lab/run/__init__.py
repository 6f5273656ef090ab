"""One run: `start_run`, `Run`, how it ends, its attempts, what is added after its end, and where it came from."""

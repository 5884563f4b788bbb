"""What is asked of a run while it goes on: by a signal, to stop; by a wish, to draw samples or to deliver."""

"""What people know: decisions and their evidence, notes, tasks, trials, rented machines, files. Nothing is deleted."""

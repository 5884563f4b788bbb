"""Jobs: what can be asked for, the queue, and the process that works on one."""

"""Cards of several hosts by Ray: `ray:HOST:PORT` joins a cluster, `ray` starts one on this machine."""

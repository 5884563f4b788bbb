"""Many plans for many machines, without anybody who hands them out: a manifest, cut into shards that machines claim."""

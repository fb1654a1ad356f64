"""What carries out a save, a read, an update or a batch: generators of requests, for blocking and async calls alike."""

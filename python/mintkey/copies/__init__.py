"""What `mintkey.copying` is made of: the threads of a copy, its state file, and the comparison of two tables."""

"""What the class of a model declares. It is checked and compiled into the schema of the model."""

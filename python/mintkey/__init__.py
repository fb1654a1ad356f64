"""An object mapper for key-value databases whose keys and timestamps mint themselves on save."""

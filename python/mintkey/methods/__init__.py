"""The methods of `Model`, one module for each kind of method, and the object behind `Model.query`."""

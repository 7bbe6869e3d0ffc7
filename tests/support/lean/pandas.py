"""First on the path of workers under test: they have no pandas, like the image. If pandas is there, pyarrow imports it,
which takes a third of a worker's start."""

raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

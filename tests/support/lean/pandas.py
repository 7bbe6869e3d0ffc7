"""First on the path of workers under test: they have no pandas, as in the image. Where pyarrow finds it, it imports
it, which is a third of a worker's start."""

raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

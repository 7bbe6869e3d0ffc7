"""The files below a Parquet prefix: their names, columns and footers, their audit, the comparison with a stream."""

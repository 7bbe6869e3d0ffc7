"""What lies below a Parquet prefix: names, columns, footers; its audit; its comparison with a stream."""

"""A way past any record that ends whoever reads it."""

"""``penstock status``: takes looks at an application, and shows them."""
